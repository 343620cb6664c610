# SPDX-License-Identifier: GPL-3.0-or-later
"""Images and instances: the same on a fake and on a real Incus.

What fast tests expect of the fake is stated here.
"""

import contextlib
import hashlib
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.image import profiles
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import CLAIM, Image
from incus_testbed.instance import removal
from tests.support import tiny_guest
from tests.support.fake_incus import FakeIncus

_ABSENT = "f" * 64
#: Seconds after which something hangs.
_LIMIT = 60


@pytest.fixture(params=["fake", "real"])
def incus(request: pytest.FixtureRequest) -> Iterator[Incus]:
    """Give an Incus that is set up; remove what the test makes in it."""
    if request.param == "fake":
        yield FakeIncus.set_up()
        return
    request.getfixturevalue("incus_environment")
    client = Incus()
    images = {image.fingerprint for image in client.images()}
    instances = {record.name for record in client.instances()}
    yield client
    for record in client.instances():
        if record.name not in instances:
            removal.delete(client, record.name)
    for image in client.images():
        if image.fingerprint not in images:
            client.delete_image(image.fingerprint)


@pytest.fixture
def add(incus: Incus, tmp_path: Path) -> Callable[[str], Image]:
    """Import an image that can be launched, under an alias."""

    def make(alias: str) -> Image:
        fingerprint = incus.import_image(*tiny_guest.write(tmp_path, alias))
        image = incus.image(fingerprint)
        incus.set_image_profiles(image, [profiles.USUAL])
        incus.create_alias(alias, fingerprint)
        return incus.image(alias)

    return make


@pytest.fixture
def beside(incus: Incus) -> Iterator[Incus]:
    """Make another project of the same server; remove what is in it."""
    name = f"contract-{os.getpid()}"
    incus.run("project", "create", name)
    if isinstance(incus, FakeIncus):
        yield incus.aimed(project=name)
        return
    yield Incus(project=name)
    incus.run("project", "delete", name, "--force", stdin=b"yes\n")


def _launch(
    incus: Incus, image: str, name: str, *settings: str, ephemeral: bool = False
) -> None:
    incus.launch(
        image,
        name,
        config=dict(setting.split("=", 1) for setting in settings),
        ephemeral=ephemeral,
        fingerprint=incus.image(image).fingerprint,
    )


def _stop(incus: Incus, name: str, verb: str) -> None:
    """Stop an instance, also one that has just started.

    A guest whose init does not listen yet misses the request.
    """
    if verb == "kill":
        incus.kill(name)
        return
    deadline = time.monotonic() + _LIMIT
    while True:
        try:
            incus.stop(name, grace=5)
        except errors.CommandFailed:
            if time.monotonic() > deadline:
                raise
        else:
            return


def _names(incus: Incus) -> set[str]:
    return {record.name for record in incus.instances()}


# -- profiles


def test_a_profile_is_made_once_changed_and_removed(incus: Incus) -> None:
    name = "contract-1"
    assert name not in incus.profiles()

    incus.create_profile(
        name, config={"user.a": "1", "user.b": "x: y"}, description="a b"
    )
    try:
        assert {name, profiles.USUAL} <= set(incus.profiles())
        with pytest.raises(errors.AlreadyExists):
            incus.create_profile(name, config={}, description="other")
        incus.set_profile_keys(name, {"user.a": "2", "user.c": "3"})

        made = incus.profile(name)
        assert made["config"] == {
            "user.a": "2",
            "user.b": "x: y",
            "user.c": "3",
        }
        assert made["description"] == "a b"
        assert made["devices"] == {}
    finally:
        incus.delete_profile(name)

    assert name not in incus.profiles()
    for ask in (
        lambda: incus.profile(name),
        lambda: incus.set_profile_keys(name, {"user.a": "1"}),
        lambda: incus.delete_profile(name),
    ):
        with pytest.raises(errors.NotFound):
            ask()


# -- images


def test_it_is_on_this_machine(incus: Incus) -> None:
    assert incus.is_local()
    assert incus.is_direct()
    assert incus.is_only_here()


