# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks in the shapes of other people's: what an import makes of them.

Those that are not refused boot by EFI in a machine that QEMU emulates, one at a
time.  With WRITE_TABLES=1 the table in docs/howto/other-images.md is written
from what was seen.
"""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from incus_testbed.customise import vm
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from incus_testbed.instance.plan import Plan
from tests.support import disk_shapes, emulation, table
from tests.support.debusine_disk import DebusineDisk

SHAPES = {
    **disk_shapes.SHAPES,
    "Debusine 13": DebusineDisk(suite="trixie"),
}
PAGE = Path(__file__).resolve().parents[2] / "docs/howto/other-images.md"

#: Seconds for an import; to boot.
_LIMIT = 600
_BOOT_LIMIT = 1800.0

#: In what a DHCP client calls itself: a card's address follows (RFC 8415).
_BY_CARD = "00030001"

_HEADINGS = (
    "| disk | testbed | Incus' agent is started by | Secure Boot"
    " | the card's owner | state | agent after | ready after |"
)
_ROWS: list[list[str]] = []


@pytest.fixture(autouse=True)
def _table() -> Iterator[None]:
    """Write the row of a disk as soon as it is known; the others take long."""
    yield
    table.update(PAGE, "disks", _HEADINGS, _ROWS, list(SHAPES))


@pytest.fixture
def alias(incus: Incus) -> Iterator[str]:
    """Give a name, of whose image nothing is left."""
    name = "test/other-disk"
    yield name
    if Store(incus).find(name):
        Store(incus).remove(name)


def _said(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    assert found, text[-3000:]
    return found[1].strip()


@pytest.mark.parametrize("name", SHAPES)
def test_disk(name: str, incus: Incus, alias: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    disk = tmp_path / "disk"
    shape.write(disk)
    done = subprocess.run(
        ["incus-testbed", "import", str(disk), f"--alias={alias}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=_LIMIT,
        text=True,
    )
    disk.unlink()
    print(done.stdout + done.stderr)
    if shape.refusal:
        assert done.returncode == 1
        assert shape.refusal in done.stderr
        assert Store(incus).find(alias) is None
        _ROWS.append([name, f"refused: {shape.refusal}", *[""] * 6])
        return
    assert done.returncode == 0
    assert shape.warning in done.stderr
    assert bool(shape.warning) == bool(done.stderr)
    image = incus.image(alias)
    plan = Plan.of(incus, alias, ())
    incus.run("image", "export", alias, str(tmp_path / "image"), timeout=_LIMIT)

    with emulation.booted(
        tmp_path / "image.root",
        plan.config,
        cdrom="agent" in plan.devices,
        steady=True,
    ) as console:
        console.wait(emulation.STARTED, timeout=_BOOT_LIMIT)
        console.wait(emulation.CARD, timeout=_BOOT_LIMIT)
        time.sleep(1)
        text = console.text()

    failed = _said(text, r"units that failed: (.*)")
    state = _said(text, r"the system is (\w+)")
    assert failed == shape.fails, text[-3000:]
    assert state == ("degraded" if failed else "running")
    assert _said(text, "addresses: (.*)") == "1"
    if vm.LEASE in image.properties:
        assert _BY_CARD in _said(text, r"asked as:(.*)")
    owner = _said(text, r"the card belongs to:(.*)\.")
    assert owner in {"networkd", "NetworkManager", "ifupdown"}
    secure = _said(text, "secure boot: (.*)") == "1"
    assert secure == (plan.config.get("security.secureboot") != "false")
    _ROWS.append(
        [
            name,
            "yes",
            image.properties[vm.AGENT],
            "on" if secure else "off",
            owner,
            f"{state}: {failed}" if failed else state,
            f"{_said(text, 'agent after: (.*)')} s",
            f"{_said(text, 'ready after: (.*)')} s",
        ]
    )
