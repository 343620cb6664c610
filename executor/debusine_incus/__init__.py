# SPDX-License-Identifier: GPL-3.0-or-later
"""Debusine's executors on incus_testbed."""
