# SPDX-License-Identifier: GPL-3.0-or-later
"""Each documented command is run by a trip or a test."""

import ast
import shlex

import pytest

from tests.trips import coverage, elsewhere, pages
from tests.trips.elsewhere import Runner

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
        if command not in _RUN | coverage.RUN_BY_TESTS.keys() | _NOT_RUN
    }
    assert missing == {}, "add them to a trip in tests/trips"


def test_no_trip_runs_what_no_page_has() -> None:
    assert (_RUN | _TESTED | _NOT_RUN) - _DOCUMENTED.keys() == set()


def test_each_command_is_on_one_list() -> None:
    assert not _RUN & _TESTED
    assert not _NOT_RUN & (_RUN | coverage.RUN_BY_TESTS.keys())


@pytest.mark.parametrize("command", _TESTED)
def test_other_tests_have_the_commands_words(command: str) -> None:
    test = elsewhere.TESTED[command]
    function = _source(test)
    for word, value in test.values.items():
        command = command.replace(word, value)
    assert [word for word in shlex.split(command) if word not in function] == []


def test_sections_that_other_tests_read_are_named_in_these() -> None:
    places = {block.place for block in pages.blocks()}
    for place, test in elsewhere.READ.items():
        page, _, section = place.partition(": ")
        source = (pages.ROOT / test.file).read_text()
        assert _source(test)
        assert place in places
        assert f'"{page.rpartition("/")[2]}"' in source
        assert f'"{section}"' in source


def _source(test: Runner) -> str:
    """Return the source of a test's function."""
    tree = ast.parse((pages.ROOT / test.file).read_text())
    (function,) = (
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == test.function
    )
    return function
