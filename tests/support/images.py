# SPDX-License-Identifier: GPL-3.0-or-later
"""Minimal Debian system tarballs, made from this machine's own apt sources.

    python3 -m tests.support.images SUITE [PACKAGE...]

prints the path of a tarball, made at need and kept for a week.  SUITE may be
that of backports, trixie-backports for instance: the image is then a trixie
that takes from backports all that these have.
"""

import argparse
import dataclasses
import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from incus_testbed import errors
from incus_testbed.bootstrap import apt, recipe
from incus_testbed.bootstrap.apt import Debian

#: Seconds after which an image is made afresh: mirrors move on.
LIFETIME = 7 * 86400

#: Raise it when the same inputs have come to make something else.
_RECIPE = "1"


class ImageError(Exception):
    """No image could be made; says why."""


def build(
    suite: str,
    packages: Sequence[str] = (),
    *,
    without: Sequence[str] = (),
    init: str = "systemd-sysv",
    architecture: str = "",
    hooks: Sequence[str] = (),
) -> Path:
    """Return a minimal system with ``init`` and ``packages``, as a tarball.

    ``without`` are patterns of paths that dpkg leaves out, as in dpkg.cfg(5),
    ``hooks`` what mmdebstrap does last.  Without ``architecture`` it is this
    machine's.  Only one process makes a given image; others wait for it.

    :raises ImageError: apt has no Debian source, or mmdebstrap failed
    """
    source = debian()
    options = [
        *apt_options(source),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in without),
        *(f"--customize-hook={hook}" for hook in hooks),
    ]
    if architecture:
        # The check for emulation needs arch-test, also where none is needed.
        options += [f"--architectures={architecture}", "--skip=check/qemu"]
    if suite != codename(suite):
        options.append(f"--aptopt={recipe.preference(suite)}")
    wanted = sorted({init, *packages})
    if source.main.uri.startswith("https://"):
        wanted.append("ca-certificates")
    text = stanza(source, *dict.fromkeys([codename(suite), suite]))
    inputs = "\n".join([_RECIPE, suite, *wanted, text, *options])
    digest = hashlib.sha256(inputs.encode()).hexdigest()[:12]
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


def cache_directory() -> Path:
    """Return where images are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "debusine-incus" / "images"


def debian() -> Debian:
    """Return where this machine's Debian comes from, without its updates.

    :raises ImageError: apt has no Debian source
    """
    try:
        return dataclasses.replace(
            apt.debian(),
            components=("main",),
            security=None,
            has_updates=False,
            has_sources=False,
        )
    except errors.TestbedError as error:
        raise ImageError(str(error)) from error


def apt_options(source: Debian) -> list[str]:
    """Return mmdebstrap's options for an apt that works as this machine's."""
    return [
        *(f"--aptopt={setting}" for setting in apt.settings()),
        *recipe.key_hooks(source),
    ]


def stanza(source: Debian, *suites: str) -> str:
    """Return the deb822 source of some suites."""
    return source.main.stanza(suites, source.components, source.types)


def is_fresh(image: Path) -> bool:
    """Tell whether an image is there and not too old."""
    return image.exists() and time.time() - image.stat().st_mtime < LIFETIME


def _bootstrap(
    image: Path, suite: str, stanza: str, options: Sequence[str]
) -> None:
    """Make the image; it is there when it is whole."""
    say(f"making a minimal {suite} with mmdebstrap")
    partial = image.with_name(f"partial-{image.name}")
    # If this is killed, the next one replaces both, or make clean removes them.
    source = image.with_name(f"{partial.name}.sources")
    source.write_text(stanza)
    try:
        result = subprocess.run(
            [
                *("mmdebstrap", "--variant=minbase", *options),
                *(f"--customize-hook={hook}" for hook in recipe.ANONYMOUS),
                *(codename(suite), partial, source),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        source.unlink()
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
