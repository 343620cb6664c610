# SPDX-License-Identifier: GPL-3.0-or-later
"""A server gets images that it has a program for."""

from collections.abc import Sequence

import pytest

from incus_testbed import errors
from incus_testbed.image import unpacking
from incus_testbed.incus.location import Choice
from tests.support.fake_incus import FakeIncus


class _Far(FakeIncus):
    """A server on another machine, without some programs."""

    def __init__(self, lacking: Sequence[str] = ()) -> None:
        super().__init__()
        self.lacking = list(lacking)

    def is_local(self) -> bool:
        """Be elsewhere."""
        return False

    def choice(self) -> Choice:
        """Return what the user would have chosen."""
        return Choice("far", "default", None)

    def check_unpacks(self, archive: str) -> None:
        """Ask for one program after the other."""
        with open(archive, "rb") as file:  # noqa: PTH123
            head = file.read(2)
        program = "gzip" if head == b"\x1f\x8b" else "zstd"
        if program in self.lacking:
            raise errors.MissingProgram(program)


@pytest.mark.parametrize(
    ("lacking", "program"),
    [
        ([], "zstd"),
        (["gzip"], "zstd"),
        (["zstd"], "gzip"),
        (["zstd", "gzip"], "xz"),
    ],
)
def test_a_remote_gets_what_it_can_unpack(
    lacking: list[str], program: str
) -> None:
    assert unpacking.form(_Far(lacking), {}).program == program


@pytest.mark.parametrize("incus", [FakeIncus(), _Far(["gzip"])])
def test_only_one_member_of_a_cluster_could_answer(incus: FakeIncus) -> None:
    environment = {"server_clustered": True}
    assert unpacking.form(incus, environment).program == "gzip"


def test_this_machine_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeIncus, "run", None)
    assert unpacking.form(FakeIncus(), {}).program == "zstd"
