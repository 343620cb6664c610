# SPDX-License-Identifier: GPL-3.0-or-later
"""A fake Incus whose guests have apt and tar."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from incus_testbed.instance import scripts
from incus_testbed.instance.instance import Instance
from incus_testbed.process.programs import Completed
from incus_testbed.refresh import upgrade
from tests.support import tiny_system
from tests.support.fake_incus import FakeIncus
from tests.unit.bootstrap.conftest import machine

__all__ = ["machine"]

_SCRIPTS = {scripts.command(name)[2]: name for name in ("apt.sh", "forget.sh")}


class GuestIncus(FakeIncus):
    """It knows what is run in its guests, and lets some of it fail.

    A guest's tarball is that of tests/support/tiny_system.py.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.system = tiny_system.tarball("new")
        self.folder = Path()
        #: The scripts that were run in guests, with their arguments.
        self.ran: list[list[str]] = []
        #: What fails: the first argument of a script, or its name.
        self.failing = ""
        self.before_each: Callable[[], object] = lambda: None

    def execute(
        self,
        name: str,
        command: Sequence[str],
        **options: object,
    ) -> Completed:
        del options
        assert self.instance(name).status == "Running"
        self.before_each()
        words = [_SCRIPTS[command[2]], *command[4:]]
        self.ran.append(words)
        return Completed(
            argv=tuple(command),
            status=100 if self.failing in words else 0,
            stdout=b"E: the mirror\x1b[1m is away" if self.failing else b"",
            stderr="",
        )

    def exec_argv(
        self, name: str, command: Sequence[str], **_: object
    ) -> list[str]:
        """Return what writes the tarball, whatever the command is."""
        del name
        tarball = self.folder / "tarball"
        tarball.write_bytes(self.system)
        status = 2 if self.failing == command[3] else 0
        script = f"cat {shlex.quote(str(tarball))}; echo no >&2; exit {status}"
        return ["sh", "-c", script]

    @property
    def verbs(self) -> list[str]:
        return [words[1] for words in self.ran if words[0] == "apt.sh"]


@pytest.fixture
def incus(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> GuestIncus:
    made = GuestIncus.set_up()
    made.folder = tmp_path_factory.mktemp("guest")
    monkeypatch.setattr(Instance, "wait_ready", lambda _: None)
    monkeypatch.setattr(upgrade, "proxies", lambda _: {"http": "http://p:1"})
    monkeypatch.setenv("XDG_CACHE_HOME", str(made.folder))
    return made
