# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may remove which image when: real processes on a real Incus."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from incus_testbed import errors
from incus_testbed.cleanup import eviction, garbage
from incus_testbed.image import properties
from incus_testbed.image.labels import Labels
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Image
from incus_testbed.instance.instance import Instance
from incus_testbed.ownership import claim, lease
from tests.support import tiny_system

from .conftest import Cli

EVICTABLE = Labels(evictable=True)
_LIMIT = 300

_HOLDER = """
import sys
from incus_testbed.incus.client import Incus
from incus_testbed.ownership import lease
lease.take(Incus(), sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""

#: Wants an image again and again, and looks whether it stays while leased.
_USER = """
import io
import random
import sys
import time
from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.ownership import lease
from incus_testbed.image.labels import Labels
from incus_testbed.image.store import Store
from tests.support import tiny_system
incus, alias, made, lost = Incus(), sys.argv[1], 0, 0
for _ in range(int(sys.argv[2])):
    while True:
        source = io.BytesIO(tiny_system.tarball())
        made += Store(incus).add(source, alias, label=Labels(evictable=True))
        try:
            held = lease.take(incus, alias)
            break
        except errors.NotFound:
            pass
    for _ in range(3):
        time.sleep(random.random() * 0.05)
        image = Store(incus).find(alias)
        lost += image is None or image.fingerprint != held.image.fingerprint
    held.release()
    time.sleep(random.random() * 0.6)
print(made, lost)
"""

_EVICTOR = """
import random
import sys
import time
from incus_testbed.incus.client import Incus
from incus_testbed.cleanup import eviction
while True:
    eviction.evict(Incus(), keep=0, max_bytes=0)
    time.sleep(random.random() * 0.05)
