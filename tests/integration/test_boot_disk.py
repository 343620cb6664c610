# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of a disk boots by EFI, and starts an agent it does not hold."""

import platform
from pathlib import Path

import pytest

from incus_testbed.customise import vm
from tests.support import disks, emulation
from tests.support.conversion import convert
from tests.support.images import ImageError

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="disks are made for amd64 only"
)

#: Seconds; a tenth of it will do on an idle machine with two processors.
_LIMIT = 400.0


@pytest.mark.parametrize(
    ("suite", "credential"),
    [
        ("trixie", "systemd.extra-unit.incus-agent.service"),
        ("bookworm", "tmpfiles.extra"),
    ],
)
def test_boot(suite: str, credential: str, tmp_path: Path) -> None:
    image = tmp_path / "image"
    try:
        with (
            disks.build(suite).open("rb") as source,
            image.open("w+b") as result,
        ):
            made = convert(source, result, additions=lambda _: (), date=0)
        assert made.disk
        told = vm.configuration(vm.properties(made.disk))
        assert any(key.endswith(f":{credential}") for key in told)
        with emulation.booted(image, told) as console:
            console.wait(emulation.STARTED, "login:", timeout=_LIMIT)
    except ImageError as error:
        pytest.skip(str(error))
