# SPDX-License-Identifier: GPL-3.0-or-later
"""Words of images and guests do nothing to a terminal or a log."""

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incus_testbed import errors
from incus_testbed.cli import output
from incus_testbed.errors import printable

#: Sets the title, clears the screen, and turns the direction of writing.
_HOSTILE = "deb\x1b]0;owned\x07\x1b[2J\u202egpj.exe\x9b31m"


def _is_harmless(text: str) -> bool:
    return all(each.isprintable() or each in "\n\t" for each in text)


@given(st.text())
def test_printable(text: str) -> None:
    assert printable(text).isprintable()
    if text.isprintable():
        assert printable(text) == text


def test_errors(capsys: pytest.CaptureFixture[str]) -> None:
    failure = errors.BootFailed(
        f"{_HOSTILE} failed", details=f"one\r\n{_HOSTILE}", resolution=_HOSTILE
    )
    failure.details += f"\n{_HOSTILE}"

    output.error(failure)

    said = capsys.readouterr().err
    assert _is_harmless(said)
    assert _is_harmless(str(failure))
    assert failure.details.startswith("one\ndeb")


def test_a_long_console_is_cut() -> None:
    failure = errors.BootFailed("failed", details="x" * (1 << 20))
    assert len(str(failure)) < 1 << 17
    assert "more" in failure.details


def test_log(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("incus_testbed.tests")
    before = logging.getLogger("incus_testbed").handlers.copy()
    try:
        output.configure(1)
        logger.warning("%s is %s", "it", _HOSTILE)
    finally:
        logging.getLogger("incus_testbed").handlers[:] = before
    said = capsys.readouterr().err
    assert "it is deb" in said
    assert _is_harmless(said)


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("A",), [(f"{_HOSTILE}\nsecond",)])
    said = capsys.readouterr().out
    assert _is_harmless(said)
    assert said.count("\n") == 2


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [40, 80])
def test_rows_on_a_narrow_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names stay whole, nothing is cut, and words stay words."""
    alias = "autopkgtest/debian/trixie-backports/amd64"
    terminal = _Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))

    output.rows(
        "table",
        ("ALIAS", "TYPE", "LAST USED"),
        [(alias, "container", f"never{_HOSTILE}"), ("other", "x" * 30, "")],
        title="Images",
    )

    lines = terminal.getvalue().splitlines()
    assert lines[:2] == ["Images:", alias]
    assert "type container, last used never" in " ".join(
        line.strip() for line in lines
    )
    assert all(len(line) <= width or line == alias for line in lines)
    assert _is_harmless(terminal.getvalue())
