# SPDX-License-Identifier: GPL-3.0-or-later
"""The generator, run on faked trees as systemd would run it."""

import subprocess
from pathlib import Path

import pytest

from incus_testbed.customise import overlay

#: The last of the sandbox's lines that each version brings.
BY_VERSION = {
    232: ["ProtectControlGroups=no", "ProtectKernelTunables=no"],
    239: ["NoNewPrivileges=no"],
    247: ["ProcSubset=all", "ProtectProc=default"],
    249: ["LoadCredential="],
    254: ["PrivateNetwork=no"],
    256: ["ImportCredential="],
}
VERSIONS = [232, 241, 244, 247, 249, 252, 254, 256, 257, 258, 260, 262]
PRIVILEGED = [
    "PrivateDevices=no",
    "PrivateTmp=no",
    "ProtectHome=no",
    "ProtectKernelModules=no",
    "ProtectSystem=no",
    "ReadOnlyPaths=",
    "ReadWritePaths=",
]
UNITS = [
    "cron.service",
    "getty@.service",
    "systemd-binfmt.service",
    "systemd-networkd.service",
    "systemd-sysctl.service",
]
SANDBOX = "zz-incus-testbed-sandbox.conf"


class Tree:
    """A root directory with what the generator looks at."""

    def __init__(self, root: Path, version: str = "252 (252.1-1)") -> None:
        """Fake an unprivileged guest with this systemd."""
        self.root = root
        self.out = root / "out"
        self.out.mkdir()
        self.write("run/systemd/container", "lxc")
        self.write("proc/self/uid_map", "         0    1000000 1000000000\n")
        self.mount_sys("ro,relatime")
        self.write("dev/null", "")
        self.write(
            "bin/systemctl", f"#!/bin/sh\necho 'systemd {version}'\necho +PAM\n"
        ).chmod(0o755)
        for unit in UNITS:
            self.write(f"usr/lib/systemd/system/{unit}", "[Unit]\n")

    def mount_sys(self, *options: str) -> None:
        """Have /sys mounted, several times if there are several options."""
        mounts = [f"sysfs /sys sysfs {each} 0 0\n" for each in options]
        lines = ["none / btrfs rw 0 0\n", *mounts]
        lines.append("sysfs /sys/kernel sysfs rw 0 0\n")
        self.write("proc/mounts", "".join(lines))

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def generate(self) -> dict[str, str]:
        """Run the generator; return what it wrote, by path."""
        outs = [str(self.out), "/nonexistent/early", "/nonexistent/late"]
        done = subprocess.run(
            ["/bin/sh", "-s", *outs, str(self.root)],
            input=overlay.content("lxc-generator"),
            capture_output=True,
            check=True,
            timeout=10,
        )
        assert (done.stdout, done.stderr) == (b"", b"")
        return {
            str(path.relative_to(self.out)): path.read_text()
            for path in sorted(self.out.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def sandbox(version: int) -> str:
    """Return the drop-in that an unprivileged guest's services get."""
    lines = [
        line
        for since, brought in BY_VERSION.items()
        if version >= since
        for line in brought
    ]
    return "\n".join(["[Service]", *lines, ""])


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version(tmp_path: Path, version: int) -> None:
    written = Tree(tmp_path, f"{version} ({version}.3-1~deb1)").generate()
    if version >= 244:
        sandboxed = ["service"]
    else:
        sandboxed = [unit for unit in UNITS if unit.endswith(".service")]
    assert written == {
        **{f"{unit}.d/{SANDBOX}": sandbox(version) for unit in sandboxed},
        "systemd-sysctl.service.d/zz-incus-testbed-status.conf": (
            "[Service]\nSuccessExitStatus=1\n"
        ),
        "systemd-binfmt.service": "",
        "vconsole-setup-kludge@tty1.service": "",
    }


@pytest.mark.parametrize("version", ["257~rc1-1", "257.4", "257"])
def test_how_versions_are_written(tmp_path: Path, version: str) -> None:
    written = Tree(tmp_path, version).generate()
    assert written[f"service.d/{SANDBOX}"] == sandbox(257)


@pytest.mark.parametrize("version", VERSIONS)
def test_privileged(tmp_path: Path, version: int) -> None:
    tree = Tree(tmp_path, f"{version}")
    tree.write("proc/self/uid_map", "         0          0 4294967295\n")
    tree.mount_sys("rw")
    written = tree.generate()
    name = "service" if version >= 244 else "cron.service"
    lines = written[f"{name}.d/{SANDBOX}"].splitlines()
    assert set(PRIVILEGED) <= set(lines)
    assert ("ProtectKernelLogs=no" in lines) == (version >= 244)
    assert lines.count("ImportCredential=") == (version >= 254)
    assert "systemd-networkd.service.d/zz-incus-testbed-sys.conf" not in written


def test_nesting_leaves_sandboxes_alone(tree: Tree) -> None:
    (tree.root / "dev/.lxc").mkdir()
    assert sorted(tree.generate()) == [
        "systemd-binfmt.service",
        "systemd-sysctl.service.d/zz-incus-testbed-status.conf",
        "vconsole-setup-kludge@tty1.service",
    ]


SYS = "zz-incus-testbed-sys.conf"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("nesting", [False, True])
def test_writable_sys_starts_no_udev(
    tmp_path: Path, version: int, nesting: bool
) -> None:
    """As in a restricted project, which has no raw.lxc."""
    tree = Tree(tmp_path, f"{version}")
    if nesting:
        (tree.root / "dev/.lxc").mkdir()
    for unit in (
        "systemd-resolved.service",
        "systemd-udevd.service",
        "systemd-udevd-kernel.socket",
        "systemd-udev-trigger.service",
        "console-getty.service",
    ):
        tree.write(f"usr/lib/systemd/system/{unit}", "[Unit]\n")
    before = tree.generate()
    tree.mount_sys("rw,relatime")
    written = tree.generate()
    added = {path: written[path] for path in written.keys() - before.keys()}
    console = added.pop(
        "console-getty.service.d/zz-incus-testbed-console.conf", ""
    )
    assert bool(console) == (version >= 258)
    assert not console or "\nStandardInput=null\n" in console
    assert added == {
        f"systemd-networkd.service.d/{SYS}": (
            "[Service]\nBindReadOnlyPaths=/sys\n"
        ),
        f"systemd-resolved.service.d/{SYS}": (
            "[Service]\nBindReadOnlyPaths=/sys\n"
        ),
        "systemd-udevd.service": "",
        "systemd-udevd-kernel.socket": "",
        "systemd-udev-trigger.service": "",
    }


def test_what_is_mounted_on_sys_last_is_there(tree: Tree) -> None:
    tree.mount_sys("rw", "ro")
    read_only = tree.generate()
    tree.mount_sys("ro", "rw")
    assert f"systemd-networkd.service.d/{SYS}" not in read_only
    assert f"systemd-networkd.service.d/{SYS}" in tree.generate()


def test_a_console_that_is_there(tree: Tree) -> None:
    tree.write("dev/tty1", "")
    assert "vconsole-setup-kludge@tty1.service" not in tree.generate()


def test_units_of_every_kind_of_root(tree: Tree) -> None:
    tree.write("lib/systemd/system/auditd.service", "")
    tree.write("etc/systemd/system/mdmonitor.service", "")
    tree.write("usr/lib/systemd/system/systemd-nsresourced.service", "")
    written = tree.generate()
    assert written["auditd.service"] == ""
    assert written["mdmonitor.service"] == ""
    assert written[
        "systemd-nsresourced.service.d/zz-incus-testbed-run.conf"
    ] == ("[Service]\nReadWritePaths=/run\n")


def test_running_again_changes_nothing(tree: Tree) -> None:
    assert tree.generate() == tree.generate()


@pytest.mark.parametrize("manager", [None, "", "docker", "systemd-nspawn"])
def test_elsewhere_it_does_nothing(tree: Tree, manager: str | None) -> None:
    """In a VM, a chroot or another manager's container."""
    container = tree.root / "run/systemd/container"
    if manager is None:
        container.unlink()
    else:
        container.write_text(manager)
    assert tree.generate() == {}


def test_no_units_at_all(tree: Tree) -> None:
    for file in (tree.root / "usr/lib/systemd/system").iterdir():
        file.unlink()
    assert sorted(tree.generate()) == [
        f"service.d/{SANDBOX}",
        "vconsole-setup-kludge@tty1.service",
    ]


def test_it_starts_two_programs_and_no_more(tree: Tree) -> None:
    """It runs at each daemon-reload."""
    trace = subprocess.run(
        ["/bin/sh", "-xs", str(tree.out), "e", "l", str(tree.root)],
        input=overlay.content("lxc-generator"),
        capture_output=True,
        check=True,
        timeout=10,
    ).stderr.decode()
    started = [
        words[1]
        for line in trace.splitlines()
        if len(words := line.split()) > 1
        and words[1].rpartition("/")[2] in {"systemctl", "mkdir", "cat", "ln"}
    ]
    assert started == [f"{tree.root}/bin/systemctl", "mkdir"]
