# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are added to guests, and scripts that run in them."""
