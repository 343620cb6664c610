# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker and the programs of its tasks use one Incus."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from debusine.worker.config import ConfigHandler

from debusine_incus import children


@pytest.fixture
def configure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., None]:
    """Return what gives a worker variables below [Environment].

    It is a worker of Debusine 0.14.10 or later, whatever is installed.
    """

    def write(**settings: str) -> None:
        monkeypatch.setattr(
            ConfigHandler, "default_directories", [str(tmp_path)]
        )
        monkeypatch.setattr(
            ConfigHandler, "environment", settings, raising=False
        )
        (tmp_path / "config.ini").write_text("[General]\n")

    return write


def test_nothing_is_set(configure: Callable[..., None]) -> None:
    configure()
    assert children.obstacle({"PATH": "/bin", "HOME": "/nonexistent"}) is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("INCUS_SOCKET", "/run/other.socket"),
        ("INCUS_DIR", "/srv/incus"),
    ],
)
def test_what_only_the_worker_has(
    configure: Callable[..., None], variable: str, value: str, tmp_path: Path
) -> None:
    configure()
    reason = children.obstacle({variable: value})
    assert reason
    assert f"{variable} = {value}" in reason
    assert f"[Environment] in {tmp_path}/config.ini" in reason

    configure(**{variable: value})
    assert children.obstacle({variable: value}) is None


def test_other_certificate_for_the_same_remote(
    configure: Callable[..., None], tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("theirs", "ours")]
    for folder in folders:
        folder.mkdir()
        text = "remotes: {far: {addr: 'https://far.example:8443'}}"
        (folder / "config.yml").write_text(text)
    theirs, ours = map(str, folders)
    configure(INCUS_CONF=theirs, INCUS_REMOTE="far")
    reason = children.obstacle({"INCUS_CONF": ours, "INCUS_REMOTE": "far"})
    assert reason
    assert f"far.example:8443 by {theirs}/client.key" in reason
    assert f"far.example:8443 by {ours}/client.key" in reason


def test_a_remote_that_only_the_worker_knows(
    configure: Callable[..., None], tmp_path: Path
) -> None:
    configure()
    (tmp_path / "config.yml").write_text(
        "remotes: {far: {addr: 'https://far.example:8443', keepalive: 30}}"
    )
    ours = {"INCUS_CONF": str(tmp_path), "INCUS_REMOTE": "far"}
    reason = children.obstacle(ours)
    assert reason
    assert f"INCUS_CONF = {tmp_path}" in reason

    configure(INCUS_CONF=str(tmp_path))
    assert children.obstacle(ours) is None
    assert children.options(ours) == ["--remote=far"]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({}, {}, []),
        ({"INCUS_PROJECT": "one"}, {}, ["--project=one"]),
        ({"INCUS_PROJECT": "one"}, {"INCUS_PROJECT": "one"}, []),
        ({}, {"INCUS_PROJECT": "one"}, ["--project=default"]),
        (
            {"INCUS_REMOTE": "far", "INCUS_PROJECT": "one"},
            {},
            ["--remote=far", "--project=one"],
        ),
        ({}, {"INCUS_REMOTE": "far"}, ["--remote=local"]),
    ],
)
def test_the_place_is_on_the_command_line_where_it_would_be_another(
    configure: Callable[..., None],
    ours: dict[str, str],
    theirs: dict[str, str],
    expected: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    configure(**theirs)
    assert children.obstacle(ours) is None
    assert children.options(ours) == expected
    assert not caplog.messages


def test_a_time_limit_that_the_programs_do_not_get_is_told(
    configure: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    configure()
    assert children.obstacle({"INCUS_TESTBED_BOOT_LIMIT": "300"}) is None
    assert "INCUS_TESTBED_BOOT_LIMIT = 300" in caplog.text


def test_who_has_no_configuration_is_no_worker(
    configure: Callable[..., None], tmp_path: Path
) -> None:
    configure()
    (tmp_path / "config.ini").unlink()
    assert children.obstacle({"INCUS_SOCKET": "/elsewhere"}) is None
    assert children.options({"INCUS_PROJECT": "elsewhere"}) == []


def test_up_to_debusine_0_14_9_they_inherit_all(
    configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure()
    monkeypatch.delattr(ConfigHandler, "environment")
    assert children.obstacle({"INCUS_SOCKET": "/elsewhere"}) is None
    assert children.options({"INCUS_PROJECT": "elsewhere"}) == []
