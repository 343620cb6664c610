# SPDX-License-Identifier: GPL-3.0-or-later
"""Each documented command is run by a trip or a test."""

import ast
import shlex

import pytest

from tests.trips import TRIPS, elsewhere, pages

_DOCUMENTED = pages.commands()
_STEPS = {command for trip in TRIPS for command in trip.commands}


def test_each_documented_command_is_run() -> None:
    run = _STEPS | elsewhere.TESTED.keys() | elsewhere.NOT_RUN.keys()
    print(
        f"{len(_DOCUMENTED)} documented commands:"
        f" {len(_STEPS)} run by trips,"
        f" {len(elsewhere.TESTED.keys() - _STEPS)} by other tests,"
        f" {len(elsewhere.NOT_RUN)} not run"
    )
    missing = {
        command: where
        for command, where in _DOCUMENTED.items()
        if command not in run
    }
    assert missing == {}, "add them to a trip in tests/trips"


def test_no_trip_runs_what_no_page_has() -> None:
    known = _STEPS | elsewhere.TESTED.keys() | elsewhere.NOT_RUN.keys()
    assert known - _DOCUMENTED.keys() == set()


def test_what_is_run_is_not_said_to_be_run_elsewhere() -> None:
    assert elsewhere.NOT_RUN.keys() & _STEPS == set()
    assert elsewhere.NOT_RUN.keys() & elsewhere.TESTED.keys() == set()


@pytest.mark.parametrize("command", elsewhere.TESTED)
def test_other_tests_have_the_commands_words(command: str) -> None:
    test = elsewhere.TESTED[command]
    source = (pages.ROOT / test.file).read_text()
    (function,) = (
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == test.function
    )
    for word, value in test.values.items():
        command = command.replace(word, value)
    assert [word for word in shlex.split(command) if word not in function] == []
