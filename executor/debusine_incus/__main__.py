# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m debusine_incus."""

import sys

from debusine_incus.cli import main

sys.exit(main())
