# SPDX-License-Identifier: GPL-3.0-or-later
"""The manual pages tell every command and option."""

import importlib
import re
from pathlib import Path

import pytest

from docs.manual import make
from incus_testbed.cli import arguments

_PAGES = sorted((Path(make.__file__).parent).glob("*.1.in"))


def _text(page: Path) -> str:
    return re.sub(r"\\f[BIR]|\\&", "", make.page(page.read_text())).replace(
        r"\-", "-"
    )


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_every_option_is_told(page: Path) -> None:
    module, function = page.read_text().split("\n")[0].split()[1].split(":")
    parser = getattr(importlib.import_module(module), function)()

    text = _text(page)

    told = set(re.findall(r"--[\w-]+", text.partition("\n.SH OPTIONS\n")[2]))
    known = set(re.findall(r"--[\w-]+", parser.format_help()))
    assert known - {"--help"} <= told
    assert not re.search(r"(?m)^@|@$", text)


def test_every_command_is_told() -> None:
    text = _text(Path(make.__file__).with_name("incus-testbed.1.in"))

    for name in re.findall(
        r"(?m)^    (\w+) ", arguments.parser().format_help()
    ):
        assert f"\n.SS {name}\n" in text
