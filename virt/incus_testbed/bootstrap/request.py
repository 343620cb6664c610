# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user asks of a new image, checked before anything is started."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from incus_testbed import errors
from incus_testbed.bootstrap import mirror, vm
from incus_testbed.bootstrap.variants import VARIANTS

#: Suites without updates of their own.
_ROLLING = ("sid", "unstable", "experimental", "rc-buggy")
_BACKPORTS = "-backports"

_SUITE = r"[a-z][a-z0-9.]*(-[a-z0-9.]+)*"
_COMPONENT = r"[a-z][a-z0-9-]*"
_PACKAGE = r"[a-z0-9][a-z0-9.+-]*[a-z0-9.+](:[a-z0-9-]+)?"
_VERSION = rf"(=[0-9][\w.+~:-]*|/{_SUITE})"
_ARCHITECTURE = r"[a-z0-9]+(-[a-z0-9]+)*"


@dataclass(frozen=True, kw_only=True)
class Request:
    """An image of a Debian suite, for containers or for virtual machines.

    None is what this machine has: its apt's mirror and components, its
    architecture.  ``sources``: source packages too, even if this machine's apt
    does not use them.  The alias is by default that of autopkgtest-build-incus.
    """

    suite: str
    architecture: str
    mirror: str | None = None
    components: Sequence[str] | None = None
    include: Sequence[str] = ()
    variant: str = VARIANTS[0]
    sources: bool = False
    alias: str | None = None
    vm: bool = False

    def __post_init__(self) -> None:
        """Check the words that mmdebstrap and apt will read.

        :raises errors.TestbedError: one of them is not what it should be
        """
        _check("suite", _SUITE, [self.suite], "trixie")
        _check("architecture", _ARCHITECTURE, [self.architecture], "amd64")
        _check("component", _COMPONENT, self.components or (), "main")
        _check("package", f"{_PACKAGE}{_VERSION}?", self.include, "hello")
        if self.mirror is not None:
            mirror.check(self.mirror)
        if self.variant not in VARIANTS:
            raise errors.TestbedError(
                f"{self.variant!r} is not a variant",
                resolution=f"Use one of {', '.join(VARIANTS)}",
            )
        if self.vm:
            vm.of(self.architecture)

    @property
    def name(self) -> str:
        """The image's alias."""
        usual = f"autopkgtest/debian/{self.suite}/{self.architecture}"
        return self.alias or (f"{usual}/vm" if self.vm else usual)

    @property
    def release(self) -> str:
        """The suite whose base system it is: trixie, of trixie-backports."""
        return self.suite.removesuffix(_BACKPORTS)

    @property
    def has_backports(self) -> bool:
        """Whether the suite's own packages are preferred to its release's."""
        return self.suite != self.release

    @property
    def is_rolling(self) -> bool:
        """Whether the suite has no updates beside it."""
        return self.release in _ROLLING


def _check(what: str, grammar: str, words: Sequence[str], example: str) -> None:
    for word in words:
        if not re.fullmatch(grammar, word, re.ASCII):
            raise errors.TestbedError(
                f"{word!r} is not a valid {what}",
                resolution=f"Use one such as {example}",
            )
