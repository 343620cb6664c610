# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes and signals of this machine."""
