# SPDX-License-Identifier: GPL-3.0-or-later
"""An owner is one process, and known to be gone only when it is."""

import dataclasses
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incus_testbed.owner import Owner


def _owner_of_child() -> tuple["subprocess.Popen[str]", Owner]:
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from incus_testbed.owner import Owner;"
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
    assert not Owner.current().is_gone()


def test_killed_process_is_gone_also_while_a_zombie() -> None:
    child, owner = _owner_of_child()
    try:
        assert not owner.is_gone()
        child.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert owner.is_gone()
    finally:
        child.communicate()
    assert owner.is_gone()


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        ({"started": 1}, True),  # the pid was used again
        ({"boot": "0000"}, True),  # the machine was booted again
        ({"boot": "0000", "host": "elsewhere"}, False),
        ({"started": 1, "pid_namespace": 1}, False),
    ],
)
def test_what_can_be_judged(change: dict[str, object], gone: bool) -> None:
    owner = dataclasses.replace(Owner.current(), **change)  # type: ignore[arg-type]
    assert owner.is_gone() is gone


@given(st.text())
def test_other_text_is_no_owner(text: str) -> None:
    owner = Owner.parse(text)
    assert owner is None or str(owner).count("/") == 4
