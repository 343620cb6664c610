# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy files and folders out of a guest, without trusting the guest."""
