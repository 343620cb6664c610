# SPDX-License-Identifier: GPL-3.0-or-later
"""debusine-incus pull: the image of a Debusine task on the user's machine."""

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("debusine.client")

from incus_testbed.cleanup import eviction, garbage
from incus_testbed.image import properties
from incus_testbed.image.labels import Labels
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Image
from tests.support import debusine_server, tiny_system
from tests.support.debusine_server import TOKEN, DebusineServer, held_after

ID = 4713
ALIAS = f"artifact/{ID}"
_LIMIT = 300
_CONFIGURATION = """\
[General]
default-server = home

[server:home]
api-url = {url}
scope = debusine
token = {token}
"""


@dataclass(frozen=True)
class Pull:
    """The command as a user has it, who has a home and maybe a server."""

    home: Path

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "debusine_incus", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "HOME": str(self.home),
                "XDG_CACHE_HOME": str(self.home),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        child = self.start(*arguments)
        output, said = child.communicate(timeout=_LIMIT)
        assert "Traceback" not in said
        assert TOKEN not in output + said
        return subprocess.CompletedProcess(
            child.args, child.returncode, output, said
        )

    def output(self, *arguments: str) -> str:
        done = self.run("pull", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def complaint(self, *arguments: str) -> str:
        done = self.run("pull", *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("debusine-incus: ")
        return done.stderr

    def configure(self, text: str) -> None:
        path = self.home / ".config/debusine/client/config.ini"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def server() -> Iterator[DebusineServer]:
    with debusine_server.running() as it:
        yield it


@pytest.fixture
def pull(
    tmp_path: Path, server: DebusineServer, incus: Incus
) -> Iterator[Pull]:
    it = Pull(tmp_path)
    it.configure(_CONFIGURATION.format(url=server.api_url, token=TOKEN))
    yield it
    garbage.collect(incus)
    image = Store(incus).find(ALIAS)
    if image:
        incus.delete_image(image.fingerprint)
    assert not any(image.claims for image in incus.images())
    assert all(image.aliases for image in incus.images())


def present(incus: Incus) -> Image:
    image = Store(incus).find(ALIAS)
    assert image
    return image


def test_artifact_becomes_an_image_of_the_users_own(
    pull: Pull, server: DebusineServer, incus: Incus
) -> None:
    file = server.add_artifact(ID, tiny_system.tarball())
    said = pull.output(str(ID))
    assert f"autopkgtest -U PACKAGE -- incus-testbed {ALIAS}\n" in said
    eviction.evict(incus, keep=0, max_bytes=0)
    assert not properties.is_evictable(present(incus))
    pull.output(str(ID))
    assert len(file.requests) == 1


def test_workers_image_becomes_the_users_own(
    pull: Pull, server: DebusineServer, incus: Incus
) -> None:
    content = tiny_system.tarball()
    file = server.add_artifact(ID, content)
    label = Labels(evictable=True)
    Store(incus).add(io.BytesIO(content), ALIAS, label=label)
    assert properties.is_evictable(present(incus))
    pull.output(str(ID))
    assert not properties.is_evictable(present(incus))
    assert not file.requests


def test_work_request_leads_to_its_environment(
    pull: Pull, server: DebusineServer, incus: Incus
) -> None:
    server.add_artifact(ID, tiny_system.tarball())
    server.add_work_request(7, {"environment_id": ID, "input": 3})
    assert ALIAS in pull.output("--work-request", "7")
    assert present(incus)


def test_place_is_part_of_the_command_to_type(
    pull: Pull, server: DebusineServer
) -> None:
    server.add_artifact(ID, tiny_system.tarball())
    place = f"--project={os.environ['INCUS_PROJECT']}"
    done = pull.run(place, "pull", str(ID))
    assert f"incus-testbed {place} {ALIAS}\n" in done.stdout


def test_progress_is_shown_on_a_terminal(
    pull: Pull, server: DebusineServer
) -> None:
    server.add_artifact(ID, tiny_system.tarball(size=8 << 20))
    shell = f"{sys.executable} -m debusine_incus pull {ID}"
    said = subprocess.run(
        ["script", "-qec", shell, "/dev/null"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "HOME": str(pull.home),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        check=True,
    ).stdout
    assert f"Downloading {ALIAS}" in said


def test_killed_pull_leaves_nothing(
    pull: Pull, server: DebusineServer, incus: Incus, tmp_path: Path
) -> None:
    file = server.add_artifact(ID, tiny_system.tarball(size=3 << 20))
    event = threading.Event()
    file.faults += [held_after(1 << 20, event)]
    child = pull.start("pull", str(ID))
    try:
        deadline = time.monotonic() + _LIMIT
        while not file.requests:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.kill()
        child.communicate()
    finally:
        event.set()
    assert Store(incus).find(ALIAS) is None
    assert all(image.aliases for image in incus.images())
    assert not list(tmp_path.rglob("*.tar*"))
    pull.output(str(ID))


# -- what a user can get wrong


def test_unknown_things(pull: Pull, server: DebusineServer) -> None:
    said = pull.complaint("99")
    assert "no artifact 99 that you may see" in said
    assert server.api_url in said
    assert "no work request 99" in pull.complaint("--work-request=99")


def test_wrong_category(pull: Pull, server: DebusineServer) -> None:
    server.add_artifact(ID, b"", category="debian:source-package")
    said = pull.complaint(str(ID))
    assert "debian:source-package, not a debian:system-tarball" in said


@pytest.mark.parametrize("dynamic", [None, {}, {"environment_id": None}])
def test_work_request_without_environment(
    pull: Pull, server: DebusineServer, dynamic: dict[str, object] | None
) -> None:
    server.add_work_request(7, dynamic)
    said = pull.complaint("--work-request", "7")
    assert "Work request 7 (Worker autopkgtest, completed)" in said


def test_wrong_token(pull: Pull, server: DebusineServer) -> None:
    wrong = "of-somebody-else"
    pull.configure(_CONFIGURATION.format(url=server.api_url, token=wrong))
    said = pull.complaint("1")
    assert "refuses your token" in said
    assert wrong not in said


def test_server_that_is_down(pull: Pull) -> None:
    with debusine_server.running() as gone:
        url = gone.api_url
    pull.configure(_CONFIGURATION.format(url=url, token=TOKEN))
    assert f"{url} can't be reached" in pull.complaint("1")


def test_answer_that_is_not_debusines(
    pull: Pull, server: DebusineServer
) -> None:
    server.artifacts[1] = {"id": 1}
    assert "doesn't understand" in pull.complaint("1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[server:home]\n",
        "[General]\ndefault-server = home\n",
        "[General]\ndefault-server = home\n[server:home]\nscope = x\n",
        "no section",
    ],
)
def test_configuration_that_is_not_complete(pull: Pull, text: str) -> None:
    pull.configure(text)
    assert "debusine setup" in pull.complaint("1")


def test_no_configuration(pull: Pull, tmp_path: Path) -> None:
    (tmp_path / ".config/debusine/client/config.ini").unlink()
    said = pull.complaint("1")
    assert "config.ini" in said
    assert "debusine setup" in said


@pytest.mark.parametrize("name", ["elsewhere", "a/b", "a/b/c"])
def test_server_that_is_not_configured(pull: Pull, name: str) -> None:
    assert "configur" in pull.complaint("--server", name, "1")


def test_alias_of_another_image(
    pull: Pull, server: DebusineServer, incus: Incus
) -> None:
    server.add_artifact(ID, tiny_system.tarball())
    Store(incus).add(io.BytesIO(tiny_system.tarball("other")), ALIAS)
    said = pull.complaint(str(ID))
    assert f"{ALIAS} is taken" in said
    assert f"incus-testbed remove {ALIAS}" in said


def test_command_line(pull: Pull) -> None:
    assert pull.run("pull").returncode == 2
    assert pull.run("pull", "one").returncode == 2
    assert pull.run("pull", "1", "--work-request", "2").returncode == 2
    assert "ARTIFACT" in pull.run("pull", "--help").stdout
