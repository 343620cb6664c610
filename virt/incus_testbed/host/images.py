# SPDX-License-Identifier: GPL-3.0-or-later
"""The images that testbeds are made of, and the profile that they get."""

import json
from urllib.parse import quote

from incus_testbed.client import Incus
from incus_testbed.host.requirement import Finding, State, good
from incus_testbed.image import labels, profiles
from incus_testbed.records import Image


def check_choice(incus: Incus, profile: str) -> Finding:
    """Look whether imports know which profile was set up."""
    if profiles.chosen(incus) == profile:
        return good(f"imports give them {profile}")
    setting = f"{profiles.KEY}={profile}"
    return Finding(
        state=State.FAILED,
        detail=f"imports give them {profiles.chosen(incus)}, not {profile}",
        fix=(
            (
                *("incus", "project", "set"),
                *(incus.target(incus.current_project()), setting),
            ),
        ),
    )


def check(incus: Incus, profile: str) -> Finding:
    """Look for images that have no profile any more.

    With a profile, Incus deletes what refers to it; an image without one
    can't be launched, also when the profile is made again.
    """
    lacking = [
        image
        for image in incus.images()
        if image.aliases and labels.is_ours(image) and not image.profiles
    ]
    if not lacking:
        return good(f"all have the profile {profile}, or another")
    project = quote(incus.current_project())
    return Finding(
        state=State.FAILED,
        detail="without a profile: "
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
    """Return all that can be set of an image, as JSON."""
    return json.dumps(
        {
            "profiles": profiles.of(image, profile),
            "properties": dict(image.properties),
        }
    )
