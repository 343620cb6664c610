# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the boot loader in a disk's EFI system partition."""

import struct

from incus_testbed import errors
from incus_testbed.image.disk.fat import Fat, File
from incus_testbed.system.disk import BootLoader

# The file name of a disk's boot loader on each architecture (UEFI
# specification 2.10, 3.5.1.1), and Debian's name of that architecture.  A name
# longer than 8 letters is stored together with a short name, which is here.
_LOADERS = {
    "BOOTX64.EFI": "amd64",
    "BOOTAA64.EFI": "arm64",
    "BOOTIA32.EFI": "i386",
    "BOOTARM.EFI": "armhf",
    "BOOTRI~1.EFI": "riscv64",
    "BOOTLO~1.EFI": "loong64",
}

#: This name is in the certificate that signs Debian's shim.  Firmware trusts
#: no other certificate that signs for Debian.
_SIGNER = b"Microsoft Corporation UEFI CA"
_MOST_SIGNATURE = 1 << 16


def boot_loader(esp: Fat) -> BootLoader:
    """Return the boot loader that firmware starts by default.

    Firmware does so with a disk for which it has no boot entry.

    :raises errors.BadImage: the partition has no boot loader
    """
    files = esp.names("EFI", "BOOT")
    found = {_LOADERS[name]: files[name] for name in _LOADERS if name in files}
    if not found:
        raise errors.BadImage(
            "The disk holds no boot loader",
            details="Its EFI system partition has none under /EFI/BOOT.",
            resolution="Install one there: bootctl --no-variables install, or"
            " grub-install --removable --no-nvram.",
        )
    return BootLoader(
        architectures=frozenset(found),
        signed=all(_is_signed(esp, file) for file in found.values()),
    )


def _is_signed(esp: Fat, loader: File) -> bool:
    """Tell whether a PE file is signed (Microsoft's "PE Format")."""
    start = esp.read(loader, 60, 4)
    pe = int.from_bytes(start, "little")
    head = esp.read(loader, pe, 256)
    magic = head[24:26]
    # Offset of the fifth data directory in the optional header.
    place = {b"\x0b\x01": 24 + 96 + 32, b"\x0b\x02": 24 + 112 + 32}.get(magic)
    if not head.startswith(b"PE\0\0") or place is None or len(head) < place + 8:
        return False
    offset, size = struct.unpack_from("<II", head, place)
    return _SIGNER in esp.read(loader, offset, min(size, _MOST_SIGNATURE))
