# SPDX-License-Identifier: GPL-3.0-or-later
"""A user who is in the group incus alone runs testbeds, and gets no further."""

import contextlib
import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.support import restricted
from tests.support.restricted import User

_PACKAGES = Path(__file__).resolve().parents[1] / "packages"
_SERVER = "virt/autopkgtest-virt-incus-testbed"


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """Give an admin's environment, with an Incus and incus-user."""
    with restricted.server() as server:
        yield server


@pytest.fixture(scope="module")
def admin(environment: dict[str, str]) -> Callable[..., str]:
    """Give what runs incus as an admin."""

    def incus(*words: str) -> str:
        return subprocess.run(
            ["incus", *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    return incus


@pytest.fixture(scope="module")
def user(environment: dict[str, str]) -> Iterator[User]:
    """Give a user who was given a project."""
    with restricted.user(environment) as new:
        done = restricted.admit(new, environment)
        assert done.returncode == 0, done.stderr
        yield new


@pytest.fixture(scope="module")
def neighbour(environment: dict[str, str]) -> Iterator[User]:
    """Give another such user."""
    with restricted.user(environment, 1) as new:
        done = restricted.admit(new, environment)
        assert done.returncode == 0, done.stderr
        yield new


@pytest.fixture(scope="module")
def image(
    user: User, system_tarball: Callable[..., Path]
) -> Callable[..., str]:
    """Give what imports a suite as the user, and tells the alias."""

    def import_(suite: str, *packages: str) -> str:
        alias = "/".join((suite, *packages))
        tarball = restricted.share(system_tarball(suite, *packages), user)
        done = user.testbed("import", str(tarball), "--alias", alias)
        assert done.returncode == 0, done.stderr
        return alias

    return import_


@pytest.fixture(scope="module")
def system(image: Callable[..., str]) -> str:
    """Give the alias of a plain bookworm."""
    return image("bookworm")


# -- what works


def test_doctor_finds_all_that_is_needed(user: User) -> None:
    done = user.testbed("doctor")

    assert done.returncode == 0, done.stdout
    assert (
        f"ok    restricted project   you use the project {user.project}; its"
        f" network {user.network} and its storage pool default belong to its"
        " admin" in done.stdout
    )
    assert "failed" not in done.stdout


def test_setup_has_nothing_to_do(user: User) -> None:
    done = user.testbed("setup")

    assert (done.returncode, done.stdout) == (
        0,
        "Nothing is missing: nothing to do.\n",
    )


def test_setup_makes_the_profiles_in_the_project(user: User) -> None:
    for name in ("debusine", "debusine-vm"):
        user.output("incus", "profile", "delete", name)

    done = user.testbed("setup")

    assert done.returncode == 0, done.stderr
    assert "raw.lxc" not in done.stdout
    assert user.testbed("doctor").returncode == 0


@pytest.fixture
def other_pool(admin: Callable[..., str]) -> Iterator[str]:
    """Give a pool beside the one that incus-user chooses."""
    name = f"other-{os.getpid()}"
    admin("storage", "create", name, "dir")
    yield name
    admin("storage", "delete", name)


def test_setup_keeps_the_pool_that_was_chosen(
    environment: dict[str, str],
    admin: Callable[..., str],
    other_pool: str,
    neighbour: User,
) -> None:
    def pools() -> list[str]:
        return [
            admin(
                *("profile", "device", "get", profile, "root", "pool"),
                *("--project", neighbour.project),
            ).strip()
            for profile in ("default", "debusine", "debusine-vm")
        ]

    def admit(*options: str) -> None:
        done = restricted.admit(neighbour, environment, *options)
        assert done.returncode == 0, done.stderr

    try:
        admit(f"--pool={other_pool}")
        assert pools() == [other_pool] * 3
        admit()
        assert pools() == [other_pool] * 3
        # Nobody else's pool is made, whatever the user writes there.
        neighbour.output(
            *("incus", "profile", "device", "set", "default", "root"),
            "pool=absent",
        )
        admit()
        assert pools() == ["default"] * 3
        assert "absent" not in admin("storage", "list", "--format=csv")
    finally:
        admit("--pool=default")


def test_pool_of_a_testbed_that_is_there_can_not_be_changed(
    environment: dict[str, str], other_pool: str, user: User
) -> None:
    user.output("incus", "init", "--empty", "there", "--profile=debusine")
    try:
        done = restricted.admit(user, environment, f"--pool={other_pool}")
    finally:
        user.output("incus", "delete", "there")
        restricted.admit(user, environment, "--pool=default")

    assert done.returncode == 1
    assert "Testbeds that are there keep the profile" in done.stderr
    assert "incus-testbed status" in done.stderr
    assert "Traceback" not in done.stderr


def test_command_in_a_testbed(user: User, system: str) -> None:
    done = user.testbed("run", system, "--", "sh", "-c", "echo hello; exit 7")

    assert (done.returncode, done.stdout) == (7, "hello\n")
    assert user.output("incus", "list", "--format=csv") == ""


def test_testbeds_make_no_subvolumes(user: User, system: str) -> None:
    script = (
        'sysopen(my $root, "/root", 0200000); my $what = pack("q Z4088", 0,'
        ' "made"); ioctl($root, 0x5000940e, $what); print $! + 0'
    )
    done = user.testbed("run", system, "--", "perl", "-e", script)
    assert done.stdout == str(errno.ENOTTY)


def test_command_that_closes_its_output_ends_when_it_ends(
    user: User, system: str
) -> None:
    script = "exec >&- 2>&-; sleep 2; exit 7"

    assert user.testbed("run", system, "--", "sh", "-c", script).returncode == 7


def test_shell(user: User, system: str) -> None:
    done = user.run(
        *("script", "--quiet", "--return", "--log-out=/dev/null", "--command"),
        f"/usr/bin/python3 -m incus_testbed shell {system}",
        stdin="id --user\nexit 3\n",
    )

    assert done.returncode == 3, done.stdout
    assert "\n0\n" in done.stdout


_UNPACK_ANEW = """
import sys
from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
incus = Incus()
image = incus.image(sys.argv[1])
with Instance.launch(incus, sys.argv[1], purpose="test") as instance:
    where = incus.instance(instance.name).pool, image.fingerprint, ""
incus.unpacked(*where)
incus.delete_unpacked(*where)
try:
    incus.unpacked(*where)
except errors.NotFound:
    pass
else:
    print("it is still there")
"""


def test_an_image_is_unpacked_anew(user: User, system: str) -> None:
    """As a launch has it done, if Incus was killed while it unpacked it."""
    done = user.run("/usr/bin/python3", "-c", _UNPACK_ANEW, system)

    assert (done.returncode, done.stdout) == (0, ""), done
    assert user.testbed("run", system, "--", "true").returncode == 0


def test_images(user: User, system: str) -> None:
    done = user.testbed("images", "--format=json")

    assert [system] in [image["aliases"] for image in json.loads(done.stdout)]


def test_gc_removes_what_a_killed_process_has_left(
    user: User, system: str
) -> None:
    with subprocess.Popen(
        user.argv(
            *("/usr/bin/python3", "-m", "incus_testbed", "run", system, "--"),
            *("sh", "-c", "echo up; exec sleep 600"),
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=user.directory,
    ) as running:
        assert running.stdout
        assert running.stdout.readline() == b"up\n"
        running.kill()

    done = user.testbed("gc")

    assert done.stdout.startswith("instance testbed-"), done.stderr
    assert user.output("incus", "list", "--format=csv") == ""


def test_virt_server(user: User, system: str) -> None:
    """Open, run, copy, reboot, revert and close."""
    to_copy = user.directory / "to-copy"
    to_copy.write_text("hello")
    to_copy.chmod(0o644)
    server = subprocess.Popen(
        user.argv("/usr/bin/python3", f"{user.checkout}/{_SERVER}", system),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=user.directory,
        text=True,
    )
    assert server.stdin
    assert server.stdout

    def ask(line: str) -> str:
        assert server.stdin
        assert server.stdout
        server.stdin.write(f"{line}\n")
        server.stdin.flush()
        return server.stdout.readline().strip()

    def inside(*command: str) -> "subprocess.CompletedProcess[str]":
        answer = ask("print-execute-command").removeprefix("ok ")
        return user.run(*map(unquote, answer.split(",")), *command)

    assert server.stdout.readline() == "ok\n"
    assert ask("capabilities").startswith("ok ")
    scratch = ask("open").removeprefix("ok ")
    target = f"{scratch}/hello"
    assert ask(f"copydown {to_copy} {target}") == "ok"
    assert inside("cat", target).stdout == "hello"
    assert ask("reboot").startswith("ok")
    back = user.directory / "home/back"
    assert ask(f"copyup {target} {back}") == "ok"
    assert back.read_text() == "hello"
    assert ask("revert").startswith("ok")
    assert inside("test", "-e", target).returncode == 1
    assert ask("close") == "ok"
    server.stdin.write("quit\n")
    server.stdin.close()
    assert server.wait(60) == 0
    # The testbed is removed by a process that goes on.
    deadline = time.monotonic() + 60
    while user.output("incus", "list", "--format=csv"):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_autopkgtest(user: User, system: str) -> None:
    done = user.run(
        *("autopkgtest", "--no-built-binaries", "--apt-upgrade"),
        str(user.checkout / "tests/packages/hello-testbed"),
        *("--", "incus-testbed", system),
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("suite", "packages"),
    [
        ("bullseye", ()),
        ("bookworm", ("systemd-resolved",)),
        ("trixie", ()),
        ("trixie", ("udev",)),
        ("forky", ()),
        ("sid", ()),
        ("sid", ("systemd-resolved", "udev")),
    ],
)
def test_release_comes_up_where_sys_is_writable(
    user: User,
    image: Callable[..., str],
    suite: str,
    packages: tuple[str, ...],
) -> None:
    """Udev does not run, and the console asks for a login."""
    script = """
        systemctl is-system-running --wait
        systemctl --failed --no-legend --plain
        grep --quiet ' /sys sysfs rw' /proc/mounts || echo read-only
        systemctl is-active systemd-udevd.service console-getty.service
        systemctl show --property=NRestarts --value console-getty.service
    """

    done = user.testbed(
        *("run", image(suite, *packages), "--", "sh", "-c", script)
    )

    assert done.stdout.split() == ["running", "inactive", "active", "0"]


# -- what setup does


def test_user_without_a_project_is_told_who_can_give_one(
    environment: dict[str, str],
) -> None:
    with restricted.user(environment, 3) as new:
        # A network in the way of incus-user is one way to have it fail.
        subprocess.run(["adduser", "--quiet", new.name, "incus"], check=True)
        subprocess.run(
            ["ip", "link", "add", new.network, "type", "bridge"], check=True
        )
        try:
            done = new.testbed("doctor")
        finally:
            subprocess.run(["ip", "link", "delete", new.network], check=True)

    assert done.returncode == 1
    assert "incus-user turns you away" in done.stdout
    assert f"incus-testbed setup --restricted {new.name}" in done.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nosuch", "There is no user nosuch"),
        ("root", "root has all rights of root"),
    ],
)
def test_setup_refuses_in_one_line(
    environment: dict[str, str], user: User, name: str, said: str
) -> None:
    done = restricted.admit(dataclasses.replace(user, name=name), environment)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[0].startswith(f"incus-testbed: {said}")


def test_setup_says_what_it_does_before_and_only_once(
    environment: dict[str, str], admin: Callable[..., str]
) -> None:
    with restricted.user(environment, 2) as new:
        planned = restricted.admit(new, environment, "--dry-run").stdout
        assert new.project not in admin("project", "list", "--format=csv")
        done = restricted.admit(new, environment)
        again = restricted.admit(new, environment).stdout

    assert done.returncode == 0, done.stderr
    assert again == "Nothing is missing: nothing to do.\n"
    # What is to be undone of what incus-user does is known only afterwards.
    # An ACL that the network did not get, because Incus was disturbed, is made
    # again.
    new_lines = set(done.stdout.splitlines()) - set(planned.splitlines())
    expected = (" project ", " network acl delete ")
    assert all(
        any(words in line for words in expected) for line in new_lines
    ), new_lines
    assert f"$ adduser {new.name} incus" in planned.splitlines()


def test_setup_puts_strict_rules_back(
    environment: dict[str, str], user: User, admin: Callable[..., str]
) -> None:
    project = ("project", "set", user.project)
    admin(*project, "restricted.devices.disk=allow")
    admin(*project, "restricted.devices.gpu=allow")

    done = restricted.admit(user, environment)

    assert done.returncode == 0, done.stderr
    shown = admin("project", "show", user.project)
    assert "restricted.devices.disk: managed" in shown
    assert "gpu" not in shown
    assert "idmap" not in shown
    assert "disk.paths" not in shown


def test_setup_says_how_to_leave_the_admins(
    environment: dict[str, str], user: User
) -> None:
    subprocess.run(["adduser", "--quiet", user.name, "incus-admin"], check=True)
    try:
        said = restricted.admit(user, environment).stdout
    finally:
        subprocess.run(
            ["gpasswd", "--delete", user.name, "incus-admin"],
            capture_output=True,
            check=True,
        )

    assert f"gpasswd --delete {user.name} incus-admin" in said


# -- what does not work

#: Incus' own note of which ids of the host an instance has.
_AS_ROOT = json.dumps(
    [
        {
            "Isuid": True,
            "Isgid": True,
            "Hostid": 0,
            "Nsid": 0,
            "Maprange": 65536,
        }
    ]
)


@pytest.fixture(scope="module")
def instance(user: User, system: str) -> Iterator[str]:
    """Give a running instance of the user's."""
    user.output("incus", "launch", system, "mine")
    yield "mine"
    user.output("incus", "delete", "--force", "mine")


def _is_refused(done: "subprocess.CompletedProcess[str]", said: str) -> None:
    assert done.returncode != 0, done.stdout
    assert said in done.stderr


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("security.privileged=true", "Privileged containers are forbidden"),
        ("raw.lxc=lxc.mount.auto=sys", "low-level"),
        ("raw.apparmor=allow x", "low-level"),
        ("raw.seccomp=x", "low-level"),
        ("raw.qemu=-x", "raw.qemu"),
        ("raw.idmap=both 0 0", "raw.idmap"),
        ("security.syscalls.intercept.mount=true", "forbidden"),
        ("security.guestapi.images=true", "forbidden"),
        ("linux.kernel_modules=loop", "forbidden"),
        (f"volatile.idmap.next={_AS_ROOT}", "olatile"),
        (f"volatile.last_state.idmap={_AS_ROOT}", "olatile"),
    ],
)
@pytest.mark.parametrize("of", ["instance", "profile", "new instance"])
def test_settings_that_lead_to_the_host(
    user: User, instance: str, system: str, of: str, setting: str, said: str
) -> None:
    if of == "instance":
        done = user.run("incus", "config", "set", instance, setting)
    elif of == "profile":
        done = user.run("incus", "profile", "set", "debusine", setting)
    else:
        done = user.run("incus", "init", system, "new", "--config", setting)

    _is_refused(done, said)


