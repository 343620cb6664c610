# SPDX-License-Identifier: GPL-3.0-or-later
"""An error says which member of a cluster does not answer."""

from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.incus.client import Incus

_AWAY = errors.MemberDown(
    "A member does not answer", details="why", resolution="what to do"
)


class _Cluster:
    """A server that can't ask the member that has the instance."""

    def __init__(self, *statuses: str) -> None:
        """Have members with these statuses."""
        self._members = [
            {
                "server_name": f"member-{number}",
                "status": status,
                "message": "",
                "url": f"https://192.0.2.{number}:8443",
            }
            for number, status in enumerate(statuses, 1)
        ]

    def get(self, path: str, *, recursion: int = 0) -> Any:
        """Answer what the server itself knows."""
        del recursion
        if not path:
            return {"environment": {"server_name": "member-1"}}
        if path == "cluster/members" and self._members:
            return self._members
        raise _AWAY


@pytest.mark.parametrize(
    ("statuses", "brief"),
    [
        (
            ("Online", "Offline", "Offline"),
            "member-2 and member-3 of the cluster do not answer",
        ),
        (("Online", "Offline"), "member-2 of the cluster does not answer"),
        (("Offline", "Offline"), "member-2 of the cluster does not answer"),
        (("Online", "Online"), "A member does not answer"),
        ((), "A member does not answer"),
    ],
)
def test_the_members_that_do_not_answer_are_named(
    monkeypatch: pytest.MonkeyPatch, statuses: tuple[str, ...], brief: str
) -> None:
    incus = Incus()
    monkeypatch.setattr(incus, "_transport", lambda: _Cluster(*statuses))

    with pytest.raises(errors.MemberDown) as said:
        incus.get("instances/x")

    assert said.value.brief == brief
    assert said.value.details == "why"
    assert said.value.resolution == "what to do"
