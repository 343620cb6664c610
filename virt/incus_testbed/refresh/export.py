# SPDX-License-Identifier: GPL-3.0-or-later
"""The system of a container, as a tarball that is read while it is made."""

import contextlib
import subprocess
from collections.abc import Iterator

from incus_testbed.image.stream import scratch
from incus_testbed.image.stream.producer import Producer
from incus_testbed.instance import scripts
from incus_testbed.instance.guest import Guest
from incus_testbed.process import programs

#: Seconds for tar to end after its output.
_END_LIMIT = 60.0


@contextlib.contextmanager
def exported(guest: Guest) -> Iterator[Producer]:
    """Stop what runs in a container, and read its file system with the block.

    The instance can't be used for anything else afterwards.
    """
    argv = guest.incus.exec_argv(guest.name, scripts.command("export.sh"))
    with (
        scratch.file() as messages,
        programs.stream(argv, stdout=subprocess.PIPE, stderr=messages) as child,
    ):
        yield Producer("tar in the instance", child, messages, _END_LIMIT)
