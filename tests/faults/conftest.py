# SPDX-License-Identifier: GPL-3.0-or-later
"""An Incus that may be killed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.private_incus import PrivateIncus
from tests.faults.private_incus import private_incus as prepared


@pytest.fixture(scope="package")
def private_incus(
    bookworm_tarball: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrivateIncus]:
    """Give operations to cut short."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a private Incus")
    with prepared(bookworm_tarball, tmp_path_factory.mktemp("faults")) as made:
        yield made
