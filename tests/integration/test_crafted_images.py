# SPDX-License-Identifier: GPL-3.0-or-later
"""Tarballs whose members pass for what Incus trusts in an image.

In a unified image, and in an instance's volume, Incus finds rootfs,
templates, exec-output, metadata.yaml and backup.yaml side by side.  Where
they were symbolic links of an image, it read and wrote files of the host
(CVE-2026-48749, -48750, -48752).  An import puts all that a tarball holds
below rootfs, and no member becomes one of these.
"""

import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from incus_testbed import errors
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
from tests.support import tiny_system

_MARK = "the host's own"
_ALIAS = "test/crafted"
_TRUSTED = (
    "rootfs",
    "templates",
    "exec-output",
    "metadata.yaml",
    "backup.yaml",
)

Member = tuple[tarfile.TarInfo, bytes]


def _link(name: str, target: object) -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, str(target)
    return member, b""


def _file(name: str, content: str) -> Member:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content.encode()


class Victim:
    """A folder of the host that everyone may write to, and its files."""

    def __init__(self, path: Path) -> None:
        """Fill it."""
        self.path = path
        path.chmod(0o777)
        for name in ("file", "hostname", "hosts", "hostname.tpl"):
            (path / name).write_text(f"{_MARK}\n")
            (path / name).chmod(0o666)
        self._before = self._content()

    def _content(self) -> dict[str, str]:
        return {
            str(file): file.read_text()
            for file in sorted(self.path.rglob("*"))
            if file.is_file()
        }

    def check(self) -> None:
        """Have nothing changed, removed or added."""
        assert self._content() == self._before


@pytest.fixture
def victim() -> Iterator[Victim]:
    """Give a folder that the users of a container can get to."""
    with TemporaryDirectory(dir="/var/tmp") as path:
        found = Victim(Path(path))
        yield found
        found.check()


@pytest.fixture
def import_(incus: Incus) -> Iterator[Callable[[bytes | Path], str]]:
    """Return what imports a tarball for the time of a test."""
    store = Store(incus)

    def add(source: bytes | Path) -> str:
        content = (
            source.open("rb")
            if isinstance(source, Path)
            else io.BytesIO(source)
        )
        with content:
            store.add(content, _ALIAS)
        return _ALIAS

    yield add
    store.remove(_ALIAS)


def _tiny(members: Sequence[Member]) -> bytes:
    """Return an archive that is a system at a glance, with more members."""
    packed = io.BytesIO(tiny_system.tarball())
    with tarfile.open(fileobj=packed, mode="a") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _bookworm(tarball: Path, target: Path, members: Sequence[Member]) -> Path:
    """Write a system that boots, with more members."""
    with target.open("wb") as plain:
        subprocess.run(["zstd", "-dc", tarball], stdout=plain, check=True)
    with tarfile.open(target, "a") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return target


def _incus(*words: str) -> str:
    return Incus().run(*words, timeout=300).decode(errors="replace")


