# SPDX-License-Identifier: GPL-3.0-or-later
"""What Debusine's InstanceInterface promises, asked of real instances."""
