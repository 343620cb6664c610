# SPDX-License-Identifier: GPL-3.0-or-later
"""Remotes of the incus command: those that are reached directly, and how.

Read in the source of Incus 6.0 to 7.0: shared/cliconfig/ (the configuration),
shared/proxy/, client/connection.go.
"""

import ipaddress
import logging
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from incus_testbed.incus.exec.address import TlsAddress

log = logging.getLogger(__name__)

_PORT = 443  # of an address without one


def address(
    name: str,
    known: Mapping[str, Any],
    folders: tuple[Path, Path],
    environment: Mapping[str, str],
) -> TlsAddress | None:
    """Return where a remote's daemon listens, if we can talk to it ourselves.

    ``known`` is what the configuration says of it.  ``folders`` hold the
    certificates: the client's, and that of the server.

    None leaves the remote to the incus command, which is slower, and may lose
    output of short commands.
    """
    where = _split(str(known.get("addr", "")))
    why = _obstacle(known, where, environment)
    if why or not where:
        _tell(name, why)
        return None
    # A session may be started in another directory.
    own, servers = (folder.absolute() for folder in folders)
    certificate, key, authorities = (
        own / f"client.{kind}" for kind in ("crt", "key", "ca")
    )
    # In newer versions a remote can have a client's certificate of its own.
    special = [own / f"clientcerts/{name}.{kind}" for kind in ("crt", "key")]
    if all(map(_is_there, special)):
        certificate, key = special
        authorities = special[0].with_suffix(".ca")
    pinned = servers / f"servercerts/{name}.crt"
    return TlsAddress(
        where.hostname or "",
        where.port or _PORT,
        certificate=str(certificate),
        key=str(key),
        pinned=str(pinned) if _is_there(pinned) else "",
        authorities=str(authorities) if _is_there(authorities) else "",
    )


@cache
def _tell(name: str, why: str) -> None:
    """Say it once."""
    log.info("The remote %s is left to incus: %s", name, why)


def _obstacle(
    known: Mapping[str, Any],
    where: SplitResult | None,
    environment: Mapping[str, str],
) -> str:
    """Return why only incus can use a remote; empty if we can, too."""
    if where is None:
        return "its address is not one of https alone"
    if known.get("public") or (known.get("protocol") or "incus") != "incus":
        return "it is not an Incus server that has instances"
    if (known.get("auth_type") or "tls") != "tls":
        return "incus logs in there in another way than by a certificate"
    if known.get("keepalive"):
        return "incus keeps a connection to it open, in a process of its own"
    if _is_behind_proxy(where, environment):
        return "HTTPS_PROXY has a proxy for it"
    return ""


def _split(url: str) -> SplitResult | None:
    """Return the parts of an address of https; None if it is something else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # no number of a port, or no IPv6 address
        return None
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    plain = shown if port is None else f"{shown}:{port}"
    if not host or parts.scheme != "https" or parts.netloc.lower() != plain:
        return None
    return None if parts.path not in {"", "/"} or parts.query else parts


def _is_there(path: Path) -> bool:
    """Tell whether incus would use a file: unless it certainly is not there."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


def _is_behind_proxy(
    where: SplitResult, environment: Mapping[str, str]
) -> bool:
    """Tell whether incus would use a proxy; it has rules of its own."""
    proxy, excepted = (
        environment.get(name.upper()) or environment.get(name) or ""
        for name in ("https_proxy", "no_proxy")
    )
    host = where.hostname or ""
    number = _number(host)
    if not proxy or host == "localhost" or (number and number.is_loopback):
        return False
    return excepted != "*" and not any(
        _covers(each.strip().lower(), host, number)
        for each in excepted.split(",")
        if each.strip()
    )


def _covers(
    exception: str,
    host: str,
    number: ipaddress.IPv4Address | ipaddress.IPv6Address | None,
) -> bool:
    """Tell whether a part of NO_PROXY is about a host."""
    if number:
        try:
            return number in ipaddress.ip_network(exception, strict=False)
        except ValueError:
            return False
    name = re.sub(r":\d+$", "", exception)
    return host == name.lstrip(".") or host.endswith(f".{name.lstrip('.')}")


def _number(
    host: str,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
