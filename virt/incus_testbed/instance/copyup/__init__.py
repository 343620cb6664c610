# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and folders on their way out of a guest, which may mean harm."""
