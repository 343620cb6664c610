# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a disk that boots by EFI of a tarball, and of the files of its loader.

Nothing is mounted, and no part needs root: mke2fs reads the tarball, and mtools
write into a FAT file system.  All of them write into one file without a name,
which the kernel removes in every case.
"""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import PurePosixPath
from typing import IO

from incus_testbed import errors
from incus_testbed.bootstrap import vm
from incus_testbed.bootstrap.mmdebstrap import Bootstrap
from incus_testbed.bootstrap.vm import VM
from incus_testbed.image.disk.writer import Writer
from incus_testbed.image.stream import scratch
from incus_testbed.image.stream.source import CHUNK
from incus_testbed.process import packages, programs, sandbox

_MIB = 1 << 20
#: That of a virtual machine's disk in Incus, if nobody says how large it is to
#: be.  Zeros take no room, and the system enlarges itself to a larger disk.
_SIZE = 10240 * _MIB
#: Where the partitions are.  The last MiB has the copy of the table.
_ESP_START, _ESP_SIZE = 1 * _MIB, 64 * _MIB
_ROOT_START = _ESP_START + _ESP_SIZE
_ROOT_SIZE = _SIZE - _ROOT_START - _MIB
_SECTOR = 512

_SBIN = "/usr/sbin"
_SFDISK, _MKE2FS, _MKFS_VFAT = (
    f"{_SBIN}/{name}" for name in ("sfdisk", "mke2fs", "mkfs.vfat")
)
_MMD, _MCOPY = "mmd", "mcopy"

#: GRUB of Debian 12 can't read the first of these, its fsck not the second.
_WITHOUT = "^metadata_csum_seed,^orphan_file"

#: Seconds for mmdebstrap and its tarball; for a program that writes little.
_TARBALL_LIMIT = 3600.0
_LIMIT = 120.0
_POLL = 0.1

#: What mke2fs says if the file system that it makes is full.
_FULL = "Could not allocate"

#: An archive without members.
_EMPTY_TAR = bytes(10240)


def check() -> None:
    """Check that the programs are installed that make a disk.

    :raises errors.MissingProgram: names the packages to install
    """
    needed = (_SFDISK, _MKE2FS, _MKFS_VFAT, _MMD, _MCOPY)
    if absent := [name for name in needed if not shutil.which(name)]:
        wanted = dict.fromkeys(map(packages.of, absent))
        raise errors.MissingProgram(
            f"A disk can't be made without {', '.join(absent)}",
            resolution=f"Install them: apt install {' '.join(wanted)}",
        )
    with scratch.file() as trial:
        trial.truncate(_MIB)
        done = programs.run(
            [*_mke2fs(), scratch.path(trial)],
            timeout=_LIMIT,
            stdin=_EMPTY_TAR,
        )
    if done.status:
        raise errors.MissingProgram(
            "mke2fs can't make a file system of a tarball",
            details=done.stderr,
            resolution="It needs version 1.47.1, and libarchive: apt install"
            " e2fsprogs libarchive-tools. On Debian 12: apt install -t"
            " bookworm-backports e2fsprogs libarchive-tools",
        )


@contextlib.contextmanager
def made(
    kind: VM,
    running: Callable[..., AbstractContextManager[Bootstrap]],
    say: Callable[[str], None],
) -> Iterator[IO[bytes]]:
    """Make a disk, and yield it as a qcow2 file.

    ``running`` runs mmdebstrap, which gets more options.  ``say`` is called
    several times a second with the present step; an exception that it raises
    ends the work.

    :raises errors.CommandFailed: mmdebstrap or another program failed
    :raises errors.NoSpace: the system is larger than the disk, or there is no
        room for it here
    :raises errors.TimedOut: it takes too long
    """
    with contextlib.ExitStack() as stack:
        disk, result, text = (
            stack.enter_context(scratch.file()) for _ in range(3)
        )
        loaders = {
            name: (source, stack.enter_context(scratch.file()))
            for name, source in kind.loaders.items()
        }
        downloads = (
            f"--customize-hook=download {source} {scratch.path(file)}"
            for source, file in loaders.values()
        )
        disk.truncate(_SIZE)
        _partition(disk)
        with running(*downloads) as bootstrap:
            _write_root(disk, bootstrap, say)
        say("making the EFI system partition")
        name, configuration = kind.configuration
        text.write(configuration.encode())
        text.flush()
        _write_esp(
            disk,
            {name: text, **{name: file for name, (_, file) in loaders.items()}},
        )
        say("packing the disk")
        _pack(disk, result)
        disk.truncate(0)
        yield result


def _partition(disk: IO[bytes]) -> None:
    parts = (
        (_ESP_START, _ESP_SIZE, "uefi"),
        (_ROOT_START, _ROOT_SIZE, "linux"),
    )
    lines = (
        f"start={start // _SECTOR}, size={size // _SECTOR}, type={kind}\n"
        for start, size, kind in parts
    )
    _run(
        [_SFDISK, "--quiet", scratch.path(disk)],
        "".join(["label: gpt\n", *lines]),
    )


def _write_root(
    disk: IO[bytes], bootstrap: Bootstrap, say: Callable[[str], None]
) -> None:
    """Make a file system of mmdebstrap's tarball while it comes."""
    # The tarball may come of scripts that this user does not trust.  The
    # sandbox ends with this process, which mmdebstrap then notices.
    argv = sandbox.program(
        *_mke2fs("-E", f"offset={_ROOT_START}"),
        *(f"/proc/self/fd/{disk.fileno()}", f"{_ROOT_SIZE // 1024}k"),
    )
    with scratch.file() as said:
        with programs.stream(
            argv,
            stdin=bootstrap.tarball,
            stderr=said,
            pass_fds=(disk.fileno(),),
        ) as child:
            deadline = time.monotonic() + _TARBALL_LIMIT
            while child.poll() is None:
                say(bootstrap.step())
                if time.monotonic() > deadline:
                    raise errors.TimedOut(
                        f"The system is not made after {_TARBALL_LIMIT:g} s"
                    )
                time.sleep(_POLL)
        said.seek(0)
        problem = said.read().decode(errors="replace")
    # Half a tarball makes mke2fs fail, too.
    if not child.returncode or bootstrap.is_sent():
        bootstrap.finish()
    if child.returncode:
        raise _failure(problem)


