# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands are read out of blocks, one by one."""

import pytest

from tests.trips import pages


@pytest.mark.parametrize(
    ("block", "commands"),
    [
        ("make\n# a comment\n\nmake test  # another\n", ["make", "make test"]),
        ("sbuild \\\n    --verbose\nid\n", ["sbuild --verbose", "id"]),
        (
            "cat >x <<EOF\na\n\n# b\nEOF\nid\n",
            ["cat >x <<EOF\na\n\n# b\nEOF", "id"],
        ),
        ("cat <<'END'\nEND\n", ["cat <<'END'\nEND"]),
    ],
)
def test_commands(block: str, commands: list[str]) -> None:
    assert list(pages.commands_in(block)) == commands


def test_examples_of_manual_pages_are_read_without_their_escapes() -> None:
    known = pages.commands()["incus-testbed run trixie -- cat /etc/os-release"]

    assert "docs/manual/incus-testbed.1.in" in known
    assert "docs/tutorial/first-package.md: Make an image" in known
