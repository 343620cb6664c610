# SPDX-License-Identifier: GPL-3.0-or-later
"""Documented commands that no trip runs: who runs them, or why nobody does."""

#: Run by another test: its file, and the function with the command in it.
TESTED = {}

#: Not run, and why.
NOT_RUN = {}
