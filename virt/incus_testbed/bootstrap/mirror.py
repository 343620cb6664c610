# SPDX-License-Identifier: GPL-3.0-or-later
"""The URL of a mirror that guests may know and use."""

import re

from incus_testbed import errors

_URL = r"https?://(\[[0-9a-fA-F:]+\]|[\w.-]+)(:\d{1,5})?(/[\w.~+%/:-]*)?"


def check(url: str) -> str:
    """Return the URL of a mirror that may stand in an image.

    :raises errors.Unsupported: it has a password, or is no URL of a mirror
    """
    shown = without_password(url)
    if shown != url:
        raise errors.Unsupported(
            f"The mirror's URL has a password: {shown}",
            details="Every guest could read it in the image.",
            resolution="Use a mirror without one: --mirror=URL",
        )
    if not re.fullmatch(_URL, url, re.ASCII):
        raise errors.Unsupported(
            f"Guests can't use the mirror {url}",
            resolution="Use one such as --mirror=http://mirror.example/debian",
        )
    return url


def without_password(text: str) -> str:
    """Return a text without the user names and passwords of its URLs."""
    return re.sub(r"//[^/\s]*@", "//...@", text)
