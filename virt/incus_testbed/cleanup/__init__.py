# SPDX-License-Identifier: GPL-3.0-or-later
"""What gc does: remove what no living process owns."""
