# SPDX-License-Identifier: GPL-3.0-or-later
"""What a system needs to run in Incus: pure."""
