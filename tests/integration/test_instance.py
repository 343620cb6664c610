# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances on a real Incus: made, used, removed whatever happens."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.cleanup import garbage
from incus_testbed.incus import sftp, short_file
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
from tests.support.indirect import by_command

from .conftest import Cli


@pytest.fixture(scope="module")
def instance(incus: Incus, bookworm: str) -> Iterator[Instance]:
    with Instance.launch(incus, bookworm, purpose="test") as launched:
        launched.wait_ready()
        yield launched


def _names(incus: Incus) -> set[str]:
    return {record.name for record in incus.instances()}


def _output(instance: Instance, *command: str) -> str:
    done = instance.guest.exec(
        command, stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    return str(done.stdout.decode())


def test_launch_gives_a_guest_its_own_name(instance: Instance) -> None:
    assert re.fullmatch(r"testbed-[a-z0-9]{11}", instance.name)
    assert _output(instance, "cat", "/etc/hostname").strip() == instance.name
    assert instance.name in _output(instance, "cat", "/etc/hosts")


def test_a_guest_can_not_ask_about_its_host(instance: Instance) -> None:
    assert _output(instance, "sh", "-c", "ls /dev/incus* || :") == ""


_ASK = """
use Socket;
socket(my $s, PF_UNIX, SOCK_STREAM, 0);
connect($s, sockaddr_un("/dev/incus/sock")) or die "$!";
my $path = "/1.0/config/user.incus-testbed.owner";
syswrite $s, "GET $path HTTP/1.0\r\nHost: x\r\n\r\n";
print while <$s>;
"""


def test_a_guest_that_may_ask_learns_nothing_of_its_host(
    incus: Incus, bookworm: str
) -> None:
    with Instance.launch(
        incus,
        bookworm,
        purpose="test",
        arguments=["--config=security.guestapi=true"],
    ) as launched:
        launched.wait_ready()
        said = _output(launched, "perl", "-e", _ASK)
    assert "200 OK" in said
    for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        secret = Path(path).read_text().strip()
        assert secret not in said


def test_launch_of_a_taken_name_is_refused(
    incus: Incus, bookworm: str, instance: Instance
) -> None:
    with pytest.raises(errors.AlreadyExists):
        Instance.launch(incus, bookworm, purpose="test", name=instance.name)
    assert instance.name in _names(incus)


def test_launch_of_no_image(incus: Incus) -> None:
    before = _names(incus)
    with pytest.raises(errors.NotFound, match="incus-testbed images"):
        Instance.launch(incus, "artifact/absent", purpose="test")
    assert _names(incus) == before


def test_boot_is_shown_to_who_asks(cli: Cli, bookworm: str) -> None:
    shown = cli.run("-v", "run", bookworm, "--", "echo", "done")
    assert shown.stdout == "done\n"
    units = re.findall(
        r"(?m)^incus-testbed: testbed-\w+: \[  OK  \] ", shown.stderr
    )
    assert len(units) > 5
    assert "\x1b" not in shown.stderr
    assert cli.run("run", bookworm, "--", "true").stderr == ""


def test_launch_that_fails_half_way_leaves_nothing(
    incus: Incus, bookworm: str
) -> None:
    before = _names(incus)
    with pytest.raises(errors.TestbedError):
        Instance.launch(
            incus,
            bookworm,
            purpose="test",
            arguments=["--config=raw.lxc=lxc.init.cmd = /does/not/exist"],
        )
    assert _names(incus) == before


def test_launch_with_an_odd_limit_leaves_nothing(
    incus: Incus, bookworm: str
) -> None:
    before = _names(incus)
    with pytest.raises(errors.TestbedError):
        Instance.launch(
            incus,
            bookworm,
            purpose="test",
            arguments=["--config=limits.kernel.nosuch=1"],
        )
    assert _names(incus) == before


@pytest.mark.parametrize("status", [0, 1, 77, 100, 255])
def test_exec_status(instance: Instance, status: int) -> None:
    done = instance.guest.exec(
        ["sh", "-c", f"exit {status}"], stdin=subprocess.DEVNULL
    )
    assert done.returncode == status


def test_exec_death_by_signal(instance: Instance) -> None:
    done = instance.guest.exec(
        ["sh", "-c", "kill -9 $$"], stdin=subprocess.DEVNULL
    )
    assert done.returncode == 128 + signal.SIGKILL


def test_exec_is_binary_safe(instance: Instance) -> None:
    data = os.urandom(3_000_000)
    done = instance.guest.exec(["cat"], input=data, capture_output=True)
    assert done.stdout == data


def test_exec_starts_like_a_login(instance: Instance) -> None:
    said = _output(instance, "env").splitlines()
    assert {"HOME=/root", "USER=root", "LANG=C.UTF-8"} <= set(said)
    assert _output(instance, "pwd") == "/root\n"


def test_exec_arguments_come_through(instance: Instance) -> None:
    odd = ["a b", "$HOME", "'\"\\", "", "*", "ü", "--help", "a\nb"]
    said = _output(instance, "printf", "%s|", *odd)
    assert said == "".join(f"{word}|" for word in odd)


def test_exec_does_not_wait_for_what_a_command_leaves(
    instance: Instance,
) -> None:
    started = time.monotonic()
    assert _output(instance, "sh", "-c", "sleep 600 & echo done") == "done\n"
    assert time.monotonic() - started < 60
    assert "sleep" in _output(instance, "sh", "-c", "cat /proc/[0-9]*/comm")


def test_push_and_pull(instance: Instance, tmp_path: Path) -> None:
    source = tmp_path / "a b#?%41"
    source.write_bytes(os.urandom(100_000))
    instance.guest.files.push(
        str(source), "/srv/file", uid=5, gid=7, mode=0o751
    )
    stat = _output(instance, "stat", "-c", "%u %g %a", "/srv/file")
    assert stat.strip() == "5 7 751"
    instance.guest.files.pull("/srv/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_push_over_files_of_all_kinds(
    instance: Instance, tmp_path: Path
) -> None:
    """What is there gets the content, the owner and the mode, too."""
    made = (
        "mkdir /srv/over; cd /srv/over; echo longer than that >there;"
        " chmod 600 there; ln -s there link; ln -s absent dangling"
    )
    instance.guest.run(["sh", "-c", made], check=True)
    source = tmp_path / "file"
    for content in (b"", b"short", bytes(9 << 20)):
        source.write_bytes(content)
        source.chmod(0o640)
        for name in ("there", "link", "dangling", f"new-{len(content)}"):
            place = f"/srv/over/{name}"
            instance.guest.files.push(str(source), place, uid=5, gid=7)
            said = _output(instance, "stat", "-Lc", "%u %g %a %s", place)
            assert said.split() == ["5", "7", "640", str(len(content))], name
    assert _output(instance, "readlink", "/srv/over/link") == "there\n"
    instance.guest.files.push(str(source), "/srv/over/set", mode=0o4755)
    said = _output(instance, "stat", "-c", "%a", "/srv/over/set")
    assert said == "4755\n"


def test_pull_of_files_of_all_kinds(instance: Instance, tmp_path: Path) -> None:
    made = (
        "cd /srv; printf short >short; : >empty; ln -s short link;"
        " ln -s ../no/such dangling; truncate --size=9M large; mkfifo fifo;"
        " mkdir folder; ln -s /srv loop"
    )
    instance.guest.run(["sh", "-c", made], check=True)
    target = tmp_path / "file"
    target.touch(mode=0o640)
    for path, content in {
        "/srv/short": b"short",
        "/srv/link": b"short",
        "/srv/loop/./short": b"short",
        "/srv/empty": b"",
        "/srv/large": bytes(9 << 20),
        "/proc/sys/kernel/ostype": b"Linux\n",
    }.items():
        instance.guest.files.pull(path, str(target))
        assert target.read_bytes() == content, path
        assert target.stat().st_mode & 0o777 == 0o640
    for path, kind in {
        "/srv/dangling": FileNotFoundError,
        "/srv/folder": IsADirectoryError,
        "/srv/fifo": OSError,
        "/dev/zero": OSError,
    }.items():
        with pytest.raises(kind, match=path):
            instance.guest.files.pull(path, str(target))
    assert list(tmp_path.iterdir()) == [target]


def test_pull_of_a_file_that_a_fifo_replaces(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short_file, "_LIMIT", 2.0)
    opened = sftp.Session.open

    def replaced(session: sftp.Session, path: bytes) -> bytes:
        made = "rm /srv/file; mkfifo /srv/file"
        instance.guest.run(["sh", "-c", made], check=True)
        return opened(session, path)

    monkeypatch.setattr(sftp.Session, "open", replaced)
    instance.guest.run(["sh", "-c", "echo >/srv/file"], check=True)
    with pytest.raises(OSError, match="/srv/file"):
        instance.guest.files.pull("/srv/file", str(tmp_path / "file"))
    assert not list(tmp_path.iterdir())


def test_date_of_a_file(instance: Instance) -> None:
    incus = instance._incus
    for command in ("touch -d @1700000000 /opt/file", "ln -s none /opt/link"):
        instance.guest.run(["sh", "-c", command], check=True)
    link = int(_output(instance, "stat", "-c", "%Y", "/opt/link"))

    assert incus.modified(instance.name, "/opt/file") == 1_700_000_000
    assert incus.modified(instance.name, "/opt/link") == link
    assert incus.modified(instance.name, "/opt/absent") == 0
    assert incus.modified("absent", "/opt/file") is None


def test_push_tree(instance: Instance, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_text("x")
    (tree / "link").symlink_to("sub/file")
    instance.guest.files.push_tree(str(tree), "/srv", uid=5, gid=7)
    found = _output(
        instance, "find", "/srv/tree", "-printf", "%P %y %U %G %l\n"
    )
    assert sorted(found.splitlines()) == [
        " d 5 7 ",
        "link l 5 7 sub/file",
        "sub d 5 7 ",
        "sub/file f 5 7 ",
    ]


def test_push_and_pull_of_what_is_missing(
    instance: Instance, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="/no/such/file"):
        instance.guest.files.pull("/no/such/file", str(tmp_path / "x"))
    with pytest.raises(FileNotFoundError, match="absent"):
        instance.guest.files.push(str(tmp_path / "absent"), "/srv/x")
    large = tmp_path / "large"
    large.write_bytes(bytes(9 << 20))
    for target, kind in {
        "/no/such/x": FileNotFoundError,
        "/srv": IsADirectoryError,
        "/etc/hostname/x": NotADirectoryError,
    }.items():
        with pytest.raises(kind, match=target):
            instance.guest.files.push(str(large), target)
    with pytest.raises(FileNotFoundError, match="/no/such"):
        instance.guest.files.push(__file__, "/no/such/x")


def test_push_that_the_guest_has_no_space_for(
    instance: Instance, tmp_path: Path
) -> None:
    made = "mkdir /srv/tiny; mount -t tmpfs -o size=1M none /srv/tiny"
    instance.guest.run(["sh", "-c", made], check=True)
    large = tmp_path / "large"
    large.write_bytes(bytes(9 << 20))
    with pytest.raises(OSError, match="No space left on device"):
        instance.guest.files.push(str(large), "/srv/tiny/file")


def test_restart(incus: Incus, bookworm: str) -> None:
    with Instance.launch(incus, bookworm, purpose="test") as instance:
        instance.wait_ready()
        boot = instance.probe()["boot"]
        instance.restart()
        assert instance.probe()["boot"] != boot


def test_stop_and_start(incus: Incus, bookworm: str) -> None:
    with Instance.launch(
        incus, bookworm, purpose="test", ephemeral=False
    ) as instance:
        instance.wait_ready()
        instance.stop()
        assert incus.instance(instance.name).status == "Stopped"
        instance.stop()
        instance.start()
        assert _output(instance, "true") == ""


def test_stop_kills_what_does_not_listen(incus: Incus, bookworm: str) -> None:
    with Instance.launch(
        incus,
        bookworm,
        purpose="test",
        ephemeral=False,
        arguments=["--config=raw.lxc=lxc.init.cmd = /bin/sleep infinity"],
    ) as instance:
        instance.stop(grace=1)
        assert incus.instance(instance.name).status == "Stopped"


def test_stop_removes_an_ephemeral_instance(
    incus: Incus, bookworm: str
) -> None:
    with Instance.launch(incus, bookworm, purpose="test") as instance:
        instance.wait_ready()
        instance.stop()
    assert instance.name not in _names(incus)


def _launch_with_init(incus: Incus, image: str, init: str) -> Instance:
    return Instance.launch(
        incus,
        image,
        purpose="test",
        arguments=[f"--config=raw.lxc=lxc.init.cmd = {init}"],
    )


def test_guest_that_does_not_finish_booting_shows_its_console(
    incus: Incus, bookworm: str
) -> None:
    with (
        _launch_with_init(
            incus, bookworm, "/sbin/init systemd.unit=emergency.target"
        ) as instance,
        pytest.raises(errors.BootFailed, match="'maintenance'") as caught,
    ):
        instance.wait_ready()
    assert instance.name in caught.value.brief
    assert "Welcome to" in caught.value.details


def test_guest_that_hangs_fails_in_time(incus: Incus, bookworm: str) -> None:
    with (
        _launch_with_init(incus, bookworm, "/bin/sleep infinity") as instance,
        pytest.raises(errors.BootFailed, match="after 2 s at most"),
    ):
        instance.wait_ready(timeout=2)


def test_guest_that_dies_says_so(incus: Incus, bookworm: str) -> None:
    with (
        _launch_with_init(incus, bookworm, "/bin/sleep 1") as instance,
        pytest.raises(errors.BootFailed, match="did not become ready"),
    ):
        instance.wait_ready()


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "command"])
def test_busy_is_what_is_removed_but_not_what_runs_a_command(
    incus: Incus,
    bookworm: str,
    *,
    direct: bool,
) -> None:
    with (
        contextlib.nullcontext() if direct else by_command(),
        Instance.launch(incus, bookworm, purpose="test") as instance,
    ):
        instance.wait_ready()
        sleep = incus.exec_argv(instance.name, ["sh", "-c", "echo; sleep 60"])
        with subprocess.Popen(sleep, stdout=subprocess.PIPE) as running:
            assert running.stdout
            assert running.stdout.read(1)
            assert instance.name not in incus.busy_instances()
            with ThreadPoolExecutor() as pool:
                removal = pool.submit(incus.delete, instance.name)
                while instance.name not in incus.busy_instances():
                    assert not removal.done()
                removal.result()
        assert instance.name not in incus.busy_instances()


