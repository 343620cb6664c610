# SPDX-License-Identifier: GPL-3.0-or-later
"""Make Incus images of Debian system tarballs and disk images."""
