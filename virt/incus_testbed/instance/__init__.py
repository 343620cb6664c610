# SPDX-License-Identifier: GPL-3.0-or-later
"""Throw-away instances and what is done in them."""
