# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the images of testbeds, and the profile that they get."""

import json
from urllib.parse import quote

from incus_testbed.host.requirement import Finding, failed, good
from incus_testbed.image import profiles, properties
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Image


def check_choice(incus: Incus, profile: str) -> Finding:
    """Check that imports use the profile that was set up."""
    if profiles.chosen(incus) == profile:
        return good(f"new images get the profile {profile}")
    setting = f"{profiles.KEY}={profile}"
    return failed(
        f"new images get the profile {profiles.chosen(incus)}, not {profile}",
        fix=(
            (
                *("incus", "project", "set"),
                *(incus.target(incus.current_project()), setting),
            ),
        ),
    )


def check(incus: Incus, profile: str) -> Finding:
    """Look for images that have lost their profile.

    When a profile is deleted, Incus removes it from all images.  An image
    without a profile can't be launched, even if the profile is made again.
    """
    lacking = [
        image
        for image in incus.images()
        if image.aliases and properties.is_ours(image) and not image.profiles
    ]
    if not lacking:
        return good("each has a profile")
    project = quote(incus.current_project())
    return failed(
        "without a profile: "
        + " ".join(alias for image in lacking for alias in image.aliases),
        fix=tuple(
            (
                *("incus", "query", "--request=PUT"),
                f"--data={_settings(image, profile)}",
                incus.target(
                    f"/1.0/images/{image.fingerprint}?project={project}"
                ),
            )
            for image in lacking
        ),
    )


def _settings(image: Image, profile: str) -> str:
    """Return an image's settings, with its profiles restored, as JSON."""
    return json.dumps(
        {
            "profiles": profiles.of(image, profile),
            "properties": dict(image.properties),
        }
    )
