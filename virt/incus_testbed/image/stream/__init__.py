# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes of any origin: read once, unpacked, kept for a while."""
