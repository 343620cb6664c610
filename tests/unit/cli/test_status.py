# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that show what there is, in each format."""

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from incus_testbed.cleanup import inventory
from incus_testbed.cli import main as module
from incus_testbed.cli import output, place
from incus_testbed.instance.creation import CREATED_KEY, OWNER_KEY, PURPOSE_KEY
from incus_testbed.process import signals
from tests.support import owners
from tests.support.fake_incus import FakeIncus
from tests.support.imported import named, unnamed

_Command = Callable[..., str]


@pytest.fixture
def incus() -> FakeIncus:
    return FakeIncus.set_up()


@pytest.fixture(autouse=True)
def _aimed(incus: FakeIncus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "Incus", incus.aimed)
    monkeypatch.setattr(output, "configure", lambda *_, **__: None)
    monkeypatch.setattr(signals, "catch", lambda *_: None)


@pytest.fixture
def status(capsys: pytest.CaptureFixture[str]) -> _Command:
    """Run the command; give what it prints."""

    def run(*words: str) -> str:
        assert module.main(["status", *words]) == 0
        said = capsys.readouterr()
        assert said.err == ""
        return said.out

    return run


def _launch(
    incus: FakeIncus,
    name: str,
    owner: object,
    age: timedelta,
    purpose: str,
    *options: str,
) -> None:
    created = (datetime.now(UTC) - age).isoformat()
    incus.run(
        *("init", "t/a", name, f"--config={OWNER_KEY}={owner}"),
        *(f"--config={CREATED_KEY}={created}",),
        f"--config={PURPOSE_KEY}={purpose}",
        *options,
    )


@pytest.fixture
def full(incus: FakeIncus) -> FakeIncus:
    """Have an image, testbeds of all kinds of owners, and garbage."""
    named(incus, "t/a", unpacked=2_000_000_000)
    _launch(incus, "mine", owners.MINE, timedelta(minutes=75), "run")
    _launch(incus, "ended", owners.GONE, timedelta(days=3), "work request 7")
    _launch(incus, "foreign", owners.ON_ANOTHER_MACHINE, timedelta(), "shell")
    incus.run("init", "t/a", "somebody-elses")
    unnamed(incus, "t/b", owner=owners.GONE)
    return incus


def test_of_nothing(status: _Command) -> None:
    facts = json.loads(status("--format=json"))
    assert facts["images"] == facts["testbeds"] == facts["garbage"] == []
    assert facts["server"]["project"] == "default"
    assert re.search(r"(?m)^Images +none$", status())


@pytest.mark.usefixtures("full")
def test_tables(status: _Command) -> None:
    said = status()
    rows = [re.split(r"  +", line) for line in said.splitlines()]
    assert ["mine", "container", "Stopped", "run"] in [row[:4] for row in rows]
    by_name = {row[0]: row[1:] for row in rows if row}
    assert by_name["mine"][3:] == [f"process {os.getpid()}", "1 h 15 min"]
    assert by_name["ended"][2:] == ["work request 7", "has ended", "3 days"]
    other = owners.ON_ANOTHER_MACHINE.host_id
    assert by_name["foreign"][3:] == [f"on host {other}", "0 min"]
    assert by_name[other] == ["1 instance"]
    assert by_name["This host"] == [owners.MINE.host_id]
    assert "somebody-elses" not in by_name
    assert by_name["instance"] == ["ended"]
    assert "unfinished image" in by_name
    assert "\x1b" not in said


@pytest.mark.usefixtures("full")
def test_documents_say_the_same(status: _Command) -> None:
    facts = json.loads(status("--format=json"))
    assert yaml.safe_load(status("--format=yaml")) == facts
    assert [each["name"] for each in facts["testbeds"]] == [
        *("mine", "ended", "foreign"),
    ]
    assert {each["kind"] for each in facts["garbage"]} == {
        *("instance", "unfinished image"),
    }
    assert facts["host"] == owners.MINE.host_id
    assert facts["other_hosts"] == [
        {"host": owners.ON_ANOTHER_MACHINE.host_id, "owns": {"instance": 1}}
    ]
    (image,) = facts["images"]
    assert image["unpacked_size"] == 2_000_000_000


def test_what_has_an_owner_alone_is_garbage_too(
    incus: FakeIncus, status: _Command
) -> None:
    named(incus, "t/a")
    incus.run("init", "t/a", "bare", f"--config={OWNER_KEY}={owners.GONE}")

    facts = json.loads(status("--format=json"))

    assert facts["testbeds"] == []
    assert facts["garbage"] == [{"kind": "instance", "name": "bare"}]


def test_of_much_a_page_is_shown_and_the_rest_is_counted(
    incus: FakeIncus, status: _Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "_FEW_IMAGES", 0)
    monkeypatch.setattr(inventory, "_FEW_INSTANCES", 0)
    named(incus, "t/a")
    for number in range(30):
        _launch(incus, f"mine-{number}", owners.MINE, timedelta(), "run")
    for number in range(12):
        name = f"testbed-{number:03}"
        _launch(incus, name, owners.MINE, timedelta(), "run")

    facts = json.loads(status("--format=json"))

    assert [each["name"] for each in facts["testbeds"]] == [
        f"testbed-{number:03}" for number in range(10)
    ]
    assert facts["images"] == []
    assert facts["unlisted"] == {"images": 1, "instances": 32}
    said = status()
    assert not re.search(r"(?m)^Images  +none", said)
    assert "1 image: see --all" in said
    assert "32 instances: see --all" in said
    everything = json.loads(status("--all", "--format=json"))
    assert len(everything["testbeds"]) == 42
    assert len(everything["images"]) == 1
    assert everything["unlisted"] == {"images": 0, "instances": 0}
    assert "--all" not in status("--all")


