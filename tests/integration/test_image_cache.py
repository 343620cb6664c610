# SPDX-License-Identifier: GPL-3.0-or-later
"""Debusine's images in a real Incus, from a server that plays Debusine."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("debusine.client")

from debusine.client.debusine import Debusine
from debusine.tasks.executors.base import (
    ExecutorImageCategory,
)

from debusine_incus.images import ImageCache
from incus_testbed import collect
from incus_testbed.client import Incus
from incus_testbed.image import labels
from incus_testbed.image.store import Store
from tests import debusine_server
from tests.debusine_server import TOKEN, DebusineServer

ID = 4712
ALIAS = f"artifact/{ID}"


@pytest.fixture
def server() -> Iterator[DebusineServer]:
    with debusine_server.running() as it:
        yield it


@pytest.fixture(autouse=True)
def _clean(incus: Incus) -> Iterator[None]:
    yield
    collect.relinquish(incus)
    for image in incus.images():
        if any(name.startswith("artifact/") for name in image.aliases):
            incus.delete_image(image.fingerprint)


@pytest.fixture
def cache(server: DebusineServer, incus: Incus) -> ImageCache:
    del incus
    return cache_of(server)


def cache_of(server: DebusineServer) -> ImageCache:
    api = Debusine(server.api_url, TOKEN, logger=logging.getLogger("debusine"))
    return ImageCache(api, ExecutorImageCategory.TARBALL)


def test_image_is_downloaded_once_and_labelled(
    cache: ImageCache,
    server: DebusineServer,
    incus: Incus,
    bookworm_tarball: Path,
) -> None:
    file = server.add_artifact(ID, bookworm_tarball, codename="mine")
    assert cache.download(cache.artifact(ID)) == ALIAS
    image = Store(incus).find(ALIAS)
    assert image
    assert labels.is_evictable(image)
    assert image.properties["artifact_id"] == str(ID)
    assert image.properties["release"] == "mine"
    assert cache.download(cache.artifact(ID)) == ALIAS
    assert len(file.requests) == 1
    assert len(incus.images()[0].claims) == 2
    collect.relinquish(incus)
    assert not any(image.claims for image in incus.images())
    ImageCache.clean_up(ID)
    assert Store(incus).find(ALIAS) is None
    ImageCache.clean_up(ID)