def test_what_a_server_says_of_itself_is_asked_once(
    incus: Incus, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = incus.server()["environment"]
    answers = [{"environment": said}]
    monkeypatch.setattr(incus, "server", answers.pop)

    assert incus.environment() == said
    assert incus.environment()["server_clustered"] is False
    assert incus.is_only_here()
    assert answers == []


def test_remotes(incus: Incus) -> None:
    assert incus.remotes()["local"] is True


def test_what_is_no_image_shows_that_the_server_can_unpack_it(
    incus: Incus, tmp_path: Path
) -> None:
    """Nothing is made."""
    before = incus.images()
    archive = tmp_path / "no-image.tar"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("file"))

    incus.check_unpacks(str(archive))

    assert incus.images() == before


def test_an_import_keeps_what_the_files_say(
    incus: Incus, tmp_path: Path
) -> None:
    start = datetime.now(UTC)
    files = tiny_guest.write(tmp_path, properties={"a.b": "c"}, date=86400)

    fingerprint = incus.import_image(*files)

    content = b"".join(Path(file).read_bytes() for file in files)
    assert fingerprint == hashlib.sha256(content).hexdigest()
    image = incus.image(fingerprint)
    assert image.fingerprint == fingerprint
    assert image.aliases == ()
    assert image.claims == {}
    assert image.properties == {
        "description": "guest",
        "os": "debian",
        "release": "trixie",
        "artifact_id": "guest",
        "a.b": "c",
    }
    assert image.profiles == ("default",)
    assert image.kind == "container"
    assert image.size == len(content)
    assert image.created == datetime.fromtimestamp(86400, UTC)
    assert start <= image.uploaded <= datetime.now(UTC)
    assert image.last_used is None
    assert incus.images().count(image) == 1


def test_a_disk_becomes_an_image_for_virtual_machines(
    incus: Incus, tmp_path: Path
) -> None:
    fingerprint = incus.import_image(*tiny_guest.write(tmp_path, disk=True))

    assert incus.image(fingerprint).kind == "virtual-machine"


def test_the_same_image_again_is_refused(incus: Incus, tmp_path: Path) -> None:
    files = tiny_guest.write(tmp_path, "same")
    fingerprint = incus.import_image(*files)

    with pytest.raises(errors.AlreadyExists):
        incus.import_image(*files)

    assert incus.image(fingerprint)


def test_a_later_import_is_uploaded_later(
    add: Callable[[str], Image],
) -> None:
    assert add("contract/1").uploaded < add("contract/2").uploaded


