# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds an instance, an image or a lock."""
