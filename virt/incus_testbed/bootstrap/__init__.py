# SPDX-License-Identifier: GPL-3.0-or-later
"""Make images of Debian with mmdebstrap, as this machine's apt is set up."""