def test_an_image_is_found_by_alias_and_by_fingerprint(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    image = add("contract/a b")
    add("contract/other")

    assert image.aliases == ("contract/a b",)
    for word in (*image.aliases, image.fingerprint, image.fingerprint[:20]):
        assert incus.image(word) == image


def test_an_alias_and_a_claim_name_an_image_and_a_fingerprint_does_not(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    image, claim = add("contract/a b"), f"{CLAIM}use/1"
    incus.create_alias(claim, image.fingerprint)

    for alias in ("contract/a b", claim):
        named = incus.named(alias)
        assert named.fingerprint == image.fingerprint
        assert named.claims == {claim: ""}
    for word in (image.fingerprint, "contract/absent"):
        with pytest.raises(errors.NotFound, match=word):
            incus.named(word)


def test_no_image_has_an_empty_name(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    add("contract/a")

    for find in (incus.named, incus.image):
        with pytest.raises(errors.NotFound, match="an empty name"):
            find("")


def test_the_names_of_images_are_listed_alone(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    before = set(incus.alias_names())
    image, claim = add("contract/a b"), f"{CLAIM}use/1"
    incus.create_alias(claim, image.fingerprint)

    names = incus.alias_names()

    assert set(names) == before | {"contract/a b", claim}
    assert len(names) == len(set(names))


def test_aliases_and_claims_say_which_images_they_name(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    before = incus.alias_targets()
    image, claim = add("contract/a b"), f"{CLAIM}use/1"
    incus.create_alias(claim, image.fingerprint)

    added = dict.fromkeys(("contract/a b", claim), image.fingerprint)
    assert incus.alias_targets() == before | added


def test_a_project_says_what_it_has(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    before = incus.contents()
    image = add("contract/a b")
    incus.run("init", "contract/a b", "contract-1")

    now = incus.contents()

    assert {*now.instances} == {*before.instances, "contract-1"}
    assert {*(now.images or ())} == {*(before.images or ()), image.fingerprint}
    assert now.images is not None


@pytest.mark.parametrize("word", ["contract/absent", _ABSENT])
def test_an_image_that_is_not_there(incus: Incus, word: str) -> None:
    with pytest.raises(errors.NotFound, match="not found"):
        incus.image(word)
    with pytest.raises(errors.NotFound):
        incus.delete_image(word)
    with pytest.raises(errors.NotFound):
        incus.unset_image_property(word, "os")
    with pytest.raises(errors.NotFound):
        incus.delete_alias(word)


def test_profiles_are_set_and_properties_stay(
    incus: Incus, tmp_path: Path
) -> None:
    fingerprint = incus.import_image(*tiny_guest.write(tmp_path))
    image = incus.image(fingerprint)

    incus.set_image_profiles(image, ["debusine"])

    assert incus.image(fingerprint).profiles == ("debusine",)
    assert incus.image(fingerprint).properties == image.properties


def test_a_profile_of_an_image_has_to_exist(
    incus: Incus, tmp_path: Path
) -> None:
    fingerprint = incus.import_image(*tiny_guest.write(tmp_path))

    with pytest.raises(errors.NotFound, match="absent"):
        incus.set_image_profiles(incus.image(fingerprint), ["absent"])

    assert incus.image(fingerprint).profiles == ("default",)


def test_a_property_is_unset_alone(incus: Incus, tmp_path: Path) -> None:
    files = tiny_guest.write(tmp_path, properties={"key": "value"})
    fingerprint = incus.import_image(*files)
    before = incus.image(fingerprint).properties

    for _ in range(2):
        incus.unset_image_property(fingerprint, "key")

        left = incus.image(fingerprint).properties
        assert {**left, "key": "value"} == before
        assert "key" not in left


def test_aliases_come_and_go_and_the_image_stays(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    image = add("contract/1")

    incus.create_alias("contract/2", image.fingerprint)
    names = incus.image("contract/2").aliases
    incus.delete_alias("contract/1")

    assert set(names) == {"contract/1", "contract/2"}
    assert incus.image("contract/2").aliases == ("contract/2",)
    with pytest.raises(errors.NotFound):
        incus.image("contract/1")


def test_an_alias_is_given_once(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    image, other = add("contract/1"), add("contract/2")

    for fingerprint in (image.fingerprint, other.fingerprint):
        with pytest.raises(errors.AlreadyExists):
            incus.create_alias("contract/1", fingerprint)
    with pytest.raises(errors.NotFound):
        incus.create_alias("contract/3", _ABSENT)

    assert incus.image("contract/1").fingerprint == image.fingerprint


def test_an_alias_moves_to_another_image(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    image, other = add("contract/1"), add("contract/2")

    incus.move_alias("contract/1", other.fingerprint)

    assert incus.image(image.fingerprint).aliases == ()
    assert set(incus.image("contract/1").aliases) == {
        "contract/1",
        "contract/2",
    }
    for alias, fingerprint in (
        ("contract/3", image.fingerprint),
        ("contract/1", _ABSENT),
    ):
        with pytest.raises(errors.NotFound):
            incus.move_alias(alias, fingerprint)
    assert incus.image("contract/1").fingerprint == other.fingerprint


def test_a_claim_is_told_from_the_names_by_its_own(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    image = add("contract/1")
    claim = f"{CLAIM}use/1"

    incus.create_alias(claim, image.fingerprint, description="who when")

    (found,) = (
        each for each in incus.images() if each.fingerprint == image.fingerprint
    )
    assert found.aliases == ("contract/1",)
    assert found.claims == {claim: "who when"}


def test_a_removed_image_takes_its_names_along(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    image = add("contract/1")
    incus.create_alias("contract/2", image.fingerprint)

    incus.delete_image(image.fingerprint)

    for word in ("contract/1", "contract/2", image.fingerprint):
        with pytest.raises(errors.NotFound):
            incus.image(word)
    assert image.fingerprint not in {
        each.fingerprint for each in incus.images()
    }
    assert add("contract/1").fingerprint


# -- instances


def test_a_launch_makes_what_was_asked_for(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    image = add("contract/1")
    start = datetime.now(UTC) - timedelta(seconds=1)
    config = {"user.key": "a=b", "user.other": ""}

    incus.launch(
        "contract/1",
        "contract-1",
        config=config,
        ephemeral=True,
        arguments=["--config=user.key=wins"],
    )

    record = incus.instance("contract-1")
    assert record.name == "contract-1"
    assert record.kind == "container"
    assert record.status == "Running"
    assert record.ephemeral
    assert record.config["user.key"] == "wins"
    assert record.config["volatile.base_image"] == image.fingerprint
    assert start <= record.created
    (network,) = record.networks
    assert network in {each["name"] for each in incus.networks()}
    assert record.name in _names(incus)
    assert record.name not in incus.busy_instances()


@pytest.mark.parametrize("known", [True, False])
def test_a_launch_adds_devices_to_those_of_the_profile(
    incus: Incus, tmp_path: Path, known: bool
) -> None:
    fingerprint = incus.import_image(*tiny_guest.write(tmp_path))
    disk = incus.profile(profiles.USUAL)["devices"]["root"]

    # The image's own profile has no disk.
    incus.launch(
        fingerprint,
        "contract-1",
        config={},
        ephemeral=False,
        devices={"disk": disk},
        fingerprint=fingerprint if known else "",
    )

    assert incus.instance("contract-1").status == "Running"


def test_the_names_of_instances_are_listed_alone(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    before = set(incus.instance_names())
    add("contract/1")
    incus.run("init", "contract/1", "contract-1")

    assert set(incus.instance_names()) == before | {"contract-1"}


def test_instances_are_chosen_by_a_key(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    image = add("contract/1")
    other = add("contract/2")
    for name, alias, key in (
        ("contract-1", "contract/1", "user.a-b.c=1.2:3"),
        ("contract-2", "contract/1", "user.a-b.d=1"),
        ("contract-3", "contract/2", "user.a-b.c=4"),
    ):
        incus.run("init", alias, name, f"--config={key}")

    def names(*having: str, value: str = ".+") -> set[str]:
        found = incus.instances(*having, value=value)
        assert found == [incus.instance(record.name) for record in found]
        return {record.name for record in found}

    base = "volatile.base_image"
    assert names("user.a-b.c") == {"contract-1", "contract-3"}
    assert names("user.a-b.absent", "user.a-b.d") == {"contract-2"}
    assert names("user.a-b.absent") == set()
    assert names(base, value=image.fingerprint) == {"contract-1", "contract-2"}
    assert names(base, value=other.fingerprint) == {"contract-3"}
    assert names(base, value=_ABSENT) == set()


@pytest.mark.parametrize("verb", ["launch", "init"])
def test_an_instance_is_a_use_of_its_image(
    incus: Incus, add: Callable[[str], Image], verb: str
) -> None:
    image = add("contract/1")

    incus.run(verb, image.fingerprint, "contract-1", "--config=user.key=a")

    used = incus.image("contract/1").last_used
    assert used
    assert used > image.uploaded
    record = incus.instance("contract-1")
    assert record.status == ("Running" if verb == "launch" else "Stopped")
    assert record.config["user.key"] == "a"
    assert not record.ephemeral


def test_a_key_of_an_instance_is_removed_alone(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    add("t/a")
    incus.run("init", "t/a", "t-key", "--config=user.a=1", "--config=user.b=2")

    incus.unset_instance_key("t-key", "user.a")

    config = incus.instance("t-key").config
    assert "user.a" not in config
    assert config["user.b"] == "2"
    with pytest.raises(errors.NotFound):
        incus.unset_instance_key("t-absent", "user.a")


def test_a_launch_of_a_taken_name(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    add("contract/1")
    _launch(incus, "contract/1", "contract-1", "user.key=first")

    with pytest.raises(errors.AlreadyExists):
        _launch(incus, "contract/1", "contract-1", "user.key=second")

    assert incus.instance("contract-1").config["user.key"] == "first"


def test_a_launch_of_no_image(incus: Incus) -> None:
    with pytest.raises(errors.NotFound) as caught:
        _launch(incus, "contract/absent", "contract-1")

    assert "incus-testbed images" in caught.value.resolution
    assert "contract-1" not in _names(incus)


def test_a_launch_without_a_disk(incus: Incus, tmp_path: Path) -> None:
    incus.create_alias(
        "contract/1", incus.import_image(*tiny_guest.write(tmp_path))
    )

    with pytest.raises(errors.NotFound, match="No root device"):
        _launch(incus, "contract/1", "contract-1")

    assert "contract-1" not in _names(incus)
    incus.launch(
        "contract/1",
        "contract-1",
        config={},
        ephemeral=False,
        arguments=["--profile=debusine"],
    )
    assert incus.instance("contract-1").status == "Running"


def test_a_start_that_fails_leaves_the_instance(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    add("contract/1")

    with pytest.raises(errors.CommandFailed):
        _launch(
            incus,
            "contract/1",
            "contract-1",
            "user.key=a",
            tiny_guest.BROKEN,
            ephemeral=True,
        )

    record = incus.instance("contract-1")
    assert record.status == "Stopped"
    assert record.config["user.key"] == "a"
    incus.delete("contract-1")
    assert "contract-1" not in _names(incus)


def test_a_launch_of_an_image_that_has_gone(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    fingerprint = add("contract/1").fingerprint
    incus.delete_image(fingerprint)

    for known in ("", fingerprint):
        with pytest.raises(errors.NotFound):
            incus.launch(
                *(fingerprint, "contract-1"),
                config={},
                ephemeral=False,
                fingerprint=known,
            )

    assert "contract-1" not in _names(incus)


@pytest.mark.parametrize("verb", ["stop", "kill"])
def test_an_instance_stops_and_starts(
    incus: Incus, add: Callable[[str], Image], verb: str
) -> None:
    add("contract/1")
    _launch(incus, "contract/1", "contract-1")

    _stop(incus, "contract-1", verb)
    assert incus.instance("contract-1").status == "Stopped"
    with pytest.raises(errors.NotRunning):
        _stop(incus, "contract-1", verb)
    incus.start("contract-1")
    assert incus.instance("contract-1").status == "Running"
    with pytest.raises(errors.CommandFailed):
        incus.start("contract-1")


def test_a_copy_has_the_settings_and_those_that_are_given(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    add("t/a")
    _launch(incus, "t/a", "first", "user.a=1", "user.b=1")
    incus.kill("first")

    incus.copy("first", "second", config={"user.b": "2"}, ephemeral=True)

    old, new = incus.instance("first"), incus.instance("second")
    assert (old.status, new.status) == ("Stopped", "Stopped")
    assert (old.ephemeral, new.ephemeral) == (False, True)
    assert (old.config["user.a"], old.config["user.b"]) == ("1", "1")
    assert (new.config["user.a"], new.config["user.b"]) == ("1", "2")
    assert new.networks == old.networks
    base = "volatile.base_image"
    assert new.config[base] == old.config[base]
    with pytest.raises(errors.AlreadyExists):
        incus.copy("first", "second", config={}, ephemeral=True)
    with pytest.raises(errors.NotFound):
        incus.copy("absent", "third", config={}, ephemeral=True)
    incus.start("second")
    incus.kill("second")
    assert _names(incus) & {"first", "second"} == {"first"}


@pytest.mark.parametrize("verb", ["stop", "kill"])
def test_an_ephemeral_instance_goes_when_it_stops(
    incus: Incus, add: Callable[[str], Image], verb: str
) -> None:
    add("contract/1")
    _launch(incus, "contract/1", "contract-1", ephemeral=True)

    _stop(incus, "contract-1", verb)

    with pytest.raises(errors.NotFound):
        incus.instance("contract-1")


def test_a_guest_that_does_not_listen_is_killed(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    add("contract/1")
    _launch(incus, "contract/1", "contract-1", tiny_guest.DEAF)

    with pytest.raises(errors.CommandFailed):
        incus.stop("contract-1", grace=1)

    assert incus.instance("contract-1").status == "Running"
    incus.kill("contract-1")
    assert incus.instance("contract-1").status == "Stopped"


def test_an_instance_is_busy_while_it_stops(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    add("contract/1")
    _launch(incus, "contract/1", "contract-1", tiny_guest.DEAF)
    _launch(incus, "contract/1", "contract-2")

    with ThreadPoolExecutor() as pool:
        stop = pool.submit(incus.stop, "contract-1", grace=_LIMIT)
        try:
            deadline = time.monotonic() + _LIMIT
            while "contract-1" not in incus.busy_instances():
                assert time.monotonic() < deadline
            assert "contract-2" not in incus.busy_instances()
            with pytest.raises(errors.Busy):
                _launch(incus, "contract/1", "contract-1")
        finally:
            incus.delete("contract-1")
        # Whether the stop that was overtaken is an error does not matter here.
        with contextlib.suppress(errors.TestbedError):
            stop.result()

    assert "contract-1" not in incus.busy_instances()
    assert "contract-1" not in _names(incus)


@pytest.mark.parametrize("running", [True, False])
def test_an_instance_is_deleted_running_or_not(
    incus: Incus, add: Callable[[str], Image], running: bool
) -> None:
    add("contract/1")
    _launch(incus, "contract/1", "contract-1")
    if not running:
        incus.kill("contract-1")

    incus.delete("contract-1")

    assert "contract-1" not in _names(incus)
    _launch(incus, "contract/1", "contract-1")


def test_what_is_not_there(incus: Incus) -> None:
    for ask in (
        incus.instance,
        incus.start,
        incus.kill,
        incus.delete,
        lambda name: incus.stop(name, grace=1),
    ):
        with pytest.raises(errors.NotFound):
            ask("contract-absent")


def test_an_image_goes_and_its_instance_stays(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    image = add("contract/1")
    _launch(incus, "contract/1", "contract-1")

    incus.delete_image(image.fingerprint)

    assert incus.instance("contract-1").status == "Running"
    with pytest.raises(errors.NotFound):
        _launch(incus, image.fingerprint, "contract-2")


def test_a_machine_by_itself_has_no_members(
    incus: Incus, add: Callable[[str], Image]
) -> None:
    add("t/a")
    _launch(incus, "t/a", "first")

    assert incus.members() == []
    assert incus.instance("first").member == ""


def test_a_machine_runs_what_its_processor_does(incus: Incus) -> None:
    supported = incus.supported()

    # 32-bit programs run, too, but Incus has no virtual machines of them.
    assert len(supported.machines) == 1
    assert set(supported.machines) <= set(supported.containers)


def test_projects_know_nothing_of_each_other(
    incus: Incus,
    beside: Incus,
    add: Callable[[str], Image],
    tmp_path: Path,
) -> None:
    image = add("contract/1")
    disk = incus.profile(profiles.USUAL)["devices"]["root"]

    assert beside.project in incus.projects()
    assert incus.current_project() in incus.projects()
    assert incus.current_project() != beside.project
    assert beside.images() == []
    assert beside.instances() == []
    with pytest.raises(errors.NotFound):
        beside.profile(profiles.USUAL)

    fingerprint = beside.import_image(*tiny_guest.write(tmp_path))
    beside.create_alias("contract/1", fingerprint)
    for client, devices in ((incus, {}), (beside, {"root": disk})):
        client.launch(
            "contract/1",
            "contract-1",
            config={},
            ephemeral=False,
            devices=devices,
        )

    assert incus.image("contract/1").fingerprint == image.fingerprint
    assert beside.image("contract/1").fingerprint == fingerprint
    assert _names(beside) == {"contract-1"}
    beside.delete("contract-1")
    assert "contract-1" in _names(incus)