"""


@pytest.fixture(autouse=True)
def _clean(incus: Incus) -> Iterator[None]:
    yield
    garbage.relinquish(incus)
    for image in incus.images():
        if any(name.startswith("tarball/") for name in image.aliases):
            incus.delete_image(image.fingerprint)
    garbage.collect(incus)
    assert not any(image.claims for image in incus.images())


def python(
    script: str, *arguments: str, **environment: str
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            **environment,
        },
    )


def add(incus: Incus, name: str, label: Labels = EVICTABLE) -> Image:
    alias = f"tarball/{name}"
    source = io.BytesIO(tiny_system.tarball(name))
    Store(incus).add(source, alias, label=label)
    image = Store(incus).find(alias)
    assert image
    return image


def tiny(incus: Incus) -> set[str]:
    return {
        alias.removeprefix("tarball/")
        for image in incus.images()
        for alias in image.aliases
        if alias.startswith("tarball/")
    }


def test_oldest_go_first_until_both_bounds_are_kept(incus: Incus) -> None:
    images = [add(incus, name) for name in "abcd"]
    assert not eviction.evict(incus, keep=4, max_bytes=1 << 30)
    gone = eviction.evict(incus, keep=3, max_bytes=1 << 30)
    assert [image.aliases for image in gone] == [("tarball/a",)]
    most = sum(map(properties.disk_use, images[2:]))
    eviction.evict(incus, keep=4, max_bytes=most)
    assert tiny(incus) == {"c", "d"}


def test_launch_counts_as_use(incus: Incus) -> None:
    for name in "ab":
        add(incus, name)
    incus.run("init", "tarball/a", "made-from-a")
    incus.delete("made-from-a")
    eviction.evict(incus, keep=1, max_bytes=1 << 30)
    assert tiny(incus) == {"a"}


def test_what_the_user_wants_stays(incus: Incus) -> None:
    image = add(incus, "own", Labels())
    other = add(incus, "named")
    incus.create_alias("tarball/mine", other.fingerprint)
    add(incus, "wanted-later")
    add(incus, "wanted-later", Labels())
    add(incus, "wanted-later")
    eviction.evict(incus, keep=0, max_bytes=0)
    assert tiny(incus) == {"own", "named", "mine", "wanted-later"}
    assert not eviction.remove_unused(incus, image, properties.is_evictable)


def test_instance_keeps_its_image(incus: Incus) -> None:
    image = add(incus, "a")
    incus.run("init", "tarball/a", "made-from-a")
    try:
        assert eviction.evict(incus, keep=0, max_bytes=0) == []
        assert tiny(incus) == {"a"}
    finally:
        incus.delete("made-from-a")
    gone = eviction.evict(incus, keep=0, max_bytes=0)
    assert [each.fingerprint for each in gone] == [image.fingerprint]


def test_lease_keeps_an_image_until_it_is_released(incus: Incus) -> None:
    add(incus, "a")
    held = lease.take(incus, "tarball/a")
    assert eviction.evict(incus, keep=0, max_bytes=0) == []
    held.release()
    assert eviction.evict(incus, keep=0, max_bytes=0)
    held.release()
    with pytest.raises(errors.NotFound):
        lease.take(incus, "tarball/a")


def test_gc_keeps_images_within_bounds(cli: Cli, incus: Incus) -> None:
    for name in "abc":
        add(incus, name)
    add(incus, "hand", Labels())
    foreseen = json.loads(
        cli.output("gc", "--keep=1", "--dry-run", "--format=json")
    )
    assert tiny(incus) == {"a", "b", "c", "hand"}
    assert [piece["name"] for piece in foreseen] == ["tarball/a", "tarball/b"]
    done = json.loads(cli.output("gc", "--keep=1", "--format=json"))
    assert done == foreseen
    assert cli.output("gc", "--max-size=1kB") == "image tarball/c: removed\n"
    assert cli.output("gc", "--keep=0", "--max-size=1GiB") == ""
    assert tiny(incus) == {"hand"}
    wrong = cli.run("gc", "--max-size=big")
    assert wrong.returncode == 2
    assert "'big' is not a size such as 20GiB" in wrong.stderr


def test_lease_ends_with_its_process(cli: Cli, incus: Incus) -> None:
    add(incus, "a")
    holder = python(_HOLDER, "tarball/a")
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    assert cli.output("gc") == ""
    assert eviction.evict(incus, keep=0, max_bytes=0) == []
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert "claim/use" in cli.output("gc", "--dry-run")
    assert len(garbage.collect(incus).claims) == 1
    assert cli.output("gc") == ""
    assert eviction.evict(incus, keep=0, max_bytes=0)


def test_lease_of_a_killed_process_holds_nobody_up(incus: Incus) -> None:
    add(incus, "a")
    holder = python(_HOLDER, "tarball/a")
    assert holder.stdout
    holder.stdout.readline()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert eviction.evict(incus, keep=0, max_bytes=0)


def test_claim_of_a_killed_evictor_holds_nobody_up(
    incus: Incus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "GRACE", 3.0)
    image = add(incus, "a")
    script = (
        "import sys; from incus_testbed.incus.client import Incus;"
        "from incus_testbed.ownership import claim;"
        "claim.stake(Incus(), sys.argv[1], claim.Kind.REMOVAL)"
    )
    python(script, image.fingerprint).communicate()
    assert not garbage.collect(incus).claims  # it may be under way yet
    held = lease.take(incus, "tarball/a")
    assert held.image.fingerprint == image.fingerprint
    assert len(garbage.collect(incus).claims) == 1


@pytest.mark.parametrize("times", [1, 99])
def test_another_has_the_name_for_a_moment(
    incus: Incus, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """As when others import and evict the image while this one is named."""
    create = Incus.create_alias
    other = add(incus, "other")
    left = iter(range(times))

    def late(client: Incus, alias: str, fingerprint: str) -> None:
        if next(left, None) is None:
            create(client, alias, fingerprint)
            return
        create(client, alias, other.fingerprint)
        try:
            create(client, alias, fingerprint)
        finally:
            client.delete_alias(alias)

    monkeypatch.setattr(Incus, "create_alias", late)
    if times == 1:
        assert add(incus, "a").fingerprint != other.fingerprint
    else:
        with pytest.raises(errors.AlreadyExists, match="appears and dis"):
            add(incus, "a")
    assert all(image.aliases for image in incus.images())


def test_relinquish_removes_what_was_not_finished(
    incus: Incus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise errors.DaemonDown("Incus went away")

    with monkeypatch.context() as patch:
        patch.setattr(Incus, "create_alias", fail)
        patch.setattr(Incus, "delete_image", fail)
        with pytest.raises(errors.DaemonDown):
            add(incus, "a")
    assert any(not image.aliases for image in incus.images())
    garbage.relinquish(incus)
    assert all(image.aliases for image in incus.images())


def test_relinquish_spares_what_others_own(incus: Incus, bookworm: str) -> None:
    add(incus, "a")
    holder = python(_HOLDER, "tarball/a")
    assert holder.stdout
    holder.stdout.readline()
    lease.take(incus, "tarball/a")
    lease.take(incus, bookworm)
    mine = Instance.launch(incus, bookworm, purpose="test")
    incus.run("init", bookworm, "of-nobody")
    try:
        garbage.relinquish(incus)
        names = {record.name for record in incus.instances()}
        assert mine.name not in names
        assert "of-nobody" in names
        claims = [name for image in incus.images() for name in image.claims]
        assert len(claims) == 1
    finally:
        incus.delete("of-nobody")
        holder.communicate()


@pytest.mark.parametrize("users", ["one user", "several users"])
def test_image_is_never_removed_while_leased(
    incus: Incus, tmp_path: os.PathLike[str], users: str
) -> None:
    takers = []
    for number in range(2):
        # Locks are kept by user: this is what makes them different ones.
        folder = f"{tmp_path}/{number if users == 'several users' else ''}"
        takers.append(
            python(_USER, "tarball/race", "12", XDG_CACHE_HOME=folder)
        )
    evictors = [python(_EVICTOR) for _ in range(2)]
    killed = 0
    try:
        deadline = time.monotonic() + _LIMIT
        while any(taker.poll() is None for taker in takers):
            assert time.monotonic() < deadline
            time.sleep(1 + random.random())  # noqa: S311
            evictor = evictors.pop(0)
            evictor.kill()
            evictor.communicate()
            killed += 1
            evictors.append(python(_EVICTOR))
    finally:
        for evictor in evictors:
            evictor.kill()
            evictor.communicate()
    results = [taker.communicate()[0].split() for taker in takers]
    assert [taker.returncode for taker in takers] == [0] * 2
    assert [int(lost) for _, lost in results] == [0] * 2
    assert sum(int(made) for made, _ in results) > 1
    assert killed > 1
    garbage.collect(incus)
    eviction.evict(incus, keep=0, max_bytes=0)
    assert tiny(incus) == set()
    assert not [image for image in incus.images() if not image.aliases]
