# SPDX-License-Identifier: GPL-3.0-or-later
"""What autopkgtest may expect of the virt server."""
