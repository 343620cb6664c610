# SPDX-License-Identifier: GPL-3.0-or-later
"""How much an image, a copy or a worker may take, and where that is set."""
