# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports go debusine_incus -> incus_testbed -> the incus command."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_CORE = sorted((_ROOT / "virt").rglob("*.py"))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def _importers(name: str) -> set[str]:
    return {
        path.name
        for path in _CORE
        if any(
            module == name or module.startswith(f"{name}.")
            for module in _imports(path)
        )
    }


def _containing(pattern: str) -> set[str]:
    return {path.name for path in _CORE if re.search(pattern, path.read_text())}


@pytest.mark.parametrize("package", ["debusine", "debusine_incus", "tests"])
def test_core_stands_alone(package: str) -> None:
    assert _importers(package) == set()


def test_each_foreign_thing_has_one_door() -> None:
    assert _importers("sh") == {"process.py"}
    assert _importers("VirtSubproc") == {"protocol.py"}
    assert _containing(
        r"(?m)^[^#\"`]*\bsubprocess\.(run|Popen|call|check)\("
    ) == {"process.py"}


def test_only_the_command_line_prints() -> None:
    assert _containing(r"(?m)^\s*print\(") == {"cli.py", "reporting.py"}
