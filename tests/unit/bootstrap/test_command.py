# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that build: their options, output and exit status."""

import logging
from collections.abc import Iterator

import pytest

from incus_testbed.bootstrap import apt
from incus_testbed.cli import arguments, place
from incus_testbed.cli import main as module
from incus_testbed.process import signals
from tests.support.fake_incus import FakeIncus
from tests.unit.bootstrap.conftest import Machine


@pytest.fixture
def incus(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeIncus]:
    """Aim the command at a fake, and leave this process as it is."""
    fake = FakeIncus.set_up()
    monkeypatch.setattr(place, "Incus", fake.aimed)
    monkeypatch.setattr(signals, "catch", lambda *_: None)
    monkeypatch.setattr(apt, "architecture", lambda: "amd64")
    logger = logging.getLogger("incus_testbed")
    handlers, level = logger.handlers.copy(), logger.level
    yield fake
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_build(
    machine: Machine, incus: FakeIncus, capsys: pytest.CaptureFixture[str]
) -> None:
    status = module.main(
        [
            *("build", "trixie", "--arch=i386", "--components=main,contrib"),
            *("--include=hello,make", "--include", "git", "--variant=apt"),
        ]
    )

    assert (status, *capsys.readouterr()) == (
        0,
        "autopkgtest/debian/trixie/i386 is built\n",
        "",
    )
    assert incus.image("autopkgtest/debian/trixie/i386")
    assert {"--variant=apt", "--architectures=i386"} < set(machine.words)
    assert any(word.endswith(",hello,make,git") for word in machine.words)
    assert "Components: main contrib\n" in machine.read("sources")


def test_the_command_of_autopkgtests_name(
    machine: Machine,
    incus: FakeIncus,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "autopkgtest-build-incus-testbed"
    monkeypatch.setattr("sys.argv", [name, "-v", "sid", "--alias=t/a"])
    machine.write("said", "I: making\x1b it...\n")

    assert module.build() == 0

    said = capsys.readouterr()
    assert said.out == "t/a is built\n"
    assert f"{name}: making\\x1b it\n" in said.err
    assert incus.image("t/a")


def test_a_wrong_word(
    machine: Machine, incus: FakeIncus, capsys: pytest.CaptureFixture[str]
) -> None:
    status = module.main(["A/b"], arguments.builder())

    assert status == 1
    assert capsys.readouterr().err == (
        "autopkgtest-build-incus-testbed: 'A/b' is not a valid suite\n"
        "  Use one such as trixie\n"
    )
    assert machine.has_started_nothing()
    assert incus.images() == []


def test_a_machine_that_incus_does_not_run(
    machine: Machine, incus: FakeIncus, capsys: pytest.CaptureFixture[str]
) -> None:
    status = module.main(["build", "trixie", "--vm", "--arch=i386"])

    assert status == 1
    assert capsys.readouterr().err == (
        "incus-testbed: No virtual machine can be built for i386\n"
        "  They are built for amd64 and arm64.\n"
        "  Build a container, without --vm, or choose another --arch.\n"
    )
    assert machine.has_started_nothing()
    assert incus.images() == []
