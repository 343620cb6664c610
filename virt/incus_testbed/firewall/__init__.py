# SPDX-License-Identifier: GPL-3.0-or-later
"""Find firewalls that block the network of a bridge's guests."""
