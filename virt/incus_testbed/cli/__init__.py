# SPDX-License-Identifier: GPL-3.0-or-later
"""The incus-testbed command."""
