# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that have limits: for these it takes a host with controllers."""

import signal

from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance

#: Fills a gigabyte, page by page.
_GREEDY = 'my $all = ""; $all .= "x" x (1 << 20) for 1 .. 1024; print "done"'


def test_guest_out_of_memory(incus: Incus, bookworm: str) -> None:
    with Instance.launch(
        incus,
        bookworm,
        purpose="test",
        arguments=["--config=limits.memory=192MiB"],
    ) as instance:
        instance.wait_ready()
        done = instance.guest.run(["perl", "-e", _GREEDY], capture_output=True)
        assert done.returncode == -signal.SIGKILL
        assert not done.stdout
        after = instance.guest.run(["echo", "fine"], capture_output=True)
        assert after.stdout == b"fine\n"