@pytest.mark.parametrize(
    "device",
    [
        "disk source=/ path=/host",
        "disk source=/etc path=/host",
        "disk source={home} path=/host",
        "disk source=/var/lib/incus path=/host",
        "unix-char source=/dev/kmsg path=/dev/kmsg",
        "unix-block source=/dev/loop0 path=/dev/loop0",
        "unix-hotplug vendorid=1234",
        "usb vendorid=1234",
        "gpu",
        "pci address=0000:00:00.0",
        "infiniband nictype=physical parent=x",
        "proxy listen=tcp:127.0.0.1:1 connect=tcp:127.0.0.1:22",
        "nic nictype=physical parent=lo",
        "nic nictype=macvlan parent={interface}",
        "nic nictype=routed parent={interface}",
        "nic network={other}",
    ],
)
@pytest.mark.parametrize("of", ["instance", "profile"])
def test_devices_that_lead_to_the_host(
    user: User, neighbour: User, instance: str, of: str, device: str
) -> None:
    kind, *words = device.format(
        home=user.directory / "home",
        interface=user.network,
        other=neighbour.network,
    ).split()
    of_what = (
        ["profile", "debusine"] if of == "profile" else ["config", instance]
    )
    noun, name = of_what

    done = user.run(
        *("incus", noun, "device", "add", name, "extra", kind, *words)
    )

    assert done.returncode != 0, done.stdout
    said = done.stderr.lower()
    assert re.search("forbidden|not allowed|only managed", said), said


