# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine whose apt and mmdebstrap are scripts."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from incus_testbed.bootstrap import proxy
from tests.support import tiny_system

_SCRIPTS = {
    "apt-get": 'cat "$there/targets"',
    "apt-helper": 'cat "$there/detected"',
    "apt-config": 'if [ $# = 1 ]; then cat "$there/dump"; else cat'
    ' "$there/settings"; fi',
    "mmdebstrap": """
        [ "$1" != --unshare-helper ] || exit "$(cat "$there/helper")"
        trap 'touch "$there/cleaned"; exit 1' TERM
        for word; do printf '%s\\n' "$word"; done >"$there/words"
        for word; do
            case $word in
                *hook=download\\ *) printf MZ >"${word##* }" ;;
            esac
        done
        env >"$there/environment"
        cat >"$there/sources"
        cat "$there/said" >&2
        cat "$there/tarball"
        while [ -e "$there/endless" ]; do sleep 0.1; done
        exit "$(cat "$there/status")"
        """,
}


@dataclass
class Machine:
    """The scripts' folder: what they print, and what they were told."""

    there: Path

    def write(self, name: str, text: str) -> Path:
        path = self.there / name
        path.write_text(text)
        return path

    def read(self, name: str) -> str:
        return (self.there / name).read_text()

    def has_sources(self, text: str, *releases: str) -> None:
        """Have apt know a deb822 file whose stanzas are for these releases."""
        path = self.write("debian.sources", text)
        self.write(
            "targets",
            "".join(
                f"Packages {release} {path}:{number}\n"
                for number, release in enumerate(releases, 1)
            ),
        )

    @property
    def words(self) -> list[str]:
        """What mmdebstrap was told."""
        return self.read("words").splitlines()

    def has_started_nothing(self) -> bool:
        return not (self.there / "words").exists()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in _SCRIPTS.items():
        path = programs / name
        path.write_text(f"#!/bin/sh\nthere={tmp_path}\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(proxy, "_HELPER", "apt-helper")
    for variable in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    for name in ("detected", "dump", "settings", "said"):
        made.write(name, "")
    for name in ("helper", "status"):
        made.write(name, "0")
    (tmp_path / "tarball").write_bytes(tiny_system.tarball())
    made.has_sources(
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n"
        "Components: main contrib\n",
        "bookworm",
    )
    return made
