# SPDX-License-Identifier: GPL-3.0-or-later
"""What this machine needs so that testbeds run on it."""
