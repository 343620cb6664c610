# SPDX-License-Identifier: GPL-3.0-or-later
"""Images by alias: imported once, reused, refused, removed."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.customise import last_file
from incus_testbed.image import properties
from incus_testbed.image.labels import Labels
from incus_testbed.image.store import Store, content_alias
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Image
from incus_testbed.ownership import shared_lock
from tests.support import owners, tiny_system
from tests.support.fake_incus import FakeIncus
from tests.support.imported import named, unnamed

_ALIAS = "t/a"
_FILE = tiny_system.tarball()
_SHA256 = hashlib.sha256(_FILE).hexdigest()


@pytest.fixture(autouse=True)
def _locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def incus() -> FakeIncus:
    return FakeIncus.set_up()


@pytest.fixture
def store(incus: FakeIncus) -> Store:
    return Store(incus)


class _Unreadable(io.BytesIO):
    """It must not be read."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise AssertionError(f"{size} bytes are read")


def _found(store: Store, alias: str = _ALIAS) -> Image:
    image = store.find(alias)
    assert image
    return image


def test_an_import_gives_the_image_its_name(
    incus: FakeIncus, store: Store
) -> None:
    assert store.add(io.BytesIO(_FILE), _ALIAS)

    image = _found(store)
    assert image.aliases == (_ALIAS,)
    assert image.profiles == ("debusine",)
    assert properties.source(image) == _SHA256
    assert properties.alias(image) == _ALIAS
    last = last_file.of(image.properties, image.created)
    assert last
    assert last.path == last_file.GENERATOR
    assert not properties.is_evictable(image)
    assert properties.unfinished_by(image) is None
    assert store.images() == [image]
    assert incus.images() == [image]


def test_the_same_file_again_is_not_imported(
    incus: FakeIncus, store: Store
) -> None:
    assert store.add(io.BytesIO(_FILE), _ALIAS)
    before = incus.images()

    assert not store.add(io.BytesIO(_FILE), _ALIAS)

    assert incus.images() == before


def test_with_a_checksum_a_file_that_is_there_is_not_read(
    incus: FakeIncus, store: Store
) -> None:
    named(incus, _ALIAS, source=_SHA256)

    assert not store.add(_Unreadable(), _ALIAS, sha256=_SHA256)


@pytest.mark.parametrize("sha256", [None, _SHA256])
def test_the_alias_of_another_file_is_refused(
    incus: FakeIncus, store: Store, sha256: str | None
) -> None:
    before = named(incus, _ALIAS, source="1" * 64)

    with pytest.raises(errors.AlreadyExists, match="from another file") as it:
        store.add(io.BytesIO(_FILE), _ALIAS, sha256=sha256)

    assert f"incus-testbed remove {_ALIAS}" in it.value.resolution
    assert incus.images() == [before]


def test_the_alias_of_a_foreign_image_is_refused(
    incus: FakeIncus, store: Store
) -> None:
    """It is a copy with our properties: its content is another."""
    before = named(incus, _ALIAS, source=_SHA256, ours=False)

    with pytest.raises(errors.AlreadyExists, match="did not import") as it:
        store.add(io.BytesIO(_FILE), _ALIAS)

    assert f"incus image delete {_ALIAS}" in it.value.resolution
    assert incus.images() == [before]


@pytest.mark.parametrize(
    ("first", "second", "evictable"),
    [
        (True, True, True),
        (True, False, False),
        (False, True, False),
        (False, False, False),
    ],
)
def test_what_the_user_imports_is_kept_from_then_on(
    incus: FakeIncus,
    store: Store,
    first: bool,
    second: bool,
    evictable: bool,
) -> None:
    alias = "tarball/a"
    before = named(incus, alias, source=_SHA256, evictable=first)

    store.add(io.BytesIO(_FILE), alias, label=Labels(evictable=second))

    image = _found(store, alias)
    assert properties.is_evictable(image) is evictable
    assert properties.source(image) == _SHA256
    assert image.fingerprint == before.fingerprint


