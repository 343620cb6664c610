# SPDX-License-Identifier: GPL-3.0-or-later
"""Where this machine's apt gets Debian from: mirrors, keys and settings.

Its files are written by an admin, so they are trusted.  Only a password in a
URL is refused: an image would show it to every guest.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from debian.deb822 import Deb822

from incus_testbed import errors
from incus_testbed.bootstrap import mirror
from incus_testbed.process import programs

#: Seconds for apt to say how it is set up.
_LIMIT = 60.0

#: The keys that sign Debian; all Debian systems have this file.
DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_DEBIAN_KEYS = "/usr/share/keyrings/debian-archive-"

#: The settings that decide how apt judges a mirror.  An image needs them too,
#: because it uses the same mirror.
_KEPT_SETTINGS = ("Acquire::Check-Valid-Until ", "Acquire::Check-Date ")

#: The fields of a source that are about its mirror, as sources.list(5) has
#: them.  Others, such as Architectures, are about this machine.
_KEPT_FIELDS = (
    "Signed-By",
    "Trusted",
    "Allow-Insecure",
    "Allow-Weak",
    "Check-Valid-Until",
    "Check-Date",
    "By-Hash",
)

_WITHOUT_MIRROR = (
    "Name one: --mirror=http://mirror.example/debian. If this is Debian, add"
    " its mirror to apt, and run: apt-get update"
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One mirror; ``fields`` are its others, as in a deb822 source."""

    uri: str
    fields: Mapping[str, str]

    def stanza(
        self, suites: Sequence[str], components: Sequence[str], types: str
    ) -> str:
        """Return the deb822 source of some suites of this mirror."""
        lines = {
            "Types": types,
            "URIs": self.uri,
            "Suites": " ".join(suites),
            "Components": " ".join(components),
            **self.fields,
        }
        return "".join(f"{name}: {value}\n" for name, value in lines.items())

    def keys(self) -> list[str]:
        """Return the files with its keys that a Debian system lacks."""
        keys = self.fields.get("Signed-By", "")
        if "-----BEGIN" in keys:  # the key itself
            return []
        return [
            word
            for word in re.split(r"[,\s]+", keys)
            if word.startswith("/") and not word.startswith(_DEBIAN_KEYS)
        ]


@dataclass(frozen=True, kw_only=True)
class Debian:
    """All that apt knows of Debian.

    ``components`` are those of its main source.  ``security`` is the source of
    security updates.  ``has_updates`` tells whether apt uses SUITE-updates,
    ``has_sources`` whether it uses source packages.
    """

    main: Source
    components: tuple[str, ...] = ("main",)
    security: Source | None = None
    has_updates: bool = False
    has_sources: bool = False

    @property
    def types(self) -> str:
        """The types of packages, as a deb822 source has them."""
        return "deb deb-src" if self.has_sources else "deb"

    @property
    def mirrors(self) -> list[str]:
        """The URLs of its sources."""
        return [each.uri for each in (self.main, self.security) if each]


@dataclass(frozen=True)
class _Target:
    """An index that apt fetches: of a release, for an entry of a file."""

    kind: str
    release: str
    entry: str


def debian() -> Debian:
    """Return where this machine's Debian comes from.

    :raises errors.NotFound: apt has no Debian source
    :raises errors.Unsupported: mirror.check() refuses its mirror
    """
    targets = list(_targets())
    packages = [each for each in targets if each.kind == "Packages"]
    main = next((each for each in packages if "-" not in each.release), None)
    if main is None:
        raise errors.NotFound(
            "apt knows no Debian mirror", resolution=_WITHOUT_MIRROR
        )
    fields = _fields(main.entry)
    security = next(
        (each for each in packages if each.release.endswith("-security")), None
    )
    return Debian(
        main=_source(fields),
        components=tuple(fields.get("Components", "main").split()),
        security=_source(_fields(security.entry)) if security else None,
        has_updates=any(each.release.endswith("-updates") for each in packages),
        has_sources=any(each.kind == "Sources" for each in targets),
    )


