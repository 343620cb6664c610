# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out what an image holds, while its archive is read."""

import dataclasses
import re
from collections.abc import Iterable, Iterator

from incus_testbed import errors
from incus_testbed.limits.budget import Budget
from incus_testbed.system import os_release, packages
from incus_testbed.system.entry import Entry
from incus_testbed.system.facts import (
    LONGEST_LABEL,
    MACHINE_IDS,
    Facts,
    Init,
    Resolver,
    Service,
)
from incus_testbed.system.tree import Tree
from incus_testbed.system.unit_file import install

UNIT_DIRECTORIES = ("lib/systemd/system", "usr/lib/systemd/system")
ADMIN_UNITS = "etc/systemd/system"
ALL_UNITS = (ADMIN_UNITS, *UNIT_DIRECTORIES)
_PROGRAMS = ("sbin", "usr/sbin", "bin", "usr/bin")
_WANTS = ("basic", "multi-user", "network", "network-online", "sysinit")
_NETWORKD = "systemd-networkd.service"
_RESOLVED = "systemd-resolved.service"
_SERVICES = (_NETWORKD, _RESOLVED, "NetworkManager.service", "dhcpcd.service")
_INIT = "sbin/init"
_SYSTEMD = ("lib/systemd/systemd", "usr/lib/systemd/systemd")
_DHCP_CLIENTS = ("dhclient", "dhcpcd", "udhcpc")
_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_DEBIAN_VERSION = "etc/debian_version"
_RESOLV_CONF = "etc/resolv.conf"
_INTERFACES = "etc/network/interfaces"
_IFUPDOWN_DEFAULTS = "etc/default/networking"
_INITTAB = "etc/inittab"
#: In the root of an image that incus image export has written.
_INCUS_METADATA = "metadata.yaml"
_INIT_SCRIPT = "etc/init.d/network-manager"
#: With this text, each boot gets a new id (machine-id(5)).
_UNINITIALIZED = "uninitialized"

_FILES = (
    *(*_OS_RELEASE, _DEBIAN_VERSION, _INTERFACES, _IFUPDOWN_DEFAULTS),
    *(_INITTAB, *MACHINE_IDS),
)
_WITH_CONTENT = re.compile(
    rf"""(?x) {"|".join(map(re.escape, _FILES))}
    | {_INTERFACES} \.d/ [^/]+
    | (?:usr/)? lib/systemd/system/
        systemd-(?:networkd|resolved) [a-z-]* \.(?:service|socket)
    """
)

#: Bytes of a configuration file; real ones have a few KB.
_LARGEST_FILE = 1 << 16

#: Files with records of dpkg; a distroless image has a few dozen.
_MOST_STATUS_FILES = 10_000

#: Packages that every Debian system has.  They tell its architecture.
_ESSENTIAL = ("dpkg", "base-files", "libc-bin")


