# SPDX-License-Identifier: GPL-3.0-or-later
"""The trips: each documented command, run in a fresh machine."""

from tests.trips.ci import CI
from tests.trips.laptop import LAPTOP

TRIPS = (LAPTOP, CI)