def at(url: str) -> Debian:
    """Return a Debian that comes from a mirror of this URL alone.

    :raises errors.MissingProgram: Debian's keys are not installed
    :raises errors.Unsupported: mirror.check() refuses it
    """
    if not Path(DEBIAN_KEYRING).exists():
        raise errors.MissingProgram(
            f"The keys of Debian's mirrors are missing: {DEBIAN_KEYRING}",
            resolution="Install them: apt install debian-archive-keyring",
        )
    return Debian(
        main=Source(uri=mirror.check(url), fields={"Signed-By": DEBIAN_KEYRING})
    )


def settings() -> list[str]:
    """Return those of apt's settings that an image needs too."""
    return [
        line
        for line in _output("apt-config", "dump").splitlines()
        if line.startswith(_KEPT_SETTINGS)
    ]


def architecture() -> str:
    """Return Debian's name of this machine's architecture."""
    return _output("dpkg", "--print-architecture").strip()


def _targets() -> Iterator[_Target]:
    """Yield Debian's indexes, in the order of apt's sources."""
    said = _output(
        *("apt-get", "indextargets"),
        "--format=$(CREATED_BY) $(RELEASE) $(SOURCESENTRY)",
        *("Origin: Debian", "Component: main"),
    )
    for line in said.splitlines():
        words = line.split(maxsplit=2)
        if len(words) == 3 and words[0] in {"Packages", "Sources"}:  # noqa: PLR2004
            yield _Target(*words)


def _fields(entry: str) -> dict[str, str]:
    """Return the fields of what apt calls FILE:NUMBER, as deb822 has them."""
    name, _, number = entry.rpartition(":")
    path = Path(name)
    position = int(number) - 1
    if path.suffix == ".sources":
        with path.open() as file:
            paragraph = list(Deb822.iter_paragraphs(file))[position]
        names = ("URIs", "Components", *_KEPT_FIELDS)
        return {each: paragraph[each] for each in names if each in paragraph}
    return of_line(path.read_text().splitlines()[position])


def of_line(line: str) -> dict[str, str]:
    """Return the fields of a one-line source, as deb822 has them.

    :raises errors.Unsupported: it is not understood
    """
    entry = re.match(
        r"""(?x) deb(?:-src)? \s+ (?: \[ (?P<options> .*? ) \] \s* )?
        (?P<uri>\S+) \s+ \S+ (?P<components> [^\#]* )""",
        line,
    )
    if not entry:
        raise errors.Unsupported(
            f"This apt source is not understood: {line}",
            resolution="Choose a mirror with --mirror.",
        )
    named = (
        option.partition("=") for option in (entry["options"] or "").split()
    )
    return {
        "URIs": entry["uri"],
        "Components": entry["components"].strip(),
        **{name.title(): value for name, _, value in named},
    }


def _source(fields: Mapping[str, str]) -> Source:
    kept = {name: fields[name] for name in _KEPT_FIELDS if name in fields}
    if keys := kept.get("Signed-By"):
        # From forky on, this is the name of a link.  Older Debian has no other.
        kept["Signed-By"] = re.sub(
            rf"({_DEBIAN_KEYS}[\w-]+)\.pgp\b", r"\1.gpg", keys
        )
    return Source(uri=mirror.check(_real_uri(fields["URIs"])), fields=kept)


def _real_uri(uris: str) -> str:
    """Return a URI that guests can use too, of those that apt tries."""
    uri = uris.split(maxsplit=1)[0]
    if uri.startswith("mirror+file:"):  # as in Debian's cloud images
        mirrors = Path(uri.removeprefix("mirror+file:")).read_text()
        return mirrors.split()[0]
    return uri


def _output(*argv: str) -> str:
    done = programs.run(argv, timeout=_LIMIT)
    if done.status:
        raise errors.CommandFailed(
            f"'{programs.shown(argv)}' failed", details=done.stderr
        )
    return done.stdout.decode(errors="replace")
