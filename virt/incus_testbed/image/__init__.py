# SPDX-License-Identifier: GPL-3.0-or-later
"""Images: from a Debian system's tarball or disk into Incus."""
