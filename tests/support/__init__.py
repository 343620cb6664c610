# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests share: an Incus, systems, disks, fakes."""
