# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports run one way: debusine_incus -> incus_testbed -> the incus command.

Inside incus_testbed each folder imports only from folders above it here.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_CORE = _ROOT / "virt" / "incus_testbed"
_FILES = sorted(path.relative_to(_CORE) for path in _CORE.rglob("*.py"))

#: Folders on one line do not import from each other.
_ORDER = (
    ("errors",),
    ("limits", "process"),
    ("firewall", "system"),
    ("customise", "incus"),
    ("ownership",),
    ("image", "instance"),
    ("cleanup", "host"),
    ("bootstrap",),
    ("refresh",),
    ("cli",),
    ("virt_server",),
    ("__main__",),
)
_LEVEL = {folder: level for level, line in enumerate(_ORDER) for folder in line}


def _folder(file: Path) -> str:
    return file.parts[0].removesuffix(".py")


def _imports(file: Path) -> Iterator[str]:
    """Yield each thing that a file of the core imports, by its full name."""
    package = ("incus_testbed", *file.parent.parts)
    for node in ast.walk(ast.parse((_CORE / file).read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            kept = package[: len(package) + 1 - node.level]
            parts = [*(kept if node.level else ()), node.module or ""]
            base = ".".join(filter(None, parts))
            yield from (f"{base}.{name.name}" for name in node.names)


def _importers(package: str) -> set[str]:
    return {
        str(file)
        for file in _FILES
        if any(f"{name}.".startswith(f"{package}.") for name in _imports(file))
    }


def _containing(pattern: str) -> set[str]:
    return {
        str(file)
        for file in _FILES
        if re.search(pattern, (_CORE / file).read_text())
    }


@pytest.mark.parametrize(
    "file", [file for file in _FILES if str(file) != "__init__.py"], ids=str
)
def test_imports_come_from_below(file: Path) -> None:
    mine = _folder(file)
    used = {
        parts[1]
        for name in _imports(file)
        if (parts := name.split("."))[0] == "incus_testbed"
    }
    above = {
        folder
        for folder in used - {mine, "__version__"}
        if _LEVEL[folder] >= _LEVEL[mine]
    }
    assert above == set()


def test_each_folder_has_a_place_in_the_order() -> None:
    assert {_folder(file) for file in _FILES} == {*_LEVEL, "__init__"}


@pytest.mark.parametrize("package", ["debusine", "debusine_incus", "tests"])
def test_core_stands_alone(package: str) -> None:
    assert _importers(package) == set()


def test_what_is_started_for_each_command_imports_nothing_of_ours() -> None:
    ours = "incus_testbed.incus.exec"
    for file in _FILES:
        if file.is_relative_to("incus/exec"):
            assert all(
                name.startswith(ours)
                for name in _imports(file)
                if name.startswith("incus_testbed")
            ), file


def test_each_foreign_thing_has_one_door() -> None:
    assert _importers("sh") == {"process/programs.py"}
    assert _importers("VirtSubproc") == {"virt_server/protocol.py"}
    assert _containing(
        r"(?m)^[^#\"`]*\bsubprocess\.(run|Popen|call|check)\("
    ) == {"process/programs.py"}


def test_only_the_command_line_prints() -> None:
    assert _containing(r"(?m)^\s*print\(") == {
        "cli/gc.py",
        "cli/listing.py",
        "cli/machine.py",
        "cli/output.py",
    }
