# SPDX-License-Identifier: GPL-3.0-or-later
"""Each documented command is run by a trip or a test."""

import ast
import shlex

import pytest

from tests.trips import coverage, elsewhere, pages

_DOCUMENTED = pages.commands()
_RUN = coverage.RUN_BY_TRIPS.keys()
_TESTED = elsewhere.TESTED.keys()
_NOT_RUN = elsewhere.NOT_RUN.keys()


def test_each_documented_command_is_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with capsys.disabled():
        print(f"\n{coverage.summary()}")
    missing = {
        command: where
        for command, where in _DOCUMENTED.items()
        if command not in _RUN | _TESTED | _NOT_RUN
    }
    assert missing == {}, "add them to a trip in tests/trips"


def test_no_trip_runs_what_no_page_has() -> None:
    assert (_RUN | _TESTED | _NOT_RUN) - _DOCUMENTED.keys() == set()


def test_each_command_is_on_one_list() -> None:
    assert not _RUN & _TESTED
    assert not _NOT_RUN & (_RUN | _TESTED)


@pytest.mark.parametrize("command", _TESTED)
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
