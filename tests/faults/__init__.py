# SPDX-License-Identifier: GPL-3.0-or-later
"""Crashes at any moment, and what has to hold after them."""
