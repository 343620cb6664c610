# SPDX-License-Identifier: GPL-3.0-or-later
"""Tar archives: read as they pass, added to, kept inside their root."""
