# SPDX-License-Identifier: GPL-3.0-or-later
"""What is put into guests, and run in them."""
