# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until a guest has booted; if it fails, collect the evidence."""

import contextlib
import logging
import os
import time
from dataclasses import dataclass

from incus_testbed import errors
from incus_testbed.client import Incus
from incus_testbed.firewall import obstruction
from incus_testbed.guest import answer as guest_answer
from incus_testbed.guest import script

log = logging.getLogger(__name__)

#: Sets the seconds for a guest to boot, for containers and virtual machines.
LIMIT_VARIABLE = "INCUS_TESTBED_BOOT_LIMIT"
#: Seconds for a guest to boot, including its network.  A container uses the
#: kernel of the host; a virtual machine first starts its firmware and kernel.
_CONTAINER_LIMIT = 120.0
_MACHINE_LIMIT = 600.0

#: Seconds for a small script of our own in a guest.
_SCRIPT_LIMIT = 60.0
#: Seconds between two attempts to reach a virtual machine's agent, or this
#: share of the time so far; and seconds between two log messages about it.
_AGENT_PAUSE, _AGENT_SHARE = 0.2, 0.05
_AGENT_NEWS = 30.0
#: Seconds for the daemon to start a script in a guest, beyond the script's own.
_MARGIN = 15.0
_CONSOLE_LINES = 25
#: What to do about a guest that did not come up.
_RESOLUTION = (
    "'incus-testbed doctor' checks whether guests can boot on this machine;"
    " 'incus launch IMAGE' makes an instance that you can examine."
)
#: How often a script is run until its answer is complete.
_ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """A guest after its boot: systemd's state, failed units, network.

    ``user`` is the first normal user in the guest, or empty.
    """

    state: str
    failed_units: tuple[str, ...]
    network: str
    user: str


def limit(*, machine: bool) -> float:
    """Return the seconds that a container, or virtual machine, has to boot.

    :raises errors.Unsupported: the variable is not a number of seconds
    """
    said = os.environ.get(LIMIT_VARIABLE)
    if not said:
        return _MACHINE_LIMIT if machine else _CONTAINER_LIMIT
    if not said.isdecimal() or not int(said):
        raise errors.Unsupported(
            f"{LIMIT_VARIABLE}={said} is not a number of seconds"
        )
    return float(said)


def ask(
    incus: Incus,
    name: str,
    question: str,
    *arguments: str,
    then: str | None = None,
    limit: float = _SCRIPT_LIMIT,
) -> dict[str, str]:
    """Run a script in a guest; return its answers and status.

    ``then`` is a second script that runs in the same command.  They may run
    several times, because incus exec can lose the output of a short script.

    :raises errors.NotRunning: the instance is not running
    :raises errors.TimedOut: it took more than ``limit`` seconds
    """
    command = script.question(question, *arguments, then=then)
    for _ in range(_ATTEMPTS):
        completed = incus.execute(name, command, timeout=limit)
        output = completed.stdout.decode(errors="replace")
        if script.is_whole(output):
            break
        log.debug("%s has not answered %s in full", name, question)
        if completed.status:  # something ended it: running it again won't help
            break
    return {**script.answers(output), "status": str(completed.status)}


def wait_ready(incus: Incus, name: str, timeout: float) -> Readiness:
    """Wait until a guest has booted and has a network.

    :raises errors.BootFailed: it is not ready after ``timeout`` seconds, or it
        stopped; details hold the end of its console
    """
    try:
        answer = _ask_when_up(incus, name, timeout)
    except errors.AgentDown as error:
        why = f"its agent has not answered for {timeout:.0f} s"
        raise _failure(incus, name, why) from error
    except errors.TestbedError as error:
        raise _failure(incus, name, error.brief, error.details) from error
    readiness = Readiness(
        state=guest_answer.state(answer.get("state", "")),
        failed_units=guest_answer.units(answer.get("failed", "")),
        network=guest_answer.state(answer.get("network", "")),
        user=guest_answer.user(answer.get("user", "")),
    )
    if answer["status"] != "0":
        why = (
            f"its state is {readiness.state!r} and its network"
            f" {readiness.network!r}, after {timeout:.0f} s at most"
        )
        resolution = _RESOLUTION
        if readiness.network == "offline":
            resolution = f"{_firewalls(incus, name)}{resolution}"
        raise _failure(incus, name, why, resolution=resolution)
    if readiness.failed_units:
        log.warning(
            "%s is %s: failed units: %s",
            name,
            readiness.state,
            " ".join(readiness.failed_units),
        )
    if readiness.network == "nameless":
        log.warning(
            "%s can't resolve names: nothing in its image configures a name"
            " server. Add systemd-resolved to the image, or import it with"
            " 'incus-testbed import'",
            name,
        )
    return readiness


