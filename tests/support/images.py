# SPDX-License-Identifier: GPL-3.0-or-later
"""Minimal Debian system tarballs, made from this machine's own apt sources.

    python3 -m tests.support.images SUITE [PACKAGE...]

prints the path of a tarball, made at need and kept for a week.  SUITE may be
that of backports, trixie-backports for instance: the image is then a trixie
that takes from backports all that these have.
"""

import argparse
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from debian.deb822 import Deb822

#: Seconds after which an image is made afresh: mirrors move on.
LIFETIME = 7 * 86400

#: How apt is to judge the mirror; images need it as this machine does.
_KEPT_OPTIONS = ("Acquire::Check-Valid-Until ", "Acquire::Check-Date ")

#: Keys that every Debian image holds.
_DEBIAN_KEYS = "/usr/share/keyrings/debian-archive-"

#: mmdebstrap copies these two from the machine it runs on. A link is the
#: image's own.
_ANONYMISE = (
    'test -L "$1/etc/resolv.conf" || rm -f "$1/etc/resolv.conf"',
    'rm -f "$1/etc/hostname"',
)

#: Raise it when the same inputs have come to make something else.
_RECIPE = "1"


class ImageError(Exception):
    """No image could be made; says why."""


def build(
    suite: str, packages: Sequence[str] = (), *, without: Sequence[str] = ()
) -> Path:
    """Return a minimal system with systemd and ``packages``, as a tarball.

    ``without`` are patterns of paths that dpkg leaves out, as in dpkg.cfg(5).
    Only one process makes a given image; others wait for it.

    :raises ImageError: apt has no Debian source, or mmdebstrap failed
    """
    source = debian_source()
    options = [
        *(
            f"--aptopt={option}"
            for option in (*apt_options(), *_preference(suite))
        ),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in without),
        *key_hooks(source.get("Signed-By", "")),
    ]
    wanted = sorted({"systemd-sysv", *packages})
    if "https://" in source["URIs"]:
        wanted.append("ca-certificates")
    text = stanza(source, " ".join(dict.fromkeys([codename(suite), suite])))
    recipe = "\n".join([_RECIPE, suite, *wanted, text, *options])
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    image = cache / f"{suite}-{digest}.tar.zst"
    with (cache / f"{image.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_fresh(image):
            _bootstrap(
                image,
                suite,
                text,
                [f"--include={','.join(wanted)}", *options],
            )
    return image


def codename(suite: str) -> str:
    """Return the Debian release that a suite is, or is backports for."""
    return suite.removesuffix("-backports")


def _preference(suite: str) -> list[str]:
    """Return what makes apt prefer backports, which it does not by itself."""
    if suite == codename(suite):
        return []
    return [f'APT::Default-Release "{suite}";']


def cache_directory() -> Path:
    """Return where images are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "debusine-incus" / "images"


def debian_source() -> dict[str, str]:
    """Return the source this machine's Debian comes from, as deb822 fields."""
    targets = _output(
        *("apt-get", "indextargets", "--format=$(RELEASE) $(SOURCESENTRY)"),
        *("Created-By: Packages", "Origin: Debian", "Component: main"),
    )
    for target in targets.splitlines():
        release, entry = target.split(maxsplit=1)
        if "-" not in release:  # not updates, security, backports
            path, _, position = entry.rpartition(":")
            fields = _read_entry(Path(path), int(position))
            return {**fields, "URIs": _real_uri(fields["URIs"])}
    raise ImageError(
        "apt knows no Debian mirror. Add one, then run: apt-get update"
    )


def _read_entry(path: Path, position: int) -> dict[str, str]:
    """Read what apt calls entry ``position`` of a sources file."""
    if path.suffix == ".sources":
        with path.open() as file:
            return dict(list(Deb822.iter_paragraphs(file))[position - 1])
    return parse_line(path.read_text().splitlines()[position - 1])


def parse_line(line: str) -> dict[str, str]:
    """Turn a one-line sources.list(5) entry into deb822 fields."""
    entry = re.match(r"deb\s+(?:\[(?P<options>.*?)\])?\s*(?P<uri>\S+)", line)
    if not entry:
        raise ImageError(f"This apt source is not understood: {line}")
    options = (entry["options"] or "").split()
    named = (option.partition("=") for option in options)
    return {
        "URIs": entry["uri"],
        **{name.title(): value for name, _, value in named},
    }


def _real_uri(uris: str) -> str:
    """Return a URI that guests can use too, of those that apt tries."""
    uri = uris.split(maxsplit=1)[0]
    if uri.startswith("mirror+file:"):  # as in Debian's cloud images
        mirrors = Path(uri.removeprefix("mirror+file:")).read_text()
        return mirrors.split()[0]
    return uri


def stanza(source: dict[str, str], suite: str) -> str:
    """Return the deb822 stanza for ``suite`` of this source.

    It may be several suites, with spaces between them.
    """
    wanted = {"Types": "deb", "Suites": suite, "Components": "main"}
    ignored = {"Architectures", "Arch", "Enabled", "Targets"}
    return "".join(
        f"{name}: {value}\n"
        for name, value in {**source, **wanted}.items()
        if name not in ignored
    )


def apt_options() -> list[str]:
    """Return those of this machine's apt settings that guests need."""
    return [
        line
        for line in _output("apt-config", "dump").splitlines()
        if line.startswith(_KEPT_OPTIONS)
    ]


def key_hooks(signed_by: str) -> list[str]:
    """Return what brings a local mirror's key into the image."""
    if not signed_by.startswith("/") or signed_by.startswith(_DEBIAN_KEYS):
        return []
    make_directory = f'mkdir -p "$1{Path(signed_by).parent}"'
    return [
        f"--customize-hook={make_directory}",
        f"--customize-hook=upload {signed_by} {signed_by}",
    ]


def _output(*argv: str) -> str:
    return subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout


def is_fresh(image: Path) -> bool:
    """Tell whether an image is there and not too old."""
    return image.exists() and time.time() - image.stat().st_mtime < LIFETIME


def _bootstrap(
    image: Path, suite: str, stanza: str, options: Sequence[str]
) -> None:
    """Make the image; it is there when it is whole."""
    say(f"making a minimal {suite} with mmdebstrap")
    with tempfile.TemporaryDirectory(prefix="debusine-incus-") as scratch:
        source = Path(scratch) / "debian.sources"
        source.write_text(stanza)
        partial = image.with_name(f"partial-{image.name}")
        result = subprocess.run(
            [
                *("mmdebstrap", "--variant=minbase", *options),
                *(f"--customize-hook={hook}" for hook in _ANONYMISE),
                *(codename(suite), partial, source),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    if result.returncode != 0:
        partial.unlink(missing_ok=True)
        last = result.stderr.splitlines()[-15:]
        raise ImageError("\n".join(["mmdebstrap failed:", *last]))
    partial.rename(image)


def say(message: str) -> None:
    """Tell the person who waits."""
    print(f"images: {message}", file=sys.stderr, flush=True)


def main() -> int:
    """Run the command line; give its exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.support.images")
    parser.add_argument("suite")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE")
    arguments = parser.parse_args()
    try:
        print(build(arguments.suite, arguments.packages))
    except ImageError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
