# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of the incus command says what YAML says it does."""

import random
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from incus_testbed.incus import configuration

_USUAL = """\
default-remote: farm
remotes:
  farm:
    addr: https://192.0.2.1:8443
    auth_type: tls
    project: default
    protocol: incus
    public: false
  images:
    addr: https://images.linuxcontainers.org
    protocol: simplestreams
    public: true
  local:
    addr: unix://
    protocol: incus
    public: false
aliases: {}
"""
#: Parts of lines, and parts that YAML has rules for.
_INDENTS = ("", "", "  ", "  ", "    ", "    ", " ", "\t", "- ")
_KEYS = ("a", "b", "addr", "c-d", "no", "null", "true", "e f", "1", '"q"')
_VALUES = (
    *("", "", "", " x", " unix://", " https://h:1", " https://h:", " {}"),
    *(" true", " no", " null", " ~", " 1", " 1.5", " 'q'", " a b", " x # y"),
    *(" x: y", " [z]", " |", " &x", " *x", " x ", " y", " 2001-01-01", "x"),
)


def _read(folder: Path, text: str | bytes) -> Any:
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "config.yml").write_bytes(data)
    return configuration.read(folder)


def _by_yaml(text: str) -> Any:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    return document if isinstance(document, dict) else None


def test_what_incus_writes_is_read_without_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules: dict[str, Any] = sys.modules
    monkeypatch.setitem(modules, "yaml", None)
    assert _read(tmp_path, _USUAL) == _by_yaml(_USUAL)


def test_what_has_changed_is_read_again(tmp_path: Path) -> None:
    assert _read(tmp_path, "default-remote: one\n") == {"default-remote": "one"}
    assert _read(tmp_path, "default-remote: two\n") == {"default-remote": "two"}


def test_there_is_none(tmp_path: Path) -> None:
    assert configuration.read(tmp_path) is None


@pytest.mark.parametrize("text", ["", "\n", "text\n", "- a\n", b"\xff: a\n"])
def test_what_is_no_mapping(tmp_path: Path, text: str | bytes) -> None:
    assert _read(tmp_path, text) is None


@pytest.mark.parametrize("seed", range(4))
def test_all_else_is_what_yaml_says(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    mappings = 0
    for _ in range(500):
        text = "".join(
            f"{chance.choice(_INDENTS)}{chance.choice(_KEYS)}:"
            f"{chance.choice(_VALUES)}\n"
            for _ in range(chance.randint(1, 4))
        )
        said = _by_yaml(text)
        # As text: a document may hold itself.
        assert repr(_read(tmp_path, text)) == repr(said), text
        mappings += said is not None
    assert mappings > 50