def _ask_when_up(incus: Incus, name: str, timeout: float) -> dict[str, str]:
    """Ask a guest whether it is ready, as soon as it can answer.

    :raises errors.AgentDown: a virtual machine's agent has not answered in time
    """
    began = news = time.monotonic()
    while True:
        waited = time.monotonic() - began
        left = max(timeout - waited, 1)
        try:
            return ask(
                incus,
                name,
                "wait-ready.sh",
                f"{left:.0f}",
                then="probe.sh",
                limit=left + _MARGIN,
            )
        except errors.AgentDown:
            if waited > timeout:
                raise
        if time.monotonic() - news > _AGENT_NEWS:
            news = time.monotonic()
            log.info("%s: the agent has not answered for %.0f s", name, waited)
        time.sleep(max(_AGENT_PAUSE, waited * _AGENT_SHARE))


def reboot(incus: Incus, name: str) -> None:
    """Ask a guest's init to reboot, without waiting for it.

    :raises errors.NotRunning: the instance is not running
    """
    incus.execute(name, script.command("reboot.sh"), timeout=_SCRIPT_LIMIT)


def wait_reboot(incus: Incus, name: str, old: str, timeout: float) -> None:
    """Wait until a guest has left the boot ``old`` and is ready in the next.

    :raises errors.BootFailed: it is not ready after ``timeout`` seconds, or it
        no longer exists
    """
    began = time.monotonic()
    while (left := began + timeout - time.monotonic()) > 0:
        # In the old boot, the script sleeps until the guest shuts down, which
        # ends the script.  So there is no need to poll.
        try:
            answer = ask(
                incus,
                name,
                "wait-reboot.sh",
                old,
                f"{left:.0f}",
                limit=left + _MARGIN,
            )
        except errors.NotFound as error:
            raise errors.BootFailed(
                f"{name} no longer exists: it was powered off, not rebooted"
            ) from error
        except errors.TestbedError as error:
            log.debug("%s is between two boots: %s", name, error.brief)
            answer = {}
            if isinstance(error, errors.AgentDown):
                time.sleep(max(_AGENT_PAUSE, (timeout - left) * _AGENT_SHARE))
        if (guest_answer.boot(answer.get("boot", "")) or old) != old:
            wait_ready(incus, name, max(left, 1))
            return
        time.sleep(0.05)
    raise _failure(incus, name, f"it did not reboot within {timeout:.0f} s")


def evidence(incus: Incus, name: str) -> str:
    """Return what a guest wrote to its console, and what it reports now."""
    parts = [_console(incus, name)]
    with contextlib.suppress(errors.TestbedError):
        answer = incus.execute(
            name, script.command("evidence.sh"), timeout=_SCRIPT_LIMIT
        )
        parts.append(answer.stdout.decode(errors="replace").strip())
    return "\n".join(filter(None, parts))


def _console(incus: Incus, name: str) -> str:
    """Return the end of what a guest wrote to its console."""
    try:
        lines = incus.console_log(name).splitlines()
    except errors.TestbedError as error:
        return f"(no console log: {error.brief})"
    shown = [line.rstrip() for line in lines if line.strip()]
    return "\n".join(["The end of its console:", *shown[-_CONSOLE_LINES:]])


def _firewalls(incus: Incus, name: str) -> str:
    """Return the firewalls that block a guest's DHCP, and how to open them.

    That is a line for each firewall and command.  It is empty if no firewall
    is known to block DHCP.
    """
    if not incus.is_local():
        return ""
    try:
        networks = incus.instance(name).networks
    except errors.TestbedError:
        return ""
    lines = [
        line
        for bridge in networks
        if obstruction.is_bridge(bridge)
        for found in obstruction.find(bridge)
        if found.hides_dhcp
        for line in (
            f"The most likely cause: {found.detail}. Run as root:",
            *found.remedy,
        )
    ]
    return "".join(f"{line}\n" for line in lines)


def _failure(
    incus: Incus,
    name: str,
    why: str,
    details: str = "",
    resolution: str = _RESOLUTION,
) -> errors.BootFailed:
    return errors.BootFailed(
        f"{name} did not become ready: {why}",
        details=f"{details}\n{evidence(incus, name)}".strip(),
        resolution=resolution,
    )
