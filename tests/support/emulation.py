# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that QEMU emulates: for disks that Incus' own would boot.

It has what a virtual machine of Incus has and a guest looks for: EFI, a disk
on virtio-scsi, the agent's port, and the file system that the agent is on.
The agent in there is a script that tells of itself.
"""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.images import ImageError

#: What the agent writes to the console: at first, and after a boot in which no
#: unit has failed.
STARTED = "the agent is started in /run/incus_agent"
RUNNING = "the system is running"

_PROGRAM = "qemu-system-x86_64"
_FIRMWARE = Path("/usr/share/OVMF")
_CODE, _VARIABLES = "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"
_AGENT = """\
#!/bin/sh
echo "the agent is started in $PWD" >/dev/ttyS0
systemd-notify --ready
echo "the system is $(systemctl is-system-running --wait)" >/dev/ttyS0
sleep infinity
"""
_SMBIOS = "smbios11."
_POLL = 0.5


class Console:
    """What a machine has written to its serial port."""

    def __init__(self, log: Path, machine: "subprocess.Popen[bytes]") -> None:
        self._log = log
        self._machine = machine

    def text(self) -> str:
        """Return everything so far."""
        with contextlib.suppress(FileNotFoundError):
            return self._log.read_text(errors="replace")
        return ""

    def wait(self, *wanted: str, timeout: float) -> None:
        """Wait until all this was written; an AssertionError shows the end."""
        deadline = time.monotonic() + timeout
        while missing := [each for each in wanted if each not in self.text()]:
            assert self._machine.poll() is None, f"QEMU ended: {self.text()}"
            assert time.monotonic() < deadline, (
                f"no {missing} within {timeout:g} s:\n{self.text()[-3000:]}"
            )
            time.sleep(_POLL)


@contextlib.contextmanager
def booted(disk: Path, configuration: Mapping[str, str]) -> Iterator[Console]:
    """Boot a qcow2 disk, which stays as it is, as Incus would launch it.

    Of the configuration only smbios11.* counts.

    :raises ImageError: QEMU or its firmware are not installed
    """
    if not shutil.which(_PROGRAM) or not (_FIRMWARE / _CODE).exists():
        raise ImageError("Install them: apt install qemu-system-x86 ovmf")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        shutil.copy(_FIRMWARE / _VARIABLES, folder)
        share = folder / "share"
        share.mkdir()
        agent = share / "incus-agent"
        agent.write_text(_AGENT)
        agent.chmod(0o755)
        argv = [
            *("nice", "-n", "5", _PROGRAM, *_hardware(disk, folder, share)),
            *(
                word
                for key, value in configuration.items()
                if key.startswith(_SMBIOS)
                for word in (
                    "-smbios",
                    f"type=11,value={key.removeprefix(_SMBIOS)}={value}",
                )
            ),
        ]
        machine = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        try:
            yield Console(folder / "console", machine)
        finally:
            machine.kill()
            machine.wait()


def _hardware(disk: Path, folder: Path, share: Path) -> list[str]:
    """Return QEMU's options; nothing that is written reaches the disk."""
    words = f"""
        -M q35 -accel tcg,thread=single -cpu max,-la57 -m 1024 -no-reboot
        -nodefaults -display none -serial file:{folder}/console
        -drive if=pflash,format=raw,readonly=on,file={_FIRMWARE}/{_CODE}
        -drive if=pflash,format=raw,file={folder}/{_VARIABLES}
        -drive if=none,id=d,format=qcow2,snapshot=on,cache=unsafe,file={disk}
        -device virtio-scsi-pci -device scsi-hd,drive=d,bootindex=1
        -device virtio-serial-pci -chardev null,id=c
        -device virtserialport,chardev=c,name=org.linuxcontainers.incus
        -fsdev local,id=f,path={share},security_model=none,readonly=on
        -device virtio-9p-pci,fsdev=f,mount_tag=config
        -netdev user,id=n,restrict=on -device virtio-net-pci,netdev=n,romfile=
        -device virtio-rng-pci
    """
    return words.split()
