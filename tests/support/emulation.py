# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that QEMU emulates: for disks that Incus' own would boot.

It has what a virtual machine of Incus has and a guest looks for: EFI with
Secure Boot, a disk on virtio-scsi, a network card of the name enp5s0, the
agent's port, and the file system that the agent is on, or its CD-ROM.  The
agent in there is a script that tells of itself and of the system.
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
#: What it writes last: the owners of the network card, as a list of words.
CARD = "the card belongs to:"

_PROGRAM = "qemu-system-x86_64"
_FIRMWARE = Path("/usr/share/OVMF")
#: By whether Secure Boot is on; Microsoft's keys are in the second.
_CODE = {False: "OVMF_CODE_4M.fd", True: "OVMF_CODE_4M.ms.fd"}
_VARIABLES = {False: "OVMF_VARS_4M.fd", True: "OVMF_VARS_4M.ms.fd"}
_AGENT = """\
#!/bin/sh
# A getty hangs the console up when it starts.
trap "" HUP
say() { echo "$@" >/dev/ttyS0; }
up() { cut -d . -f 1 /proc/uptime; }
say "the agent is started in $PWD"
say "agent after: $(up)"
systemd-notify --ready
say "the system is $(systemctl is-system-running --wait)"
say "ready after: $(up)"
say "units that failed: $(systemctl list-units --failed --plain --no-legend |
    cut -d " " -f 1 | xargs)"
variable=/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
say "secure boot: $(od -An -t u1 -j 4 $variable)"
card=$(basename /sys/class/net/en*)
# Not every disk has ip.
addresses() { hostname -I | tr " " "\n" | grep -c "[.]"; }
while [ "$(addresses)" = 0 ] && [ "${n:=0}" -lt 120 ]; do
    sleep 1
    n=$((n + 1))
done
# Another program would be slower.
sleep 5
index=$(cat /sys/class/net/$card/ifindex)
has() { grep --quiet --no-messages "$@"; }
owners=
if has "^ADMIN_STATE=conf" "/run/systemd/netif/links/$index"; then
    owners="$owners networkd"
fi
if has "^connection-uuid=" "/run/NetworkManager/devices/$index"; then
    owners="$owners NetworkManager"
fi
if has "^$card" /run/network/ifstate; then owners="$owners ifupdown"; fi
say "addresses: $(addresses)"
say "asked as: $(sed -n "s/^CLIENTID=//p" /run/systemd/netif/leases/$index)"
if [ -x /usr/bin/cloud-init ]; then say "cloud-init: $(cloud-init status)"; fi
say "the card belongs to:$owners."
sleep infinity
"""
_SMBIOS = "smbios11."
#: More options of a steady machine, and of its network card.
_STEADY = [
    *("-icount", "shift=1"),
    *(
        word
        for n in range(1, 6)
        for word in ("-device", f"pcie-root-port,id=port{n},chassis={n}")
    ),
]
_STEADY_CARD = ",bus=port5"
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
def booted(
    disk: Path,
    configuration: Mapping[str, str],
    *,
    cdrom: bool = False,
    steady: bool = False,
) -> Iterator[Console]:
    """Boot a qcow2 disk, which stays as it is, as Incus would launch it.

    Of the configuration only smbios11.* and security.secureboot count.
    ``cdrom``: the agent is on a CD-ROM, too.  ``steady``: its clock counts
    instructions, 500 million of them a second, so that its time limits do not
    depend on what else this machine has to do; and its network card is called
    enp5s0, as in Incus.

    :raises ImageError: QEMU, its firmware, or what makes a CD-ROM is missing
    """
    secure = configuration.get("security.secureboot") != "false"
    if (
        not all(map(shutil.which, [_PROGRAM, *(["genisoimage"] * cdrom)]))
        or not (_FIRMWARE / _CODE[secure]).exists()
    ):
        raise ImageError(
            "Install them: apt install qemu-system-x86 ovmf genisoimage"
        )
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        shutil.copy(_FIRMWARE / _VARIABLES[secure], folder / "variables")
        share = folder / "share"
        share.mkdir()
        agent = share / "incus-agent"
        agent.write_text(_AGENT)
        agent.chmod(0o755)
        argv = [
            *("nice", "-n", "5", _PROGRAM),
            *(_STEADY if steady else ()),
            *_hardware(
                disk,
                folder,
                share,
                code=_CODE[secure],
                card=_STEADY_CARD if steady else "",
            ),
            *(_cdrom(folder, share) if cdrom else ()),
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


def _hardware(
    disk: Path, folder: Path, share: Path, *, code: str, card: str
) -> list[str]:
    """Return QEMU's options; nothing that is written reaches the disk."""
    words = f"""
        -M q35 -accel tcg,thread=single
        -cpu max,-la57 -m 1024 -no-reboot -nodefaults -display none
        -serial file:{folder}/console
        -drive if=pflash,format=raw,readonly=on,file={_FIRMWARE}/{code}
        -drive if=pflash,format=raw,file={folder}/variables
        -drive if=none,id=d,format=qcow2,snapshot=on,cache=unsafe,file={disk}
        -device virtio-scsi-pci -device scsi-hd,drive=d,bootindex=1
        -device virtio-serial-pci -chardev null,id=c
        -device virtserialport,chardev=c,name=org.linuxcontainers.incus
        -fsdev local,id=f,path={share},security_model=none,readonly=on
        -device virtio-9p-pci,fsdev=f,mount_tag=config
        -netdev user,id=n,restrict=on
        -device virtio-net-pci,netdev=n,romfile={card}
        -device virtio-rng-pci
    """
    return words.split()


def _cdrom(folder: Path, share: Path) -> list[str]:
    """Return QEMU's options for a CD-ROM as Incus' device agent:config has."""
    file = folder / "agent.iso"
    subprocess.run(
        ["genisoimage", "-quiet", "-joliet", "-rock", "-o", file, share],
        check=True,
    )
    words = f"""
        -drive if=none,id=a,format=raw,readonly=on,file={file}
        -device scsi-cd,drive=a,device_id=incus_agent
    """
    return words.split()
