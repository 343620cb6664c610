# SPDX-License-Identifier: GPL-3.0-or-later
"""Incus clusters whose members are machines of their own: make e2e-cluster."""
