# SPDX-License-Identifier: GPL-3.0-or-later
"""From a Debian system tarball to an Incus image."""
