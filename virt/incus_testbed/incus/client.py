# SPDX-License-Identifier: GPL-3.0-or-later
"""The incus command: a method for each verb, facts in and facts out.

No policy lives here: nothing is retried, waited for or guessed.  A failure is
raised as one of the errors in errors.py, and the caller decides what it means.
"""

from incus_testbed.incus.guests import Guests
from incus_testbed.incus.images import Images
from incus_testbed.incus.instances import Instances


class Incus(Images, Instances, Guests):
    """All of it: one class, because tests put one fake in its place."""
