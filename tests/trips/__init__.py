# SPDX-License-Identifier: GPL-3.0-or-later
"""The trips: each documented command, run in a fresh machine."""

from tests.trips.checkout import CHECKOUT
from tests.trips.ci import CI, SBUILD
from tests.trips.farm import FARM
from tests.trips.laptop import LAPTOP
from tests.trips.worker import WORKER_TRIP

TRIPS = (LAPTOP, CI, SBUILD, WORKER_TRIP, FARM, CHECKOUT)
