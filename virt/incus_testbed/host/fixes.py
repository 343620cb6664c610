# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that the installed Incus has the known security fixes."""

import re

from incus_testbed.host.requirement import Finding, State, good, warning
from incus_testbed.process import programs

_PACKAGE = "incus-base"
#: With these, a malicious image makes Incus read and write files of the host.
_FLAWS = "CVE-2026-48749, CVE-2026-48750 and CVE-2026-48752"
#: Debian's versions without the fixes: from the first version of a pair to just
#: before the second.  The tilde counts backports of the second as fixed.  The
#: source is the package's changelogs.
_UNFIXED = (
    ("0", "6.0.4-2+deb13u8~"),
    ("6.0.5", "7.0.0-4~"),
)
_UPGRADE = (
    "apt update && apt install --only-upgrade incus incus-base incus-client"
)
#: Seconds for one of dpkg's or apt's programs.
_LIMIT = 30.0


def check() -> Finding:
    """Ask dpkg for the version of Incus on this machine."""
    version = _installed()
    if not _is_of_debian(version):
        return Finding(
            state=State.UNKNOWN,
            detail=f"Incus is not from Debian's package {_PACKAGE}",
        )
    if not _lacks_fixes(version):
        return good(f"{_PACKAGE} {version} has them")
    return warning(
        f"{_PACKAGE} {version} lacks those of {_FLAWS}: a malicious"
        " image can make it read and write files of this machine",
        advice=_advice(_candidate()),
    )


def _advice(candidate: str) -> str:
    if candidate and not _lacks_fixes(candidate):
        return _UPGRADE
    return (
        "apt knows of no fixed version here; 'apt update' may change that."
        " Debian 13 and later have one.\n"
        "Images that incus-testbed imports can't use these flaws. Do not"
        " launch other images that you don't trust."
    )


def _is_of_debian(version: str) -> bool:
    """Tell whether Debian made a version.

    Versions of the Incus project's own packages have an epoch.
    """
    return bool(version) and ":" not in version and "ubuntu" not in version


def _lacks_fixes(version: str) -> bool:
    return any(
        not _precedes(version, first) and _precedes(version, fixed)
        for first, fixed in _UNFIXED
    )


def _precedes(version: str, other: str) -> bool:
    return _said("dpkg", "--compare-versions", version, "lt", other) is not None


def _installed() -> str:
    """Return the installed version, or an empty string."""
    said = _said(
        *("dpkg-query", "--show"),
        *("--showformat=${db:Status-Status} ${Version}", _PACKAGE),
    )
    state, _, version = (said or "").strip().partition(" ")
    return version if state == "installed" else ""


def _candidate() -> str:
    """Return the version that apt would install, or an empty string."""
    said = _said("apt-cache", "policy", _PACKAGE)
    found = re.search(r"^ *Candidate: (\d\S*)$", said or "", re.MULTILINE)
    return found[1] if found else ""


def _said(*argv: str) -> str | None:
    return programs.output(argv, timeout=_LIMIT)
