# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy that apt uses for a mirror, and the one that guests can use."""

import ipaddress
import logging
import re
import socket
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from incus_testbed import errors
from incus_testbed.bootstrap import mirror
from incus_testbed.process import programs

log = logging.getLogger(__name__)

_HELPER = "/usr/lib/apt/apt-helper"
#: Seconds for a program that finds a proxy, and for a proxy to answer.
_LIMIT = 30.0
_ANSWER_LIMIT = 3.0

_DIRECT = "DIRECT"
_PORTS = {"http": 80, "https": 443, "socks5h": 1080}


def of(url: str, environment: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy that apt uses for a mirror's URL, if any.

    Its rules are in apt-transport-http(1): a program that finds one, then the
    setting for the host, then that for all hosts, then the environment.

    :raises errors.Unsupported: it is no URL of a proxy
    """
    found = _detected(url) or _configured(url)
    if not found:
        found = _of_environment(url, environment)
    if not found or found.upper() == _DIRECT:
        return None
    if not re.fullmatch(
        r"(https?|socks5h)://([^@/\s\"]*@)?(\[[0-9a-fA-F:]+\]|[\w.-]+)"
        r"(:\d{1,5})?/?",
        found,
        re.ASCII,
    ):
        raise errors.Unsupported(
            "apt's proxy is no URL of a proxy:"
            f" {mirror.without_password(found)}",
            resolution="See: apt-config dump Acquire::http",
        )
    return found


def of_mirrors(
    urls: Iterable[str], environment: Mapping[str, str]
) -> dict[str, str]:
    """Return the proxies that apt uses for mirrors, by their URLs' scheme."""
    found: dict[str, str] = {}
    for each in urls:
        if proxy := of(each, environment):
            found.setdefault(each.partition(":")[0], proxy)
    return found


def all_for_guests(
    proxies: Mapping[str, str], bridge: str | None
) -> dict[str, str]:
    """Return those of the proxies that guests can use, as for_guests() does."""
    return {
        scheme: reached
        for scheme, url in proxies.items()
        if (reached := for_guests(url, bridge))
    }


def for_guests(proxy: str, bridge: str | None) -> str | None:
    """Return a proxy's URL as guests can use it; None if they can't.

    A proxy on this machine's loopback is reached at ``bridge``, this
    machine's address on the guests' network.  What guests can't use is logged.
    """
    shown = mirror.without_password(proxy)
    if shown != proxy:
        log.warning(
            "apt's proxy %s needs a password, which every guest could read in"
            " the image: it is used for the build only, and guests use none",
            shown,
        )
        return None
    if not is_loopback(proxy):
        return proxy
    reached = at_bridge(proxy, bridge)
    if reached is None:
        log.warning(
            "apt's proxy %s answers on this machine only, not at %s, where"
            " guests would reach it: they use none. Have it listen on all"
            " addresses",
            shown,
            bridge or "the bridge's address, which is unknown",
        )
    return reached


def is_loopback(url: str) -> bool:
    """Tell whether a URL's host is this machine's loopback."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def at_bridge(url: str, bridge: str | None) -> str | None:
    """Return a loopback URL with the bridge's address for its host.

    None if nothing answers there.  Says how the admin opens it for guests.
    """
    if bridge is None:
        return None
    parts = urlsplit(url)
    port = parts.port or _PORTS[parts.scheme]
    try:
        socket.create_connection((bridge, port), _ANSWER_LIMIT).close()
    except OSError:
        return None
    host = f"[{bridge}]" if ":" in bridge else bridge
    log.warning(
        "guests are told to use %s:%d of this machine, which 'incus-testbed"
        " setup' closes to them unless you open it: incus-testbed setup"
        " --allow %s:%d",
        host,
        port,
        host,
        port,
    )
    return parts._replace(netloc=f"{host}:{port}").geturl()


def _detected(url: str) -> str:
    said = programs.output([_HELPER, "auto-detect-proxy", url], timeout=_LIMIT)
    found = re.search(r"Using proxy '([^']*)'", said or "")
    return found[1] if found else ""


def _configured(url: str) -> str:
    said = programs.output(
        ["apt-config", "dump", "--format=%F %v%n", "Acquire"], timeout=_LIMIT
    )
    settings = {
        name.lower(): value
        for name, _, value in (
            line.partition(" ") for line in (said or "").splitlines()
        )
    }
    parts = urlsplit(url)
    schemes = dict.fromkeys([parts.scheme, "http"])  # http's is https' too
    names = (
        f"acquire::{scheme}::proxy{host}"
        for scheme in schemes
        for host in (f"::{parts.hostname}", "")
    )
    return next((settings[name] for name in names if settings.get(name)), "")


def _of_environment(url: str, environment: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    host = f".{parts.hostname}"
    for domain in environment.get("no_proxy", "").split(","):
        name = domain.strip().lstrip(".")
        if name and host.endswith(f".{name}"):
            return ""
    return environment.get(f"{parts.scheme}_proxy", "")
