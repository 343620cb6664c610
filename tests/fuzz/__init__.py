# SPDX-License-Identifier: GPL-3.0-or-later
"""Every parser of what comes from outside, and files changed at random."""
