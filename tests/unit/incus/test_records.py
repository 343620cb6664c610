# SPDX-License-Identifier: GPL-3.0-or-later
"""What the API says, read."""

from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.incus import records


def _operation(
    *paths: str, kind: str = "task", status: str = "Running"
) -> dict[str, Any]:
    return {
        "class": kind,
        "status": status,
        "resources": {"instances": list(paths)},
    }


def test_at_work_on() -> None:
    operations: list[dict[str, Any]] = [
        {"class": "task", "status": "Running", "resources": None},
        {
            "class": "task",
            "status": "Running",
            "resources": {"images": ["/1.0/images/image"]},
        },
        _operation("/1.0/instances/used", kind="websocket"),
        _operation("/1.0/instances/done", status="Success"),
        _operation("/1.0/instances/a?project=p", "/1.0/instances/b"),
    ]
    by_status = {"success": operations[3:4], "running": operations}
    assert records.at_work_on(by_status) == {"a", "b"}
    # So does Incus say that there are none.
    assert records.at_work_on(None) == set()


@pytest.mark.parametrize("record", [None, 7, [], {}, {"last_used_at": "soon"}])
def test_record_that_makes_no_sense(record: Any) -> None:
    for read in (records.image, records.instance):
        with pytest.raises(errors.CommandFailed, match="makes no sense"):
            read(record)
    with pytest.raises(errors.CommandFailed, match="makes no sense"):
        records.at_work_on({"running": [record]})
