# SPDX-License-Identifier: GPL-3.0-or-later
"""The only door to Incus."""