@pytest.mark.parametrize(
    "command",
    [
        "project create evil",
        "project delete {other}",
        "project set {project} restricted=false",
        "project set {project} restricted.devices.disk=allow",
        "project unset {project} restricted",
        "project set {project} restricted.networks.access={othernet}",
        "project set default user.x=y",
        "network create evil",
        "network set {network} ipv4.nat=false",
        "network set {network} raw.dnsmasq=addn-hosts=/etc/shadow",
        "network delete {network}",
        "network set {othernet} ipv4.nat=false",
        "network delete {othernet}",
        "network acl show rules",
        "network acl rule add rules egress action=allow",
        "network acl rule remove rules egress --force",
        "network acl delete rules",
        "network show {othernet}",
        "storage create evil dir source=/etc",
        "storage set default size=100GiB",
        "storage delete default",
        "config set core.https_address=:8443",
        "config trust add evil",
        "admin sql global .dump",
        "admin recover",
        "list --project=default",
        "list --project={other}",
        "image list --project={other}",
        "launch {system} evil --project={other}",
        "launch {system} evil --project=default",
        "profile list --project={other}",
        "profile set default user.x=y --project={other}",
        "exec theirs --project={other} -- true",
        "exec theirs -- true",
        "file pull theirs/etc/passwd - --project={other}",
        "delete --force theirs --project={other}",
        "stop --force theirs --project={other}",
        "image delete {alias} --project={other}",
        "image export {alias} /tmp/evil --project={other}",
        "image edit {alias} --project={other}",
        "image copy {alias} local: --project={other} --target-project=default",
        "copy theirs mine2 --project={other} --target-project={project}",
        "move mine --target-project={other}",
        "warning list",
        "cluster list",
        "monitor --project={other}",
        "query /1.0/metrics",
        "query /1.0/events?all-projects=true",
        "query /1.0/instances/theirs?project={other}",
        "query -X PATCH -d {{}} /1.0",
        "query -X POST -d {{}} /internal/sql",
        "query /internal/containers/1/onstart",
    ],
)
def test_what_belongs_to_others(
    user: User, theirs: User, instance: str, system: str, command: str
) -> None:
    del instance
    words = [
        word.format(
            project=user.project,
            network=user.network,
            other=theirs.project,
            othernet=theirs.network,
            system=system,
            alias="theirs",
        )
        for word in command.split()
    ]

    done = user.run("incus", *words, limit=60)

    assert done.returncode != 0, done.stdout


