# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests, and what gives them an Incus and Debian systems to test with."""