@pytest.mark.usefixtures("full")
def test_csv_has_a_row_for_each_fact(status: _Command) -> None:
    head, *rows = csv.reader(io.StringIO(status("--format=csv")))
    assert head == ["KIND", "NAME", "FACT", "VALUE"]
    assert ["testbed", "ended", "owner", "has ended"] in rows
    assert ["garbage", "ended", "kind", "instance"] in rows
    other = owners.ON_ANOTHER_MACHINE.host_id
    assert ["host", other, "instance", "1"] in rows
    assert {len(row) for row in rows} == {4}


def test_what_this_machine_left_on_a_server_of_many_before_its_boot(
    incus: FakeIncus, status: _Command
) -> None:
    named(incus, "t/a")
    for name in ("one", "two"):
        _launch(incus, name, owners.REBOOTED, timedelta(), "run")
    assert "this one, before" not in status()

    incus.become_cluster()
    vars(incus)["_environments"].clear()
    said = status()

    mine = owners.MINE.host_id
    assert f"{mine} (this one, before its last boot)  2 instances" in said
    assert f"on host {mine}" in said


def test_members_of_a_cluster(incus: FakeIncus, status: _Command) -> None:
    facts = json.loads(status("--format=json"))
    assert facts["members"] == []
    assert "MEMBER" not in status()

    incus.become_cluster()
    vars(incus)["_environments"].clear()
    named(incus, "t/a")
    _launch(incus, "here", owners.MINE, timedelta(), "run", "--target=one")
    _launch(incus, "there", owners.MINE, timedelta(), "run", "--target=one")
    _launch(incus, "away", owners.MINE, timedelta(), "run", "--target=two")
    incus.machines.statuses["two"] = "Offline"

    facts = json.loads(status("--format=json"))
    assert facts["members"] == [
        {"name": "one", "status": "Online", "testbeds": 2},
        {"name": "two", "status": "Offline", "testbeds": None},
    ]
    assert {each["member"] for each in facts["testbeds"]} == {"one"}
    said = status()
    assert re.search(r"(?m)^one +Online +2$", said)
    assert re.search(r"(?m)^two +Offline +\?$", said)
    rows = [*csv.reader(io.StringIO(status("--format=csv")))]
    assert ["member", "two", "status", "Offline"] in rows


def test_members_of_whose_testbeds_only_a_page_is_read(
    incus: FakeIncus, status: _Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "_FEW_INSTANCES", 1)
    monkeypatch.setattr(inventory, "_ALONE", 0)
    monkeypatch.setattr(inventory, "_PAGE", 1)
    incus.become_cluster()
    vars(incus)["_environments"].clear()
    named(incus, "t/a")
    for name in ("here", "there"):
        _launch(incus, name, owners.MINE, timedelta(), "run", "--target=one")

    facts = json.loads(status("--format=json"))

    assert {each["testbeds"] for each in facts["members"]} == {None}
    assert re.search(r"(?m)^one +Online +\?$", status())
    assert re.search(r"(?m)^one +Online +2$", status("--all"))


def test_what_others_wrote_is_escaped(
    incus: FakeIncus, status: _Command
) -> None:
    named(incus, "t/a")
    _launch(incus, "evil", "x", timedelta(), "\x1b]0;title\x07[red]x")
    incus.run(
        *("init", "t/a", "timeless", f"--config={OWNER_KEY}=x"),
        f"--config={CREATED_KEY}=\x1b[2J",
    )
    for form in ("table", "csv"):
        said = status(f"--format={form}")
        assert "\x1b" not in said
        assert "[red]x" in said


def test_images_in_each_format(
    incus: FakeIncus, capsys: pytest.CaptureFixture[str]
) -> None:
    named(incus, "t/a")
    said = {}
    for form in ("json", "yaml", "csv"):
        assert module.main(["images", "-f", form]) == 0
        said[form] = capsys.readouterr().out
    assert yaml.safe_load(said["yaml"]) == json.loads(said["json"])
    rows = list(csv.DictReader(io.StringIO(said["csv"])))
    assert [row["ALIAS"] for row in rows] == ["t/a"]


_ON_A_TERMINAL = """
from incus_testbed.cli import output
output.table(("NAME", "WHAT"), [("a", "[b]not markup[/b]"), ("b", "c" * 200)])
"""


@pytest.mark.parametrize("no_color", [False, True])
def test_table_on_a_terminal(no_color: bool) -> None:
    ours, theirs = pty.openpty()
    environment = {
        **os.environ,
        "TERM": "xterm",
        "COLUMNS": "60",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    environment.pop("NO_COLOR", None)
    if no_color:
        environment["NO_COLOR"] = "1"
    subprocess.run(
        [sys.executable, "-c", _ON_A_TERMINAL],
        stdout=theirs,
        check=True,
        env=environment,
        timeout=60,
    )
    os.close(theirs)
    said = os.read(ours, 1 << 16).decode()
    os.close(ours)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert "[b]not markup[/b]" in plain
    assert max(map(len, plain.splitlines())) <= 60
    assert not re.search(r"\x1b\[(?:\d+;)*[349]\d", said)


def test_watch_shows_again_until_interrupted(
    incus: FakeIncus,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 1:
            raise KeyboardInterrupt
        named(incus, "t/a")

    monkeypatch.setattr(time, "sleep", pause)
    with pytest.raises(KeyboardInterrupt):
        module.main(["status", "--watch"])
    said = capsys.readouterr().out
    assert [re.findall(r"(?m)^Images +(\w+)", said)] == [["none", "1"]]
