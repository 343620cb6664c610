# SPDX-License-Identifier: GPL-3.0-or-later
"""Firewalls that keep a bridge's guests from the network."""