def _failure(said: str) -> errors.TestbedError:
    """Return the error for what mke2fs has said."""
    if scratch.tells_full(said):
        return scratch.full(said)
    if _FULL in said:
        return errors.NoSpace(
            f"The system does not fit a disk of {_SIZE >> 30} GiB",
            resolution="Leave packages out of --include.",
        )
    return errors.CommandFailed("mke2fs failed", details=said)


def _write_esp(disk: IO[bytes], files: Mapping[str, IO[bytes]]) -> None:
    """Make an EFI system partition, with these files at their paths."""
    path = scratch.path(disk)
    _run(
        [
            *(_MKFS_VFAT, "-F", "32", "-n", "ESP"),
            # Otherwise it chooses clusters for a partition of the disk's size.
            *("-s", "1", f"--offset={_ESP_START // _SECTOR}"),
            *(path, str(_ESP_SIZE // 1024)),
        ]
    )
    partition = f"{path}@@{_ESP_START}"
    folders = {
        str(folder): None
        for name in files
        for folder in reversed(PurePosixPath(name).parents[:-1])
    }
    _run([_MMD, "-i", partition, *(f"::/{folder}" for folder in folders)])
    for name, file in files.items():
        _run([_MCOPY, "-i", partition, scratch.path(file), f"::/{name}"])


def _pack(disk: IO[bytes], result: IO[bytes]) -> None:
    """Write the disk as qcow2 into an empty file, which takes less to read."""
    writer = Writer(result)
    for position, data in _data(disk.fileno()):
        writer.skip_to(position)
        writer.write(data)
    writer.skip_to(_SIZE)
    writer.finish()
    result.seek(0)


def _data(file: int) -> Iterator[tuple[int, bytes]]:
    """Yield what is in a file, and where, without its holes."""
    position = 0
    while True:
        try:
            position = os.lseek(file, position, os.SEEK_DATA)
        except OSError as error:  # no more data
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(file, position, os.SEEK_HOLE)
        while position < end:
            data = os.pread(file, min(CHUNK, end - position), position)
            yield position, data
            position += len(data)


def _mke2fs(*options: str) -> list[str]:
    """Return the beginning of a command that reads a tarball from stdin."""
    return [
        *(_MKE2FS, "-q", "-F", "-t", "ext4", "-L", vm.ROOT),
        *("-O", _WITHOUT, "-d", "-", *options),
    ]


def _run(argv: list[str], stdin: str = "") -> None:
    done = programs.run(argv, timeout=_LIMIT, stdin=stdin.encode())
    if done.status and scratch.tells_full(done.stderr):
        raise scratch.full(done.stderr)
    if done.status:
        raise errors.CommandFailed(
            f"'{programs.shown(argv)}' failed", details=done.stderr
        )
