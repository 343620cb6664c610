# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m incus_testbed."""

import sys

from incus_testbed.cli.main import main

sys.exit(main())
