# SPDX-License-Identifier: GPL-3.0-or-later
"""Register these executors with Debusine, when this module is imported."""

from debusine_incus.executor import IncusLXCExecutor, IncusVMExecutor

__all__ = ["IncusLXCExecutor", "IncusVMExecutor"]
