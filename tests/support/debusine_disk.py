# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk as Debusine's task SimpleSystemImageBuild makes it.

The task's program and what it copies into the system are Debusine's own; the
packages come from this machine's mirror.  Such a disk holds a fixed machine id:
the program makes the file system before mmdebstrap empties the file.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import debusine.tasks

from tests.support import disks, images
from tests.support.disk_shapes import DiskShape

_OVERLAYS = Path(debusine.tasks.__file__).with_name("data") / "overlays"
_PACKAGE = "debusine-worker"
_FOLDER = f"usr/share/{_PACKAGE}"
#: The packages that the task's user has to ask for: the task itself says
#: systemd-boot, which in Debian 13 has no longer what debefivm-create needs.
_PACKAGES = "dpkg-dev,linux-image-generic,systemd-boot-efi,zstd"


@dataclass(frozen=True, kw_only=True)
class DebusineDisk(DiskShape):
    """The disk that the task makes of a suite."""

    def write(self, disk: Path) -> None:
        """Write it to a file, as root.

        :raises ImageError: apt has no Debian source, or a program failed
        """
        source = images.debian()
        with tempfile.TemporaryDirectory(dir=disk.parent) as name:
            scratch = Path(name)
            sources = scratch / "host.sources"
            sources.write_text(images.stanza(source, self.suite))
            disks.run(
                *(_program(scratch), f"--release={self.suite}"),
                *("--architecture=amd64", "--rootsize=3G", disk, "--"),
                *images.apt_options(source),
                *(hook for file in _files() for hook in _copied(file)),
                *("--variant=apt", f"--include={_PACKAGES}", sources),
            )


def _program(scratch: Path) -> Path:
    """Return a debefivm-create that finds its other half."""
    disks.run(
        *("sh", "-euc", 'cd "$1"; apt-get -qq download "$2"'),
        *("download", scratch, _PACKAGE),
    )
    (package,) = scratch.glob("*.deb")
    disks.run("dpkg-deb", "--extract", package, scratch / "unpacked")
    program = scratch / "unpacked" / _FOLDER / "debefivm-create"
    program.write_text(
        program.read_text().replace(
            f"/{_FOLDER}", str(scratch / "unpacked" / _FOLDER)
        )
    )
    return program


def _files() -> list[Path]:
    return sorted(path for path in _OVERLAYS.rglob("*") if path.is_file())


def _copied(file: Path) -> list[str]:
    """Return what has mmdebstrap copy a file of an overlay."""
    path = Path("/", *file.relative_to(_OVERLAYS).parts[1:])
    mode = "644" if file.suffix in {".service", ".rules"} else "755"
    return [
        f"--customize-hook=upload {file} {path}",
        f'--customize-hook=chmod {mode} "$1{path}"',
    ]
