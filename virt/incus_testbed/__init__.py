# SPDX-License-Identifier: GPL-3.0-or-later
"""Throw-away Debian testbeds in Incus."""

__version__ = "0.1.0"
