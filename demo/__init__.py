# SPDX-License-Identifier: GPL-3.0-or-later
"""See it work: make demo."""