class Survey:
    """Collects the facts for customisation, in bounded memory."""

    def __init__(
        self, budget: Budget | None = None, directories: Iterable[str] = ()
    ) -> None:
        """Start with nothing seen.

        The facts say which of ``directories`` there are.
        """
        self._budget = budget or Budget()
        self._tree = Tree(
            paths=(*_watched(), *directories),
            pattern=_WITH_CONTENT.pattern,
            budget=self._budget,
        )
        self._packages: dict[str, packages.Package] = {}
        self._machine_id_may_be_a_link = False
        self._status_files = 0

    def watches(self, path: str) -> bool:
        """Return whether a member at this path matters, or leads to one."""
        return self._tree.watches(path) or packages.is_status(path)

    def wants_content(self, path: str) -> bool:
        """Return whether a regular file's bytes must be in its Entry."""
        return packages.is_status(path) or bool(_WITH_CONTENT.fullmatch(path))

    def check_size(self, path: str, size: int) -> None:
        """Refuse a file that is too large, before its content is read.

        :raises errors.BadImage: it is larger than in any real system
        """
        if packages.is_status(path):
            if size > self._budget.status_bytes:
                raise self._budget.refusal(
                    "status_bytes",
                    f"The records of dpkg in /{path} are too long",
                    f"They have {size} bytes.",
                )
        elif size > _LARGEST_FILE:
            raise errors.BadImage(
                f"The image's /{path} is too large for a file of its kind",
                details=f"It has {size} bytes, more than {_LARGEST_FILE}.",
                resolution="Build the image again, without this file.",
            )

    def visit(self, entry: Entry) -> None:
        """Note the archive's next member."""
        if packages.is_status(entry.path) and entry.content is not None:
            if entry.path == packages.STATUS:
                self._packages.clear()
            self._status_files += 1
            if self._status_files > _MOST_STATUS_FILES:
                raise errors.BadImage(
                    "The records of dpkg are in more than"
                    f" {_MOST_STATUS_FILES} files",
                    resolution="Build the image again.",
                )
            self._packages |= packages.installed(
                entry.content, ("systemd", *_ESSENTIAL)
            )
            entry = dataclasses.replace(entry, content=None)
        if _may_replace_a_machine_id(entry):
            self._machine_id_may_be_a_link = True
        self._tree.remember(entry)

    def facts(self) -> Facts:
        """Return the facts about all visited members.

        :raises errors.BadImage: the image has no init, or no dpkg
        """
        init = self._init()
        architecture = self._architecture()
        texts = filter(None, map(self._tree.text, _OS_RELEASE))
        release = os_release.fields(next(texts, ""))
        interfaces_file = self._tree.text(_INTERFACES)
        return Facts(
            architecture=architecture,
            vendor=release.get("ID", "")[:LONGEST_LABEL],
            codename=os_release.codename(
                release, self._tree.text(_DEBIAN_VERSION)
            )[:LONGEST_LABEL],
            init=init,
            systemd_version=self._major("systemd"),
            networkd=self._service(_NETWORKD),
            resolved=self._service(_RESOLVED),
            network_manager=self._service(
                "NetworkManager.service", script=_INIT_SCRIPT
            ),
            dhcpcd=self._service("dhcpcd.service"),
            ifupdown=self._has_program("ifup"),
            ifupdown_defaults=self._tree.text(_IFUPDOWN_DEFAULTS),
            interfaces="\n".join(self._interfaces(interfaces_file)),
            interfaces_file=interfaces_file,
            dhcp_client=any(map(self._has_program, _DHCP_CLIENTS)),
            cloud_init=self._has_program("cloud-init"),
            # a link of this name may lead to resolvectl
            resolvconf=any(
                (found := self._tree.member(path)) and found.kind == "file"
                for path in ("sbin/resolvconf", "usr/sbin/resolvconf")
            ),
            resolver=self._resolver(),
            inittab=self._tree.text(_INITTAB),
            machine_ids=tuple(self._machine_ids(init)),
            units={
                name: install(text)
                for directory in UNIT_DIRECTORIES
                for name in self._tree.names(directory)
                if (text := self._tree.text(f"{directory}/{name}"))
            },
            directories=self._tree.directories(),
        )

    def _init(self) -> Init:
        target = self._tree.target(_INIT)
        if target in _SYSTEMD and self._tree.file(target):
            return "systemd"
        found = self._tree.member(_INIT)
        if not found and self._tree.file(_INCUS_METADATA):
            raise errors.BadImage(
                "The tarball is an image of Incus, not a system",
                resolution="Import it by incus: incus image import FILE"
                " --alias NAME",
            )
        if not found or target in _SYSTEMD:
            raise errors.BadImage(
                "The image has no init: /sbin/init is missing",
                resolution="Add the package systemd-sysv to the image.",
            )
        return "sysvinit" if self._tree.file(_INITTAB) else "other"

    def _architecture(self) -> str:
        for name in _ESSENTIAL:
            package = self._packages.get(name)
            if package and package.architecture not in {"", "all"}:
                return package.architecture
        raise errors.BadImage(
            "The image's architecture is unknown: "
            f"/{packages.STATUS} records none of {', '.join(_ESSENTIAL)}",
            resolution="Build the image from a whole Debian system, including"
            " dpkg's records.",
        )

    def _major(self, name: str) -> int | None:
        package = self._packages.get(name)
        return package.major if package else None

    def _has_program(self, name: str) -> bool:
        return any(map(self._tree.member, _below(_PROGRAMS, name)))

    def _service(self, unit: str, *, script: str = "") -> Service:
        """Describe a unit; without it, the init script ``script``, if given."""
        admin = self._tree.member(f"{ADMIN_UNITS}/{unit}")
        if admin and (admin.target == "/dev/null"):
            return Service()
        present = bool(admin) or any(
            map(self._tree.file, _below(UNIT_DIRECTORIES, unit))
        )
        if not present:
            started = bool(script and self._tree.file(script))
            return Service(present=started, enabled=started)
        enabled = any(map(self._tree.member, _wants(unit)))
        return Service(present=True, enabled=enabled)

    def _interfaces(self, main: str) -> Iterator[str]:
        yield main
        if re.search(r"(?m)^[ \t]*source(-directory)?[ \t]", main):
            directory = f"{_INTERFACES}.d"
            for name in self._tree.names(directory):
                yield self._tree.text(f"{directory}/{name}")

    def _resolver(self) -> Resolver:
        found = self._tree.member(_RESOLV_CONF)
        if not found or found.kind != "symlink":
            return "file"
        leads = self._tree.target(_RESOLV_CONF)
        owners: dict[str, Resolver] = {
            "/systemd/resolve": "resolved",
            "/systemd/resolv.conf": "resolved",
            "resolvconf": "resolvconf",
            "NetworkManager": "networkmanager",
        }
        return next((owners[part] for part in owners if part in leads), "other")

    def _machine_ids(self, init: Init) -> Iterator[str]:
        if init != "systemd" or self._machine_id_may_be_a_link:
            return
        for path in MACHINE_IDS:
            if (
                self._tree.target(path) == path
                and (text := self._tree.text(path).strip())
                and text != _UNINITIALIZED
            ):
                yield path


def _below(directories: Iterable[str], name: str) -> list[str]:
    return [f"{directory}/{name}" for directory in directories]


def _wants(unit: str) -> list[str]:
    """Return the places of the links that enable a unit."""
    links = [f"{target}.target.wants/{unit}" for target in _WANTS]
    return [path for link in links for path in _below(ALL_UNITS, link)]


def _watched() -> Iterator[str]:
    yield from (_INIT, *_SYSTEMD, _RESOLV_CONF, packages.STATUS)
    yield _INCUS_METADATA
    yield f"{_INTERFACES}.d"
    for name in ("init", "ifup", "cloud-init", "resolvconf", *_DHCP_CLIENTS):
        yield from _below(_PROGRAMS, name)
    for unit in _SERVICES:
        yield from _below(ALL_UNITS, unit)
        yield from _wants(unit)
    yield from (_INIT_SCRIPT, *MACHINE_IDS)


def _may_replace_a_machine_id(entry: Entry) -> bool:
    """Tell whether an entry may become one of MACHINE_IDS and is not a file.

    tar unpacks a member into the folder to which an earlier link leads, so its
    real path may differ.  Only some links are remembered here, so the path
    can't be resolved.
    """
    return (
        entry.path.endswith("/machine-id")
        and entry.path not in MACHINE_IDS
        and entry.kind not in {"file", "directory"}
    )
