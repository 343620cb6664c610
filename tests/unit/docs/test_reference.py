# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference has each command, key and variable of the code; no other."""

import re
from dataclasses import fields
from pathlib import Path

from incus_testbed.cli import arguments
from incus_testbed.limits import budget
from tests.trips import pages

_REFERENCE = pages.ROOT / "docs/reference"
_KEYS = (_REFERENCE / "keys.md").read_text()
_COMMANDS = (_REFERENCE / "commands.md").read_text()

_KEY = re.compile(
    r"[\"`](user\.incus-testbed\.[a-z-]+|incus-testbed\.[a-z0-9-]+)"
)
_VARIABLE = re.compile(
    r"[\"`]((?:INCUS_TESTBED|DEBUSINE_INCUS)_[A-Z_]*[A-Z])[\"`]"
)


def _code() -> str:
    folders = (pages.ROOT / name for name in ("virt", "executor"))
    files = (file for folder in folders for file in folder.rglob("*.py"))
    return "\n".join(map(Path.read_text, files))


def test_each_key_is_told() -> None:
    assert set(_KEY.findall(_KEYS)) == set(_KEY.findall(_code()))


def test_each_variable_is_told() -> None:
    told = set(_VARIABLE.findall(_COMMANDS))
    assert told == set(_VARIABLE.findall(_code()))


def test_each_limit_is_told() -> None:
    manual = (pages.ROOT / "docs/manual/incus-testbed.1.in").read_text()
    for field in fields(budget.Budget):
        assert budget.variable(field.name) in manual


def test_each_command_is_told() -> None:
    for name in re.findall(
        r"(?m)^    (\w+) ", arguments.parser().format_help()
    ):
        assert f"`incus-testbed {name}`" in _COMMANDS