def test_on_a_server_of_many_machines_an_import_holds_their_lock(
    incus: FakeIncus, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    incus.become_cluster()
    import_image = incus.import_image
    held: list[object] = []

    def look(metadata: str, rootfs: str) -> str:
        held.extend(shared_lock.owners(incus).values())
        return import_image(metadata, rootfs)

    monkeypatch.setattr(incus, "import_image", look)

    assert store.add(io.BytesIO(_FILE), _ALIAS)

    assert held == [owners.MINE]
    assert shared_lock.owners(incus) == {}
    monkeypatch.setattr(incus, "create_profile", None)
    assert not store.add(io.BytesIO(_FILE), _ALIAS)


def test_what_another_machine_imports_is_not_imported_again(
    incus: FakeIncus, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    incus.become_cluster()
    create = incus.create_profile

    def late(name: str, **facts: Any) -> None:
        """Find the lock of another one, which goes on."""
        monkeypatch.setattr(incus, "create_profile", create)
        owner = str(owners.ON_ANOTHER_MACHINE)
        create(name, config={"user.incus-testbed.owner": owner}, **facts)
        raise errors.AlreadyExists("The profile is there")

    def import_it(size: int) -> None:
        assert size == 0
        for name in shared_lock.owners(incus):
            named(incus, _ALIAS, source=_SHA256)
            incus.delete_profile(name)

    monkeypatch.setattr(
        incus, "create_profile", lambda name, **_: late(name, description="")
    )

    assert not store.add(
        _Unreadable(), _ALIAS, sha256=_SHA256, progress=import_it
    )

    assert _found(store).aliases == (_ALIAS,)
    assert shared_lock.owners(incus) == {}


def test_on_a_server_of_this_machine_there_is_no_lock_in_it(
    incus: FakeIncus, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [incus.server()]
    monkeypatch.setattr(incus, "create_profile", None)
    monkeypatch.setattr(incus, "server", said.pop)

    assert store.add(io.BytesIO(_FILE), _ALIAS)


def test_what_nothing_can_make_again_is_not_evictable(store: Store) -> None:
    with pytest.raises(ValueError, match=_ALIAS):
        store.add(_Unreadable(), _ALIAS, label=Labels(evictable=True))


@pytest.mark.parametrize("source", [_SHA256, "1" * 64])
def test_another_user_imports_it_at_the_same_time(
    incus: FakeIncus,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
) -> None:
    """The lock holds for this user alone."""
    import_image = incus.import_image

    def late(metadata: str, rootfs: str) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(incus, "import_image", import_image)
            named(incus, _ALIAS, source=source)
        return import_image(metadata, rootfs)

    monkeypatch.setattr(incus, "import_image", late)

    if source == _SHA256:
        assert not store.add(io.BytesIO(_FILE), _ALIAS)
        # The image of the user who did not ask for it to be kept.
        assert not properties.is_evictable(_found(store))
    else:
        with pytest.raises(errors.AlreadyExists, match="another file"):
            store.add(io.BytesIO(_FILE), _ALIAS)

    (image,) = incus.images()
    assert properties.source(image) == source


@pytest.mark.parametrize("times", [1, 99])
def test_another_has_the_name_for_a_moment(
    incus: FakeIncus,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
) -> None:
    other = named(incus, "t/other")
    create, left = incus.create_alias, iter(range(times))

    def late(alias: str, fingerprint: str) -> None:
        if next(left, None) is None:
            create(alias, fingerprint)
            return
        create(alias, other.fingerprint)
        try:
            create(alias, fingerprint)
        finally:
            incus.delete_alias(alias)

    monkeypatch.setattr(incus, "create_alias", late)

    if times == 1:
        assert store.add(io.BytesIO(_FILE), _ALIAS)
        assert properties.source(_found(store)) == _SHA256
    else:
        with pytest.raises(errors.AlreadyExists, match="again and again"):
            store.add(io.BytesIO(_FILE), _ALIAS)
        assert incus.images() == [incus.image("t/other")]


# -- replacing


def test_a_new_image_replaces_that_of_its_alias(
    incus: FakeIncus, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks meanwhile finds an image, the old or the new one."""
    old = named(incus, _ALIAS, source="1" * 64)
    seen = []
    run = incus.run

    def watched(*words: str, **options: Any) -> bytes:
        try:
            return run(*words, **options)
        finally:
            seen.append(_found(store).fingerprint)

    monkeypatch.setattr(incus, "run", watched)

    assert store.add(io.BytesIO(_FILE), _ALIAS, replace=True)

    new = _found(store)
    assert properties.source(new) == _SHA256
    assert incus.images() == [new]
    assert set(seen) == {old.fingerprint, new.fingerprint}


def test_without_an_image_of_the_alias_there_is_nothing_to_replace(
    incus: FakeIncus, store: Store
) -> None:
    assert store.add(io.BytesIO(_FILE), _ALIAS, replace=True)

    assert incus.images() == [_found(store)]


def test_a_replaced_image_with_another_name_stays(
    incus: FakeIncus, store: Store
) -> None:
    old = named(incus, _ALIAS, source="1" * 64)
    incus.create_alias("t/mine", old.fingerprint)

    store.add(io.BytesIO(_FILE), _ALIAS, replace=True)

    assert _found(store, "t/mine").fingerprint == old.fingerprint
    assert properties.source(_found(store)) == _SHA256


def test_a_member_is_down_that_the_replaced_image_is_on(
    incus: FakeIncus, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new one has the name already, and stays: gc removes the old one."""
    old = named(incus, _ALIAS, source="1" * 64)

    def refuse(fingerprint: str) -> None:
        raise errors.MemberDown(f"two has {fingerprint}, and does not answer")

    monkeypatch.setattr(incus, "delete_image", refuse)

    assert store.add(io.BytesIO(_FILE), _ALIAS, replace=True)

    assert properties.source(_found(store)) == _SHA256
    (left,) = (each for each in incus.images() if not each.aliases)
    assert left.fingerprint == old.fingerprint


def test_a_failed_import_replaces_nothing(
    incus: FakeIncus, store: Store
) -> None:
    before = named(incus, _ALIAS, source="1" * 64)

    with pytest.raises(errors.BadImage):
        store.add(io.BytesIO(b"no tarball"), _ALIAS, replace=True)

    assert incus.images() == [before]


def test_a_foreign_image_is_not_replaced(
    incus: FakeIncus, store: Store
) -> None:
    before = named(incus, _ALIAS, ours=False)

    with pytest.raises(errors.Denied, match="not imported"):
        store.add(_Unreadable(), _ALIAS, replace=True)
    with pytest.raises(errors.Denied, match="not imported"):
        store.check_replaceable(_ALIAS)

    assert incus.images() == [before]


def test_an_import_that_fails_at_the_end_leaves_nothing(
    incus: FakeIncus, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(alias: str, _: str) -> None:
        raise errors.Denied(f"no {alias}")

    monkeypatch.setattr(incus, "create_alias", fail)

    with pytest.raises(errors.Denied):
        store.add(io.BytesIO(_FILE), _ALIAS)

    assert incus.images() == []


def test_the_wrong_file_is_not_imported(incus: FakeIncus, store: Store) -> None:
    with pytest.raises(errors.BadImage, match="Checksum mismatch"):
        store.add(io.BytesIO(_FILE), _ALIAS, sha256="1" * 64)

    assert incus.images() == []


@pytest.mark.parametrize("alias", ["", "-a", "a b", "a:b", "ä", 70_000 * "a"])
def test_a_name_that_is_no_alias(
    incus: FakeIncus, store: Store, alias: str
) -> None:
    with pytest.raises(errors.BadImage, match="can't be an alias") as caught:
        store.add(_Unreadable(), alias)
    assert len(str(caught.value)) < 1000

    assert incus.images() == []


# -- finding and listing


def test_a_fingerprint_is_not_an_alias(incus: FakeIncus, store: Store) -> None:
    image = named(incus, _ALIAS)

    assert store.find(_ALIAS) == image
    assert store.find(image.fingerprint) is None
    assert store.find("t/absent") is None
    assert store.find("") is None


def test_the_list_has_ours_by_alias(incus: FakeIncus, store: Store) -> None:
    for alias in ("t/b", "t/c", "t/a"):
        named(incus, alias)
    named(incus, "t/foreign", ours=False)
    unnamed(incus, "t/unfinished")

    aliases = [image.aliases for image in store.images()]

    assert aliases == [("t/a",), ("t/b",), ("t/c",)]


# -- removing


def test_removing_an_image(incus: FakeIncus, store: Store) -> None:
    named(incus, _ALIAS)
    other = named(incus, "t/other")

    store.remove(_ALIAS)

    assert incus.images() == [other]


def test_removing_one_of_two_names_keeps_the_image(
    incus: FakeIncus, store: Store
) -> None:
    image = named(incus, _ALIAS)
    incus.create_alias("t/second", image.fingerprint)

    store.remove(_ALIAS)

    assert _found(store, "t/second").fingerprint == image.fingerprint
    assert store.find(_ALIAS) is None
    store.remove("t/second")
    assert incus.images() == []


def _foreign(incus: Incus) -> str:
    named(incus, _ALIAS, ours=False)
    return _ALIAS


def _by_fingerprint(incus: Incus) -> str:
    return named(incus, _ALIAS).fingerprint


def _absent(incus: Incus) -> str:
    named(incus, _ALIAS)
    return "t/absent"


@pytest.mark.parametrize(
    ("prepare", "error", "hint"),
    [
        (_foreign, errors.Denied, "incus image delete t/a"),
        (_by_fingerprint, errors.NotFound, "'incus-testbed images'"),
        (_absent, errors.NotFound, "'incus-testbed images'"),
    ],
)
def test_what_is_not_removed(
    incus: FakeIncus,
    store: Store,
    prepare: Callable[[Incus], str],
    error: type[errors.TestbedError],
    hint: str,
) -> None:
    word = prepare(incus)

    with pytest.raises(error) as caught:
        store.remove(word)

    assert hint in caught.value.resolution
    assert [image.aliases for image in incus.images()] == [(_ALIAS,)]


def test_the_alias_of_a_content() -> None:
    file = io.BytesIO(_FILE)

    assert content_alias(file) == f"tarball/{_SHA256[:16]}"
    assert file.read() == _FILE
