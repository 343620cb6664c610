# SPDX-License-Identifier: GPL-3.0-or-later
"""Which firewall is found in the testbeds' way.

The rules in the folder firewalls are those of docker.io 26.1, ufw 0.36 and
firewalld 2.3 in Debian 13, as nft 1.1.3 listed them, before (shut) and after
(open) the commands that are told: the chains that forwarded and incoming
packets pass.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incus_testbed.firewall import obstruction, rules
from incus_testbed.firewall.obstruction import DOCKER, FIREWALLD, UFW
from incus_testbed.host import doctor, firewall
from tests.support.fake_incus import FakeIncus

_CAPTURES = Path(__file__).with_name("captures")
_BRIDGE = "debusinebr0"


def _listing(name: str) -> list[Any]:
    lines = (_CAPTURES / f"{name}.txt").read_text().splitlines()
    return [json.loads(line) for line in lines if not line.startswith("#")]


def _found(
    objects: list[Any], bridge: str = _BRIDGE
) -> list[obstruction.Obstruction]:
    return [
        each
        for table in rules.of_nft({"nftables": objects}, bridge)
        for each in obstruction.of_table(table, bridge)
    ]


def _chain(name: str, **settings: str) -> dict[str, Any]:
    return {
        "chain": {"family": "inet", "table": "own", "name": name, **settings}
    }


def _rule(chain: str, *expressions: Any) -> dict[str, Any]:
    return {
        "rule": {
            "family": "inet",
            "table": "own",
            "chain": chain,
            "expr": list(expressions),
        }
    }


def _match(left: Any, right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


_FROM = {"meta": {"key": "iifname"}}
_PORT = {"payload": {"protocol": "udp", "field": "dport"}}
_ACCEPT = {"accept": None}
_SHUT = _chain("in", hook="input", policy="drop")


@pytest.mark.parametrize(
    ("name", "owner", "effects"),
    [
        ("docker", DOCKER, [False]),
        ("ufw", UFW, [True, False]),
        ("firewalld", FIREWALLD, [True, False]),
    ],
)
def test_a_firewall_before_and_after_its_remedy(
    name: str, owner: str, effects: list[bool]
) -> None:
    found = _found(_listing(f"{name}-shut"))

    assert {each.firewall for each in found} == {owner}
    assert [each.hides_dhcp for each in found] == effects
    assert all(_BRIDGE in command for each in found for command in each.remedy)
    assert _found(_listing(f"{name}-open")) == []
    assert _found(_listing(f"{name}-open"), "otherbr0")


def test_a_zone_that_does_not_accept_is_no_remedy() -> None:
    """As of firewalld 1.3, which goes to the zone instead of a jump."""
    shut = _chain("in", hook="input", policy="accept")
    end = _rule("in", {"reject": {"type": "icmpx"}})
    zones = [
        _chain("trusted"),
        _rule("trusted", {"jump": {"target": "trusted_pre"}}),
        _rule("trusted", _ACCEPT),
        _chain("public"),
        _rule("public", _match({"ct": {"key": "state"}}, "new"), _ACCEPT),
    ]

    def goes_to(zone: str) -> dict[str, Any]:
        return _rule("in", _match(_FROM, _BRIDGE), {"goto": {"target": zone}})

    assert _found([shut, *zones, goes_to("trusted"), end]) == []
    assert _found([shut, *zones, goes_to("public"), end]) != []


def test_what_is_accepted_from_others_does_not_count() -> None:
    """As of firewalld 1.3 where Docker is, too."""
    for goes in ("jump", "goto"):
        others = [
            _chain("docker"),
            _rule("docker", _ACCEPT),
            _rule("in", _match(_FROM, "docker0"), {goes: {"target": "docker"}}),
        ]
        assert _found([_SHUT, *others]) != []
    to_all = _rule("in", {"jump": {"target": "docker"}})
    assert _found([_SHUT, *others, to_all]) == []


@pytest.mark.parametrize(
    "rule",
    [
        _rule("in", _match(_FROM, _BRIDGE), _ACCEPT),
        _rule("in", _match(_FROM, "debusine*"), {"counter": {}}, _ACCEPT),
        _rule("in", _match(_FROM, {"set": ["lo", _BRIDGE]}), _ACCEPT),
        _rule("in", _match(_PORT, 67), _ACCEPT),
        _rule("in", _match(_PORT, {"set": [53, 67]}), _ACCEPT),
        _rule("in", _ACCEPT),
    ],
)
def test_rules_that_let_a_bridge_in(rule: dict[str, Any]) -> None:
    assert _found([_SHUT, rule]) == []


@pytest.mark.parametrize(
    "rule",
    [
        _rule("in", _match(_FROM, _BRIDGE), {"drop": None}),
        _rule("in", _match(_FROM, _BRIDGE, "!="), _ACCEPT),
        _rule("in", _match(_FROM, "debusinebr1"), _ACCEPT),
        _rule("in", _match(_PORT, 68), _ACCEPT),
        _rule("in", {"xt": {"type": "match", "name": "tcp"}}, _ACCEPT),
        _rule("elsewhere", _match(_FROM, _BRIDGE), _ACCEPT),
    ],
)
def test_rules_that_do_not(rule: dict[str, Any]) -> None:
    (found,) = _found([_SHUT, rule])

    assert not found.known
    assert found.remedy == (
        "nft insert rule inet own in iifname debusinebr0 accept",
    )


@pytest.mark.parametrize(
    "objects",
    [
        [{"chain": None}, {"rule": []}, 3, None, "chain"],
        [{"chain": {"family": "inet", "table": "own", "name": ["in"]}}],
        [_SHUT, _rule("in", None, 7, {"match": "x"}, {"jump": {"target": 1}})],
        [_SHUT, _rule("in", _match({"meta": None}, {"set": {"a": 1}}))],
        # Chains that go to each other, and to one that is not there.
        [
            _SHUT,
            _rule("in", {"jump": {"target": "a"}}),
            _rule("a", {"goto": {"target": "in"}}),
            _rule("a", {"jump": {"target": "nowhere"}}),
        ],
    ],
)
def test_odd_rules_are_skipped(objects: list[Any]) -> None:
    assert len(_found(objects)) == objects.count(_SHUT)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(
                ["nftables", "chain", "rule", "expr", "match", "left", "jump"]
            ),
            inner,
        )
    ),
)


@pytest.mark.slow
@given(_JSON)
def test_any_json_is_read(listing: Any) -> None:
    assert _found([listing]) == []
    assert rules.of_nft(listing, _BRIDGE) == []


@pytest.mark.parametrize(
    ("before", "shut"),
    [
        ("-A FORWARD -i docker0 ! -o docker0 -j ACCEPT", True),
        ("-A DOCKER-USER ! -i debusinebr0 -j ACCEPT", True),
        ("-A DOCKER-USER -i debusinebr0 -j ACCEPT", False),
        ("-A DOCKER-USER -i debusine+ -j ACCEPT", False),
        ('-A DOCKER-USER -i debusinebr0 -m comment --comment "', True),
    ],
)
def test_rules_of_iptables_legacy(before: str, *, shut: bool) -> None:
    table = rules.of_iptables(
        "-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER-USER\n"
        f"-A FORWARD -j DOCKER-USER\n{before}\n"
        "-A DOCKER-USER -j RETURN\n",
        _BRIDGE,
    )
    found = list(obstruction.of_table(table, _BRIDGE))

    assert bool(found) == shut
    for each in found:
        assert each.firewall == DOCKER
        assert each.remedy[0] == (
            "iptables-legacy -I DOCKER-USER -i debusinebr0 -j ACCEPT"
        )


def test_what_only_may_be_in_the_way(tmp_path: Path) -> None:
    assert list(obstruction.suspects(_BRIDGE, tmp_path)) == []
    (tmp_path / "etc/ufw").mkdir(parents=True)
    (tmp_path / "etc/ufw/ufw.conf").write_text("# on\nENABLED=yes\n")
    (tmp_path / "sys/class/net/docker0").mkdir(parents=True)

    found = list(obstruction.suspects(_BRIDGE, tmp_path))

    assert [each.firewall for each in found] == [UFW, DOCKER]
    assert not any(each.certain for each in found)
    assert all("may drop" in each.detail for each in found)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(obstruction, "is_bridge", lambda _: True)
    monkeypatch.setattr(obstruction, "_LEGACY_TABLES", tmp_path / "none")
    return tmp_path


def _program(folder: Path, name: str, said: str, status: int = 0) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{said}'\nexit {status}\n")
    file.chmod(0o755)


def test_doctor_tells_what_is_certain(programs: Path) -> None:
    _program(programs, "nft", json.dumps({"nftables": _listing("docker-shut")}))

    finding = firewall.check(_BRIDGE)

    assert finding.state is doctor.State.FAILED
    assert finding.advice.splitlines() == [
        "iptables -I DOCKER-USER -i debusinebr0 -j ACCEPT",
        "iptables -I DOCKER-USER -o debusinebr0 -j ACCEPT",
    ]


def test_doctor_only_warns_of_what_it_does_not_know(programs: Path) -> None:
    _program(programs, "nft", json.dumps({"nftables": [_SHUT]}))

    assert firewall.check(_BRIDGE).state is doctor.State.WARNING


def test_doctor_notes_what_it_can_not_see(programs: Path) -> None:
    _program(programs, "nft", "", status=1)
    _program(programs, "systemctl", "active")

    finding = firewall.check(_BRIDGE)

    assert finding.state is doctor.State.NOTE
    assert "firewalld may drop" in finding.detail
    assert "--change-interface=debusinebr0" in finding.advice


@pytest.mark.parametrize("said", ["", "no JSON", "[]", "[" * 100_000])
def test_nft_that_says_nothing_useful(programs: Path, said: str) -> None:
    (programs / "said").write_text(said)
    file = programs / "nft"
    file.write_text(f"#!/bin/sh\nexec /bin/cat {programs / 'said'}\n")
    file.chmod(0o755)

    assert firewall.check(_BRIDGE).state is doctor.State.GOOD


def test_without_a_bridge_nothing_is_looked_for() -> None:
    for name in ("nobr0", "../../etc", "lo"):
        assert firewall.check(name).state is doctor.State.UNKNOWN


@pytest.mark.parametrize(
    ("version", "nft", "state"),
    [
        ("6.0.4", False, doctor.State.GOOD),
        ("7.0.2", False, doctor.State.FAILED),
        ("7.0.2", True, doctor.State.GOOD),
        ("odd", False, doctor.State.GOOD),
    ],
)
def test_incus_7_needs_nft(
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    *,
    nft: bool,
    state: doctor.State,
) -> None:
    incus = FakeIncus()
    incus.version = version
    monkeypatch.setattr(
        shutil, "which", lambda name, **_: f"/usr/sbin/{name}" if nft else None
    )

    finding = firewall.check_program(incus)

    assert finding.state is state
    assert ("apt install nftables" in finding.advice) == (
        state is doctor.State.FAILED
    )
