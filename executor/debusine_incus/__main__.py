# SPDX-License-Identifier: GPL-3.0-or-later
"""The debusine-incus command, from a checkout."""

import sys

from debusine_incus.cli import main

sys.exit(main())
