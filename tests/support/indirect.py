# SPDX-License-Identifier: GPL-3.0-or-later
"""Have clients reach their server by the incus command alone."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from incus_testbed.incus import location


@contextlib.contextmanager
def by_command() -> Iterator[None]:
    """Leave everything to incus, as for a remote behind a proxy."""
    choose = location.choose

    def chosen(*arguments: Any, **aimed: Any) -> location.Choice:
        return dataclasses.replace(choose(*arguments, **aimed), address=None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(location, "choose", chosen)
        yield
