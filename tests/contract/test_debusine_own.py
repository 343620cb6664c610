# SPDX-License-Identifier: GPL-3.0-or-later
"""Debusine's own tests of its executors, as its package has them, on ours."""

import os
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from debusine.tasks.executors.tests import test_base, test_incus

from debusine_incus.instance import IncusInstance
from debusine_incus.register import IncusLXCExecutor, IncusVMExecutor

from .adoption import left_out

_OUR_PROGRAMS = {"autopkgtest-virt-incus": "autopkgtest-virt-incus-testbed"}


class _Instance(IncusInstance):
    """An instance that is started as soon as a test says so."""

    started = False

    def __init__(self) -> None:
        super().__init__("image")

    def is_started(self) -> bool:
        return self.started


class _OnOurInstance(unittest.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.instance = _Instance()


class _OnOurPrograms(unittest.TestCase):
    def mock_is_command_available(self, commands: dict[str, bool]) -> None:
        """Have a PATH with these commands and nothing else."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        for name, is_there in commands.items():
            if is_there:
                ours = _OUR_PROGRAMS.get(name, name)
                Path(folder.name, ours).symlink_to("/bin/true")
        patcher = patch.dict(os.environ, PATH=folder.name)
        patcher.start()
        self.addCleanup(patcher.stop)


class _OnOurExecutor(_OnOurPrograms):
    def setUp(self) -> None:
        patcher = patch.object(test_incus, "IncusInstance", IncusInstance)
        patcher.start()
        self.addCleanup(patcher.stop)
        super().setUp()


def _adopted(theirs: type[Any], ours: type[Any], **attributes: object) -> Any:
    """Return their test case, changed to ask ours what can be asked of it."""
    owner = f"{theirs.__module__.rpartition('.')[2]}.{theirs.__name__}"
    # A test runner passes over what can't be called.
    not_asked = dict.fromkeys(left_out(owner))
    assert not_asked.keys() <= set(dir(theirs))
    return type(theirs.__name__, (ours, theirs), {**attributes, **not_asked})


InstanceTests = _adopted(test_base.InstanceTests, _OnOurInstance)
ExecutorTests = _adopted(test_base.ExecutorTests, _OnOurPrograms)
IncusLXCExecutorTests = _adopted(
    test_incus.IncusLXCExecutorTests,
    _OnOurExecutor,
    executor_cls=IncusLXCExecutor,
)
IncusVMExecutorTests = _adopted(
    test_incus.IncusVMExecutorTests,
    _OnOurExecutor,
    executor_cls=IncusVMExecutor,
)
