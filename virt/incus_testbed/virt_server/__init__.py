# SPDX-License-Identifier: GPL-3.0-or-later
"""autopkgtest's virtualisation server for Incus."""
