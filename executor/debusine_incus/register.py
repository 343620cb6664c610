# SPDX-License-Identifier: GPL-3.0-or-later
"""Have Debusine use these executors: importing this module does it."""

from debusine_incus.executor import IncusLXCExecutor, IncusVMExecutor

__all__ = ["IncusLXCExecutor", "IncusVMExecutor"]