@pytest.mark.parametrize("delay", [0, 0.1, 0.2, 0.4, 0.8])
def test_removal_of_what_is_going_by_itself(
    incus: Incus, bookworm: str, delay: float
) -> None:
    """It is ephemeral, and more than one is at it."""
    instance = Instance.launch(incus, bookworm, purpose="test")
    instance.wait_ready()
    instance.guest.exec(["systemctl", "poweroff", "--no-block"])
    time.sleep(delay)
    with ThreadPoolExecutor() as pool:
        for removal in [pool.submit(instance.delete) for _ in range(4)]:
            removal.result()
    assert instance.name not in _names(incus)


def test_killed_owner_leaves_what_gc_removes(
    incus: Incus, bookworm: str, instance: Instance, cli: Cli
) -> None:
    before = _names(incus)
    runner = cli.start("run", bookworm, "--", "sleep", "600")
    orphan = _wait_for_new(incus, before)
    assert not garbage.find(incus).instances  # its owner is alive
    runner.kill()
    runner.wait()
    said = cli.output("gc", "--dry-run")
    assert orphan in said
    assert orphan in _names(incus)
    assert orphan in cli.output("gc")
    assert _names(incus) == before
    assert instance.name in before  # ours, alive, and left alone
    assert cli.output("gc") == ""


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
)
@pytest.mark.parametrize("delay", [0.0, 0.3, 3.0])
def test_interrupted_run_removes_its_instance(
    incus: Incus, bookworm: str, cli: Cli, number: int, delay: float
) -> None:
    before = _names(incus)
    runner = cli.start("run", bookworm, "--", "sleep", "600")
    _wait_for_new(incus, before)
    time.sleep(delay)
    runner.send_signal(number)
    assert runner.wait(60) == 128 + number
    assert _names(incus) == before


def _wait_for_new(incus: Incus, before: set[str]) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if new := _names(incus) - before:
            return new.pop()
        time.sleep(0.02)
    pytest.fail("no instance appeared")