@pytest.fixture(scope="module")
def theirs(
    neighbour: User,
    admin: Callable[..., str],
    system_tarball: Callable[..., Path],
) -> Iterator[User]:
    """Give another user, who has an image and an instance called theirs.

    The admin has rules for networks.
    """
    admin("network", "acl", "create", "rules")
    admin("network", "acl", "rule", "add", "rules", "egress", "action=drop")
    tarball = restricted.share(system_tarball("bookworm"), neighbour)
    done = neighbour.testbed("import", str(tarball), "--alias", "theirs")
    assert done.returncode == 0, done.stderr
    neighbour.output("incus", "launch", "theirs", "theirs")
    yield neighbour
    # All of it is still there, and as it was.
    neighbour.output("incus", "exec", "theirs", "--", "true")
    neighbour.output("incus", "delete", "--force", "theirs")
    assert neighbour.testbed("remove", "theirs").returncode == 0
    assert "action: drop" in admin("network", "acl", "show", "rules")
    assert 'ipv4.nat: "true"' in admin("network", "show", neighbour.network)


def test_admins_socket_and_incus_files_are_closed(user: User) -> None:
    directory = Path(user.incus_directory)
    for path in ("unix.socket", "database", "users", "images", "server.key"):
        assert user.run("test", "-r", str(directory / path)).returncode == 1
    done = user.run(
        *("env", f"INCUS_SOCKET={directory}/unix.socket", "incus", "info")
    )
    _is_refused(done, "don't have the needed permissions")


