# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that share an Incus: one works for all; none removes another's."""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from incus_testbed.image import properties
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from incus_testbed.ownership import shared_lock
from tests.support import debusine_server, hosts, tiny_system
from tests.support.debusine_server import TOKEN, held_after
from tests.support.hosts import Host, ended
from tests.support.imported import named

_ALIAS = "tarball/shared"
_ARTIFACT = 4713
_LIMIT = 120
#: What a process says that waits.
_WAITS = "another process, perhaps of another machine, works on"

#: Keeps a testbed until it is told to end, or killed.
_RUN = """
import sys
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
from incus_testbed.ownership import lease
incus = Incus()
lease.take(incus, sys.argv[1])
print(Instance.launch(incus, sys.argv[1], purpose="run").name, flush=True)
sys.stdin.read()
"""

#: Holds a lock likewise.
_LOCK = """
import sys
from incus_testbed.incus.client import Incus
from incus_testbed.ownership import shared_lock
incus = Incus(project=sys.argv[1])
with shared_lock.held(incus, "x", timeout=9, is_needless=lambda: False):
    print("held", flush=True)
    sys.stdin.read()
"""

#: Runs incus-testbed, with shorter times for locks.
_HURRIED = """
import sys
from incus_testbed.cli import main
from incus_testbed.ownership import shared_lock
shared_lock.PATIENCE, shared_lock.PERIOD = 3, 0.5
sys.exit(main.main(sys.argv[1:]))
"""

_DOWNLOAD = """
import logging
import sys
from debusine.client.debusine import Debusine
from debusine.tasks.executors.base import ExecutorImageCategory
from debusine_incus.images import ImageCache
url, token, number = sys.argv[1:]
logging.basicConfig()
api = Debusine(url, token, logger=logging.getLogger("debusine"))
cache = ImageCache(api, ExecutorImageCategory.TARBALL)
print(cache.download(cache.artifact(int(number))))
"""


@pytest.fixture(scope="module")
def machines(
    incus: Incus, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Host]]:
    folder = tmp_path_factory.mktemp("hosts")
    with hosts.sharing(incus, folder, "one", "two") as both:
        yield both


@pytest.fixture(autouse=True)
def _clean(incus: Incus) -> Iterator[None]:
    before = {image.fingerprint for image in incus.images()}
    testbeds = {record.name for record in incus.instances()}
    yield
    for record in incus.instances():
        if record.name not in testbeds:
            incus.delete(record.name)
    for image in incus.images():
        if image.fingerprint not in before:
            incus.delete_image(image.fingerprint)
    assert shared_lock.owners(incus) == {}


def _file(folder: Path) -> Path:
    file = folder / "system.tar"
    file.write_bytes(tiny_system.tarball())
    return file


def _until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + _LIMIT
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_imports_and_the_other_waits_for_it(
    incus: Incus, machines: list[Host], tmp_path: Path
) -> None:
    file, logs = _file(tmp_path), [tmp_path / "one", tmp_path / "two"]
    ours, theirs = os.pipe()
    words = ("-vv", "import", f"--alias={_ALIAS}")
    with os.fdopen(theirs, "wb") as source, logs[0].open("w") as log:
        first = machines[0].testbed(*words, "-", stdin=ours, stderr=log)
        os.close(ours)
        _until(lambda: shared_lock.owners(incus))
        with logs[1].open("w") as other:
            second = machines[1].testbed(*words, str(file), stderr=other)
        _until(lambda: f"{_WAITS} image {_ALIAS}" in logs[1].read_text())
        source.write(file.read_bytes())

    assert ended(first) == f"{_ALIAS} is imported\n"
    assert ended(second) == f"{_ALIAS} is already an image of this file\n"
    # They say which commands they run.
    for command in ("bwrap", "incus image import"):
        counts = [log.read_text().count(f"{command} ") for log in logs]
        assert counts[0] > 0, logs[0].read_text()
        assert counts[1] == 0


