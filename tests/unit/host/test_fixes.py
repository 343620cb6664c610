# SPDX-License-Identifier: GPL-3.0-or-later
"""Which versions of Incus are said to lack security fixes."""

from pathlib import Path

import pytest

from incus_testbed.host import doctor, fixes


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder on PATH that comes first."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def _program(folder: Path, name: str, said: str, status: int = 0) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\nprintf '{said}'\nexit {status}\n")
    file.chmod(0o755)


def _check(programs: Path, version: str, candidate: str = "") -> doctor.Finding:
    _program(programs, "dpkg-query", f"installed {version}")
    _program(
        programs,
        "apt-cache",
        f"incus-base:\\n  Installed: {version}\\n  Candidate: {candidate}\\n",
    )
    return fixes.check()


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("6.0.4-2+deb13u7~bpo12+1", doctor.State.WARNING),
        ("6.0.4-2+deb13u7", doctor.State.WARNING),
        ("6.0.4-2", doctor.State.WARNING),
        ("6.0.4-2+deb13u8~bpo12+1", doctor.State.GOOD),
        ("6.0.4-2+deb13u8", doctor.State.GOOD),
        ("6.0.4-2+deb13u12", doctor.State.GOOD),
        ("6.0.5-1", doctor.State.WARNING),
        ("7.0.0-3", doctor.State.WARNING),
        ("7.0.0-4~bpo13+1", doctor.State.GOOD),
        ("7.0.2-3", doctor.State.GOOD),
        ("1:6.0.4-debian12-202501010000", doctor.State.UNKNOWN),
        ("6.0.0-1ubuntu0.1", doctor.State.UNKNOWN),
    ],
)
def test_version(programs: Path, version: str, state: doctor.State) -> None:
    assert _check(programs, version).state is state


def test_upgrade_where_there_is_one(programs: Path) -> None:
    finding = _check(programs, "6.0.4-2+deb13u7", "6.0.4-2+deb13u12")
    assert "--only-upgrade" in finding.advice


@pytest.mark.parametrize("candidate", ["6.0.4-2+deb13u7~bpo12+1", "(none)", ""])
def test_no_upgrade_is_not_promised(programs: Path, candidate: str) -> None:
    finding = _check(programs, "6.0.4-2+deb13u7~bpo12+1", candidate)
    assert "apt knows of no fixed version" in finding.advice
    assert "--only-upgrade" not in finding.advice


@pytest.mark.parametrize(
    ("said", "status"),
    [("not-installed ", 0), ("config-files 6.0.4-2", 0), ("", 1)],
)
def test_not_the_package(programs: Path, said: str, status: int) -> None:
    _program(programs, "dpkg-query", said, status)
    assert fixes.check().state is doctor.State.UNKNOWN


def test_not_debian(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fixes.check().state is doctor.State.UNKNOWN
