# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Debian system holds: pure, without Incus and without effects."""
