# SPDX-License-Identifier: GPL-3.0-or-later
"""The trip of a CI job, in a machine that is thrown away."""

from tests.trips.trip import Trip

CI = Trip("ci", ())