# -- the table in docs/explanation/security.md

_DOCUMENT = Path(__file__).resolve().parents[2] / "docs/explanation/security.md"
#: How Incus says that a user has no right to do something.
_REFUSAL = re.compile(
    "forbidden|not allowed|permission|Certificate is restricted|not found"
)
_ATTEMPTS = 3
#: What is tried, and in what words the document says it.
_TRIES = {
    "make an instance": "init --empty made",
    "make a privileged container": (
        "init --empty privileged --config=security.privileged=true"
    ),
    "give an instance a folder of the machine": (
        "config device add made host disk source=/etc path=/host"
    ),
    "give an instance a device of the machine": (
        "config device add made kmsg unix-char path=/dev/kmsg"
    ),
    "have LXC settings of its own": (
        "config set made raw.lxc=lxc.mount.auto=sys"
    ),
    "see the instances of other projects": "list --project={other}",
    "run a command in another user's testbed": (
        "exec theirs --project={other} -- true"
    ),
    "take another user's image": (
        "image export theirs {folder}/image --project={other}"
    ),
    "make a network": (
        "network create tried ipv4.address=none ipv6.address=none"
    ),
    "make a storage pool": "storage create tried dir",
    "change the configuration of the server": ("config set user.tried=yes"),
    "remove an instance": "delete made",
}