def test_of_a_killed_import_another_takes_over(
    incus: Incus, machines: list[Host], tmp_path: Path
) -> None:
    one, two = machines
    words = ("import", f"--alias={_ALIAS}")
    first = one.python(_HURRIED, *words, "-")
    _until(lambda: shared_lock.owners(incus))
    log = tmp_path / "log"
    with log.open("w") as said:
        file = str(_file(tmp_path))
        second = two.python(_HURRIED, *words, file, stderr=said)
    _until(lambda: _WAITS in log.read_text())

    first.kill()
    first.communicate()

    assert ended(second, _LIMIT) == f"{_ALIAS} is imported\n"
    image = Store(incus).found(_ALIAS)
    assert properties.unfinished_by(image) is None


def test_projects_that_share_their_profiles_have_locks_too(
    incus: Incus, machines: list[Host]
) -> None:
    """Their profiles are those of the project default."""
    name = f"{incus.current_project()}-plain"
    incus.run("project", "create", name, "--config=features.profiles=false")
    try:
        there = machines[0].python(_LOCK, name)
        assert there.stdout
        assert there.stdout.readline() == "held\n"
        there.kill()
        there.communicate()
        (lock,) = shared_lock.owners(Incus(project=name))
        assert shared_lock.owners(Incus(project="default")).keys() == {lock}
        done = ended(machines[0].testbed(f"--project={name}", "gc"))
        assert done == f"lock {lock}: removed\n"
    finally:
        incus.run("project", "delete", name, "--force", stdin=b"yes\n")


def test_what_a_machine_left_stays_until_it_is_given_up(
    incus: Incus, machines: list[Host]
) -> None:
    one, two = machines
    lost = one.id()
    named(incus, _ALIAS)
    testbed = one.python(_RUN, _ALIAS)
    assert testbed.stdout
    name = testbed.stdout.readline().strip()
    testbed.kill()
    testbed.communicate()

    assert ended(two.testbed("gc", "--keep=0")) == ""
    assert incus.instance(name).status == "Running"
    status = ended(two.testbed("status"))
    assert re.search(rf"{name} .* on host {lost} ", status)
    assert re.search(rf"(?m)^{lost} +1 instance, 1 claim$", status)
    (here,) = re.findall(r"(?m)^This host +([0-9a-f]+)$", status)
    assert here != lost
    foreseen = ended(two.testbed("gc", "--dry-run"))
    assert foreseen == f"host {lost} owns 1 instance, 1 claim: stays\n"

    done = ended(two.testbed("gc", f"--host={lost}", "--keep=0"))

    removed = re.findall(r"(?m)^(.*) \S+: removed$", done)
    assert removed == ["instance", "claim", "image"]
    assert name not in {record.name for record in incus.instances()}


def test_two_workers_download_an_artifact_once(
    machines: list[Host], tmp_path: Path
) -> None:
    pytest.importorskip("debusine.client")
    event, log = threading.Event(), tmp_path / "log"
    with debusine_server.running() as server:
        file = server.add_artifact(_ARTIFACT, tiny_system.tarball("", 3 << 20))
        file.faults.append(held_after(1 << 20, event))
        words = (server.api_url, TOKEN, str(_ARTIFACT))
        first = machines[0].python(_DOWNLOAD, *words)
        try:
            _until(lambda: file.requests)
            with log.open("w") as said:
                second = machines[1].python(_DOWNLOAD, *words, stderr=said)
            _until(lambda: f"{_WAITS} image artifact/" in log.read_text())
        finally:
            event.set()
        for each in (first, second):
            assert ended(each, _LIMIT) == f"artifact/{_ARTIFACT}\n"
        assert len(file.requests) == 1


def test_machines_that_collect_at_once_do_not_disturb_each_other(
    incus: Incus, machines: list[Host]
) -> None:
    for number in range(3):
        named(incus, f"tarball/{number}")
    held = machines[0].python(_RUN, "tarball/0")
    assert held.stdout
    held.stdout.readline()

    both = [each.testbed("gc", "--keep=0") for each in machines]

    done = "".join(ended(each) for each in both)
    assert set(re.findall(r"tarball/\d", done)) == {"tarball/1", "tarball/2"}
    assert Store(incus).find("tarball/0")
    held.kill()
    held.communicate()
