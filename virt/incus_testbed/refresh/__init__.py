# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring an image, or a testbed, up to date."""
