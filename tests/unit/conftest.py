# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings for machines that have other things to do, too."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "noisy", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("noisy")
