# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests that need neither Incus nor a network."""
