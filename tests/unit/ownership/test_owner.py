# SPDX-License-Identifier: GPL-3.0-or-later
"""An owner is one process, and known to be gone only when it is."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incus_testbed.ownership.owner import Owner


def _owner_of_child() -> tuple["subprocess.Popen[str]", Owner]:
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from incus_testbed.ownership.owner import Owner;"
            "print(Owner.current(), flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout
    owner = Owner.parse(child.stdout.readline().strip())
    assert owner
    return child, owner


def test_survives_being_written_and_read() -> None:
    owner = Owner.current()
    assert Owner.parse(str(owner)) == owner


def test_this_process_is_here() -> None:
    assert not Owner.current().is_gone(only_here=lambda: True)


def test_killed_process_is_gone_also_while_a_zombie() -> None:
    child, owner = _owner_of_child()
    try:
        assert not owner.is_gone(only_here=lambda: True)
        child.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert owner.is_gone(only_here=lambda: True)
    finally:
        child.communicate()
    assert owner.is_gone(only_here=lambda: True)


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        ({"started": 1}, True),  # the pid was used again
        ({"boot": "0000"}, True),  # the machine was booted again
        ({"boot": "0000", "host": "0" * 32}, False),
        ({"started": 1, "pid_namespace": 1}, False),
    ],
)
def test_what_can_be_judged(change: dict[str, object], gone: bool) -> None:
    owner = dataclasses.replace(Owner.current(), **change)  # type: ignore[arg-type]
    assert owner.is_gone(only_here=lambda: True) is gone


@given(st.text())
def test_other_text_is_no_owner(text: str) -> None:
    owner = Owner.parse(text)
    assert owner is None or Owner.parse(str(owner)) == owner


def test_a_text_of_another_machine_tells_only_that_it_is_another() -> None:
    owner = Owner.parse(f"{'0' * 32}.{'1' * 80}")
    assert owner == Owner(host="0" * 32)
    assert not owner.is_gone(only_here=lambda: True)


def test_a_changed_text_is_no_owner() -> None:
    text = str(Owner.current())
    last = "0" if text[-1] != "0" else "1"
    assert Owner.parse(text[:-1] + last) is None


def test_the_text_tells_nothing_of_this_machine() -> None:
    owner = Owner.current()
    text = str(owner)
    for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        secret = Path(path).read_text().strip()
        assert secret not in text
        assert secret.replace("-", "") not in text
    # A pid is short, and is found in any text by chance: two texts that
    # differ in nothing else have nothing in common.
    other = str(dataclasses.replace(owner, pid=owner.pid ^ 1))
    ours, theirs = (each.partition(".")[2] for each in (text, other))
    equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
    assert equal < len(ours) / 3


def test_a_clone_of_this_machine_is_another() -> None:
    """A clone has our machine-id, and a boot of its own."""
    clone = dataclasses.replace(Owner.current(), boot="0000")
    assert not clone.is_gone(only_here=lambda: False)
    assert clone.is_gone(only_here=lambda: True)


# Another user may not be able to read this checkout.  The group of root is one
# that hidepid hides nothing from.
_LOOK = """
import os
import sys
from incus_testbed.ownership.owner import Owner
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
owner = Owner.parse(sys.argv[1])
print(owner.is_gone(only_here=lambda: True))
"""


def _seen_by_nobody(owner: Owner, hidepid: int) -> str:
    """Ask another user, whose /proc hides this one's processes."""
    mount = f"mount -t proc -o hidepid={hidepid} proc /proc"
    return subprocess.run(
        [
            *("unshare", "--mount", "sh", "-euc"),
            f'{mount}\nexec "$@"',
            *("sh", "/usr/bin/python3", "-c", _LOOK, str(owner)),
        ],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()


def test_a_text_that_is_half_a_byte_short_is_no_owner() -> None:
    assert Owner.parse(str(Owner.current())[:-1]) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount /proc")
@pytest.mark.parametrize("hidepid", [1, 2])
def test_a_process_that_can_not_be_seen_is_not_gone(hidepid: int) -> None:
    child, owner = _owner_of_child()
    try:
        assert _seen_by_nobody(owner, hidepid) == "False"
    finally:
        child.kill()
        child.communicate()
    assert _seen_by_nobody(owner, hidepid) == "True"