def _outcomes(who: User, other: User) -> list[str]:
    """Try everything as a user; return what came of it, in words."""
    places = {"other": other.project, "folder": who.directory / "home"}
    return [
        _outcome(who, [word.format(**places) for word in words.split()])
        for words in _TRIES.values()
    ]


def _outcome(who: User, words: list[str]) -> str:
    """Try one of them; again, where something else than a right is missing."""
    for _ in range(_ATTEMPTS):
        done = who.run("incus", *words)
        if done.returncode == 0:
            return "allowed"
        if _REFUSAL.search(done.stderr):
            return "refused"
    raise AssertionError(done.stderr)


@pytest.fixture
def privileged(
    environment: dict[str, str], admin: Callable[..., str]
) -> Iterator[User]:
    """Give a user as Debusine's script leaves the worker's."""
    socket = Path(environment["INCUS_DIR"], "unix.socket")
    # As incusd --group does, which Debian's service has.
    shutil.chown(socket, group="incus-admin")
    with restricted.user(environment, 4) as new:
        subprocess.run(
            ["adduser", "--quiet", new.name, "incus-admin"], check=True
        )
        admin(
            *("profile", "device", "add", "default"),
            *("root", "disk", "path=/", "pool=default"),
        )
        try:
            yield new
        finally:
            for words in (
                ("delete", "--force", "made", "privileged"),
                ("delete", "--force", "privileged"),
                ("network", "delete", "tried"),
                ("storage", "delete", "tried"),
                ("config", "unset", "user.tried"),
                ("profile", "device", "remove", "default", "root"),
            ):
                with contextlib.suppress(subprocess.CalledProcessError):
                    admin(*words)
            shutil.chown(socket, group="root")


def test_document_has_the_outcomes(
    user: User, theirs: User, privileged: User
) -> None:
    rows = zip(
        _TRIES,
        _outcomes(privileged, theirs),
        _outcomes(user, theirs),
        strict=True,
    )

    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)

    assert table in _DOCUMENT.read_text(), table
