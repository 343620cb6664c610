# SPDX-License-Identifier: GPL-3.0-or-later
"""The shells complete our commands with the files that the package has.

Each shell is the real one. bash and zsh run on a terminal, as for a user; fish
answers the same question by a command of its own.
"""

import io
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from tests.support import tiny_system

_ROOT = Path(__file__).resolve().parents[2]
_COMMANDS = (
    "autopkgtest-build-incus-testbed",
    "debusine-incus",
    "incus-testbed",
)
_ALIAS = "completed/alias"
#: Seconds for a shell to answer.
_LIMIT = 30.0
#: What a shell prints when it has read its configuration.
_READY = "is-ready"

_BASH = """
PS1=
source {files}/bash-completion/completions/{command}
printf 'is-%s\\n' ready
"""
_ZSH = """
PS1=
fpath=({files}/zsh/vendor-completions $fpath)
autoload -Uz compinit
compinit -u -d {files}/cache
printf 'is-%s\\n' ready
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the package's files for shells."""
    directory = tmp_path_factory.mktemp("share")
    subprocess.run(
        [_ROOT / "debian" / "completions.sh", directory, *_COMMANDS], check=True
    )
    return directory


@pytest.fixture(scope="module")
def alias(incus: Incus) -> Iterator[str]:
    """Return the alias of an image."""
    Store(incus).add(io.BytesIO(tiny_system.tarball("completed")), _ALIAS)
    yield _ALIAS
    Store(incus).remove(_ALIAS)


@pytest.fixture(autouse=True)
def path(incus: Incus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all our commands on PATH."""
    del incus
    monkeypatch.setenv("PATH", str(_ROOT / "executor"), prepend=os.pathsep)
    monkeypatch.setenv("TERM", "dumb")


def _check(shell: str, files: Path, line: str, whole: str) -> None:
    """Type a line and Tab, and wait for the last word to be whole."""
    command = line.split(maxsplit=1)[0]
    if shell == "fish":
        assert whole in _fish(files, command, line)
        return
    script = {"bash": _BASH, "zsh": _ZSH}[shell]
    argv = {"bash": ["bash", "--norc", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
    child, terminal = pty.fork()
    if not child:
        os.execvp(argv[0], argv)  # noqa: S606 - a shell is what this is about
    try:
        os.write(terminal, script.format(files=files, command=command).encode())
        _wait_for(terminal, _READY)
        os.write(terminal, f"{line}\t".encode())
        _wait_for(terminal, whole)
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def _fish(files: Path, command: str, line: str) -> str:
    script = f"{files}/fish/vendor_completions.d/{command}.fish"
    return subprocess.run(
        ["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=_LIMIT,
        check=True,
    ).stdout


def _wait_for(terminal: int, text: str) -> None:
    said = ""
    deadline = time.monotonic() + _LIMIT
    while text not in said:
        left = deadline - time.monotonic()
        assert left > 0, f"it only said {said!r}"
        if select.select([terminal], [], [], left)[0]:
            said += os.read(terminal, 4096).decode(errors="replace")


_SHELLS = pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])


@_SHELLS
@pytest.mark.parametrize(
    ("line", "whole"),
    [
        ("incus-testbed rem", "remove"),
        ("debusine-incus pu", "pull"),
        ("autopkgtest-build-incus-testbed --comp", "--components"),
    ],
)
def test_word(shell: str, files: Path, line: str, whole: str) -> None:
    _check(shell, files, line, whole)


@_SHELLS
def test_alias(shell: str, files: Path, alias: str) -> None:
    _check(shell, files, f"incus-testbed shell {alias[:-2]}", alias)
