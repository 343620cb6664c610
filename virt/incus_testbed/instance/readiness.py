# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until a guest has booted."""

import logging
import time
from dataclasses import dataclass

from incus_testbed import errors
from incus_testbed.customise import last_file
from incus_testbed.incus.events import AgentNews
from incus_testbed.instance import answer as instance_answer
from incus_testbed.instance import console, evidence, scripts
from incus_testbed.instance.guest import SCRIPT_LIMIT, Guest

log = logging.getLogger(__name__)

#: Seconds between two attempts to reach a virtual machine's agent, or this
#: share of the time so far; and seconds between two log messages about it.
_AGENT_PAUSE, _AGENT_SHARE = 0.2, 0.05
_AGENT_NEWS = 30.0
#: Or as many times as long as the last attempt took: the host of a virtual
#: machine may be too slow for both.  But no more than so many seconds.
_AGENT_REST, _LONGEST_REST = 3, 30.0
#: Seconds for the daemon to start a script in a guest, beyond the script's own.
_MARGIN = 15.0


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """A guest after its boot: systemd's state, failed units, network.

    ``user`` is the first normal user in the guest, or empty.  ``dates`` are
    those of the files in last_file.PATHS.
    """

    state: str
    failed_units: tuple[str, ...]
    network: str
    user: str
    dates: tuple[int, ...] = ()


def wait_ready(guest: Guest, timeout: float) -> Readiness:
    """Wait until a guest has booted and has a network.

    :raises errors.BootFailed: it is not ready after ``timeout`` seconds, or it
        stopped; details hold the end of its console
    """
    with console.shown(guest), guest.agent_news() as news:
        return _readiness(guest, news, timeout)


def _readiness(guest: Guest, news: AgentNews, timeout: float) -> Readiness:
    try:
        answer = _ask_when_up(guest, news, timeout)
    except errors.AgentDown as error:
        why = f"its agent has not answered for {timeout:.0f} s"
        advice = evidence.about_disk(guest)
        raise evidence.failure(guest, why, advice=advice) from error
    except errors.TestbedError as error:
        raise evidence.failure(guest, error.brief, error.details) from error
    readiness = Readiness(
        state=instance_answer.state(answer.get("state", "")),
        failed_units=instance_answer.units(answer.get("failed", "")),
        network=instance_answer.state(answer.get("network", "")),
        user=instance_answer.user(answer.get("user", "")),
        dates=instance_answer.dates(answer.get("dates", "")),
    )
    if answer["status"] != "0":
        why = (
            f"its state is {readiness.state!r} and its network"
            f" {readiness.network!r}, after {timeout:.0f} s at most"
        )
        offline = readiness.network == "offline"
        advice = evidence.about_network(guest) if offline else ""
        raise evidence.failure(guest, why, advice=advice)
    if readiness.failed_units:
        log.warning(
            "%s is %s: failed units: %s",
            guest.name,
            readiness.state,
            " ".join(readiness.failed_units),
        )
    if readiness.network == "nameless":
        log.warning(
            "%s can't resolve names: nothing in its image configures a name"
            " server. Add systemd-resolved to the image, or import it with"
            " 'incus-testbed import'",
            guest.name,
        )
    return readiness


def _ask_when_up(
    guest: Guest, news: AgentNews, timeout: float
) -> dict[str, str]:
    """Ask a guest whether it is ready, as soon as it can answer.

    :raises errors.AgentDown: a virtual machine's agent has not answered in time
    """
    began = told = time.monotonic()
    while True:
        waited = time.monotonic() - began
        left = max(timeout - waited, 1)
        try:
            return guest.ask(
                "wait-ready.sh",
                f"{left:.0f}",
                *(f"/{path}" for path in last_file.PATHS),
                then="probe.sh",
                limit=left + _MARGIN,
            )
        except errors.AgentDown:
            if waited > timeout:
                raise
        if time.monotonic() - told > _AGENT_NEWS:
            told = time.monotonic()
            log.info(
                "%s: the agent has not answered for %.0f s", guest.name, waited
            )
        _leave_time(news, began, waited)


def _leave_time(news: AgentNews, began: float, waited: float) -> None:
    """Pause after an attempt to reach an agent, which began after ``waited``.

    Both are in seconds; ``began`` is when the first attempt did.  It ends when
    the agent is said to have started.
    """
    took = time.monotonic() - began - waited
    rest = min(took * _AGENT_REST, _LONGEST_REST)
    news.wait(max(_AGENT_PAUSE, waited * _AGENT_SHARE, rest))


def probe(guest: Guest) -> dict[str, str]:
    """Return a guest's shell, boot id and first normal user.

    :raises errors.NotRunning: it is not running, or went down meanwhile
    :raises errors.CommandFailed: its answer makes no sense
    """
    answer = guest.ask("probe.sh")
    if not {"shell", "boot", "user"} <= answer.keys():
        raise errors.NotRunning(
            f"{guest.name} went away while it was asked about itself",
            details=evidence.of(guest),
        )
    boot_id = instance_answer.boot(answer["boot"])
    if not boot_id:
        raise errors.CommandFailed(
            f"{guest.name} gave no boot id when it was asked for it"
        )
    return {
        "shell": instance_answer.shell(answer["shell"]),
        "boot": boot_id,
        "user": instance_answer.user(answer["user"]),
    }


def reboot(guest: Guest) -> None:
    """Ask a guest's init to reboot, without waiting for it.

    :raises errors.NotRunning: the instance is not running
    """
    guest.execute(scripts.command("reboot.sh"), timeout=SCRIPT_LIMIT)


def wait_reboot(guest: Guest, old: str, timeout: float) -> None:
    """Wait until a guest has left the boot ``old`` and is ready in the next.

    :raises errors.BootFailed: it is not ready after ``timeout`` seconds, or it
        no longer exists
    """
    with console.shown(guest, only_new=True), guest.agent_news() as news:
        _wait_for_another_boot(guest, news, old, timeout)


def _wait_for_another_boot(
    guest: Guest, news: AgentNews, old: str, timeout: float
) -> None:
    began = time.monotonic()
    while (left := began + timeout - time.monotonic()) > 0:
        # In the old boot, the script sleeps until the guest shuts down, which
        # ends the script.  So there is no need to poll.
        try:
            answer = guest.ask(
                "wait-reboot.sh",
                old,
                f"{left:.0f}",
                limit=left + _MARGIN,
            )
        except errors.NotFound as error:
            raise errors.BootFailed(
                f"{guest.name} no longer exists: it was powered off, not"
                " rebooted"
            ) from error
        except errors.TestbedError as error:
            log.debug("%s is between two boots: %s", guest.name, error.brief)
            answer = {}
            if isinstance(error, errors.AgentDown):
                _leave_time(news, began, timeout - left)
        if (instance_answer.boot(answer.get("boot", "")) or old) != old:
            _readiness(guest, news, max(left, 1))
            return
        time.sleep(0.05)
    raise evidence.failure(guest, f"it did not reboot within {timeout:.0f} s")
