# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the kernel's packet filter rules to answer one question.

Is there a chain that all packets pass, that drops packets which no rule
accepts, and that has no rule to accept the packets of a given bridge?  Only
conditions that Debian's firewalls use for this are evaluated.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

#: The hooks of packets to this machine, and of packets that it forwards.
INPUT, FORWARD = "input", "forward"
#: Guests use IPv4, so chains for IPv6 alone don't matter.
_FAMILIES = ("ip", "inet")
#: The UDP port of a DHCP server.
_DHCP = 67


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule: its conditions and its effect.

    ``named``: it matches the bridge's name, or DHCP.  ``conditional``: it
    applies only to some packets.  ``verdict`` is accept, drop or empty;
    ``target`` is the chain to which the rule jumps.
    """

    named: bool
    conditional: bool
    verdict: str
    target: str


@dataclass
class Chain:
    """A chain; without a hook, it gets packets only from other chains."""

    hook: str = ""
    policy: str = "accept"
    rules: list[Rule] = field(default_factory=list)


@dataclass
class Table:
    """Chains that can jump to each other, by name.

    ``tool`` is the program that changes them.
    """

    family: str
    name: str
    tool: str = "nft"
    chains: dict[str, Chain] = field(default_factory=dict)

    def closed(self) -> Iterator[tuple[str, Chain]]:
        """Yield the chains that drop the bridge's packets."""
        for name, chain in self.chains.items():
            if (
                chain.hook in {INPUT, FORWARD}
                and self._drops_the_rest(name)
                and not self._admits_the_bridge(name)
            ):
                yield name, chain

    def reachable(
        self, start: str, *, by_all_packets: bool = False
    ) -> set[str]:
        """Return the names of the chain ``start`` and of those it leads to."""
        found: set[str] = set()
        waiting = [start]
        while waiting:
            name = waiting.pop()
            if name in self.chains and name not in found:
                found.add(name)
                waiting += [
                    rule.target
                    for rule in self.chains[name].rules
                    if not (by_all_packets and rule.conditional)
                ]
        return found

    def _drops_the_rest(self, name: str) -> bool:
        return self.chains[name].policy == "drop" or any(
            rule.verdict == "drop" and not rule.conditional
            for rule in self.chains[name].rules
        )

    def _admits_the_bridge(self, start: str) -> bool:
        return any(
            rule.named and self._accepts(rule)
            for name in self.reachable(start)
            for rule in self.chains[name].rules
        ) or any(
            _accepts_all(self.chains[name])
            for name in self.reachable(start, by_all_packets=True)
        )

    def _accepts(self, rule: Rule) -> bool:
        """Tell whether a rule accepts, or jumps to a chain that accepts all."""
        if rule.target in self.chains:
            return _accepts_all(self.chains[rule.target])
        return rule.verdict == "accept"


def _accepts_all(chain: Chain) -> bool:
    return any(
        rule.verdict == "accept" and not rule.conditional
        for rule in chain.rules
    )


def of_nft(listing: Any, bridge: str) -> list[Table]:
    """Read the output of 'nft --json list ruleset'; skip unknown parts.

    ``listing`` is the decoded JSON.
    """
    tables: dict[tuple[str, str], Table] = {}

    def chain(family: str, table: str, name: str) -> Chain:
        at = tables.setdefault((family, table), Table(family, table))
        return at.chains.setdefault(name, Chain())

    objects = listing.get("nftables") if isinstance(listing, dict) else None
    for item in objects if isinstance(objects, list) else ():
        match item:
            case {
                "chain": {
                    "family": str(family),
                    "table": str(table),
                    "name": str(name),
                } as settings
            } if family in _FAMILIES:
                made = chain(family, table, name)
                made.hook = str(settings.get("hook", ""))
                made.policy = str(settings.get("policy", "accept"))
            case {
                "rule": {
                    "family": str(family),
                    "table": str(table),
                    "chain": str(name),
                    "expr": list(expressions),
                }
            } if family in _FAMILIES:
                chain(family, table, name).rules.append(
                    _rule(expressions, bridge)
                )
    return list(tables.values())


def _rule(expressions: list[Any], bridge: str) -> Rule:
    named = conditional = False
    verdict = target = ""
    for expression in expressions:
        match expression:
            case {"accept": _}:
                verdict = "accept"
            case {"drop": _} | {"reject": _} | {"xt": {"name": "REJECT"}}:
                verdict = "drop"
            case {"jump": {"target": str(name)}} | {
                "goto": {"target": str(name)}
            }:
                target = name
            case {"counter": _} | {"log": _}:
                pass
            case {"match": {"op": "!="}}:
                conditional = True
            case {"match": {"left": left, "right": right}}:
                conditional = True
                named = named or _is_for(left, right, bridge)
            case _:
                conditional = True
    return Rule(
        named=named, conditional=conditional, verdict=verdict, target=target
    )


def _is_for(left: Any, right: Any, bridge: str) -> bool:
    """Tell whether a match is for the bridge's name or DHCP's port."""
    several = right.get("set") if isinstance(right, dict) else None
    values = several if isinstance(several, list) else [right]
    match left:
        case {"meta": {"key": "iifname" | "oifname" | "iif" | "oif"}}:
            return any(_is_name(value, bridge) for value in values)
        case {"payload": {"protocol": "udp", "field": "dport"}}:
            return _DHCP in values
    return False


def _is_name(pattern: Any, bridge: str) -> bool:
    if not isinstance(pattern, str):
        return False
    return pattern == bridge or (
        pattern.endswith("*") and bridge.startswith(pattern[:-1])
    )


def of_iptables(saved: str, bridge: str) -> Table:
    """Read the output of 'iptables-legacy --list-rules'."""
    table = Table("ip", "filter", tool="iptables-legacy")
    for line in saved.splitlines():
        match _words(line):
            case ["-P", name, policy]:
                table.chains[name] = Chain(name.lower(), policy.lower())
            case ["-N", name]:
                table.chains[name] = Chain()
            case ["-A", name, *words]:
                rule = _iptables_rule(words, bridge)
                table.chains.setdefault(name, Chain()).rules.append(rule)
    return table


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # a quotation without an end
        return []


_VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop"}


def _iptables_rule(words: list[str], bridge: str) -> Rule:
    named = conditional = False
    target = ""
    previous = ""
    for option, value in zip(words, [*words[1:], ""], strict=True):
        if option in {"-j", "-g"}:
            target = value
            break  # the rest are options of the target
        if option in {"-i", "-o"} and previous != "!":
            named = named or _is_name(value.replace("+", "*"), bridge)
        conditional = True
        previous = option
    verdict = _VERDICTS.get(target, "")
    return Rule(
        named=named,
        conditional=conditional,
        verdict=verdict,
        target="" if verdict else target,
    )