def _query(path: str, *options: str) -> str:
    project = Incus().current_project()
    return subprocess.run(
        ["incus", "query", *options, f"/1.0/{path}?project={project}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout


def _links(victim: Victim) -> list[Member]:
    return [
        _link("rootfs", victim.path),
        _link("./templates", victim.path),
        _link("exec-output", victim.path),
        _link("metadata.yaml", victim.path / "file"),
        _link("./backup.yaml", victim.path / "file"),
    ]


def _files(victim: Victim) -> list[Member]:
    metadata = {
        "architecture": "x86_64",
        "creation_date": 0,
        "templates": {"/etc/crafted": {"when": ["start"], "template": "x.tpl"}},
    }
    return [
        _file("metadata.yaml", json.dumps(metadata)),
        _link("templates/x.tpl", victim.path / "file"),
        _file("templates/hostname.tpl", "crafted"),
        _file("rootfs/etc/hostname", "crafted"),
        _link("rootfs/etc/crafted", victim.path / "file"),
        _file("backup.yaml", "container: {}"),
        _file("exec-output/file", "crafted"),
    ]


@pytest.mark.parametrize("make", [_links, _files])
def test_members_that_are_named_like_what_incus_trusts(
    import_: Callable[[bytes | Path], str],
    victim: Victim,
    bookworm_tarball: Path,
    tmp_path: Path,
    make: Callable[[Victim], list[Member]],
) -> None:
    tarball = tmp_path / "system.tar"
    alias = import_(_bookworm(bookworm_tarball, tarball, make(victim)))
    tarball.unlink()
    with Instance.launch(Incus(), alias, purpose="test") as instance:
        instance.wait_ready()
        victim.check()
        _records_output(instance.name)
        _has_our_metadata(instance.name)
        _keeps_files_in_the_guest(instance, victim)
        victim.check()
        copy = f"{instance.name}-copy"
        try:
            # Templates are rendered once more.
            _incus("copy", instance.name, copy)
            _incus("start", copy)
            hostname = _incus("file", "pull", f"{copy}/etc/hostname", "-")
            assert hostname.strip() == copy
        finally:
            Incus().delete(copy)
        victim.check()
        _exports_the_guest_alone(instance.name, tmp_path)


def _records_output(name: str) -> None:
    """Have Incus write a command's output to a file of the instance."""
    request = {"command": ["echo", "recorded"], "record-output": True}
    done = json.loads(
        _query(
            f"instances/{name}/exec",
            *("--request=POST", "--wait", f"--data={json.dumps(request)}"),
        )
    )
    path = done["metadata"]["output"]["1"].removeprefix("/1.0/")
    assert _query(path) == "recorded\n"


def _has_our_metadata(name: str) -> None:
    listed = _incus("config", "template", "list", name, "--format=csv")
    assert sorted(listed.split()) == ["hostname.tpl", "hosts.tpl"]
    shown = _incus("config", "template", "show", name, "hostname.tpl")
    assert "name }}" in shown
    metadata = _incus("config", "metadata", "show", name)
    assert "/etc/crafted" not in metadata
    assert _MARK not in metadata


def _keeps_files_in_the_guest(instance: Instance, victim: Victim) -> None:
    """Read and write through the links, from outside and inside."""
    name = instance.name
    for trusted in _TRUSTED:
        for path in (trusted, f"{trusted}/file"):
            try:
                said = _incus("file", "pull", f"{name}/{path}", "-")
            except errors.TestbedError:
                continue
            assert _MARK not in said
    with TemporaryDirectory() as scratch:
        source = Path(scratch, "new")
        source.write_text("from outside")
        for trusted in _TRUSTED:
            try:
                _incus("file", "push", str(source), f"{name}/{trusted}/new")
            except errors.TestbedError:
                continue
    inside = instance.guest.run(
        ["grep", "-rs", _MARK, *(f"/{name}" for name in _TRUSTED)],
        capture_output=True,
    )
    assert inside.stdout == b""
    assert instance.guest.run(["test", "-e", victim.path]).returncode == 1


def _exports_the_guest_alone(name: str, folder: Path) -> None:
    """Have Incus read the whole volume."""
    backup = folder / "backup.tar"
    _incus("export", name, str(backup), "--compression=none")
    with tarfile.open(backup) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            while content and (chunk := content.read(1 << 20)):
                assert _MARK.encode() not in chunk
    backup.unlink()


@pytest.mark.parametrize(
    "members",
    [
        lambda path: [_link("../rootfs", path)],
        lambda path: [_link("./../templates", path)],
        lambda path: [_link("../../exec-output", path)],
        lambda path: [_link("../metadata.yaml", path / "file")],
        lambda path: [_link("rootfs", path), _file("rootfs/file", "crafted")],
        lambda path: [_link("etc/cron.d", path), _file("etc/cron.d/x", "")],
    ],
)
def test_members_outside_the_root_are_refused(
    incus: Incus, victim: Victim, members: Callable[[Path], list[Member]]
) -> None:
    with pytest.raises(errors.BadImage, match="outside its root"):
        Store(incus).add(
            io.BytesIO(_tiny(members(victim.path))), "test/refused"
        )


@pytest.mark.parametrize("name", [".", "./", "/", "././."])
def test_the_root_itself_is_no_link(
    incus: Incus, victim: Victim, name: str
) -> None:
    with pytest.raises(errors.BadImage, match="replaces its root"):
        Store(incus).add(
            io.BytesIO(_tiny([_link(name, victim.path)])), "test/refused"
        )


@pytest.mark.parametrize(
    "members",
    [
        lambda path: [_link("etc/hostname", path / "file")],
        lambda path: [_link("etc/hosts", path / "new")],
        lambda path: [_link("etc/hosts", f"{'../' * 20}{path}/file")],
        lambda path: [_link("./etc", path)],
    ],
)
def test_templates_stay_in_the_guest(
    import_: Callable[[bytes | Path], str],
    victim: Victim,
    members: Callable[[Path], list[Member]],
) -> None:
    """Incus renders our templates to paths that the image decides on.

    What it renders to may be absent in the guest: then it refuses to start.
    The system is none that starts, but that comes later.
    """
    try:
        alias = import_(_tiny(members(victim.path)))
    except errors.BadImage:
        return  # what is appended would be written through the link
    with pytest.raises(errors.TestbedError):
        Instance.launch(Incus(), alias, purpose="test").delete()
    victim.check()
