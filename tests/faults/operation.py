# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be cut short: operations of many steps, each a process."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_VIRT = Path(__file__).resolve().parents[2] / "virt"
_CLI = (sys.executable, "-m", "incus_testbed")

#: Exec, copies both ways, reboot, stop, deletion: as Debusine uses them.
_LIFE = """
import sys
from incus_testbed.cli import exit_status
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
def live(image, tree, copy):
    with Instance.launch(Incus(), image, purpose="faults") as instance:
        instance.wait_ready()
        instance.guest.files.push_tree(tree, "/root")
        instance.guest.run(["tar", "-cf", "/root/all.tar", "/etc"], check=True)
        instance.guest.files.pull("/root/all.tar", copy)
        instance.restart()
        instance.stop()
    return 0
sys.exit(exit_status.status(lambda: live(*sys.argv[1:])))
"""

_UPSTREAMS_LIFE = """
import sys
from debusine.tasks.executors.incus import IncusInstance
instance = IncusInstance(sys.argv[1])
instance.start()
instance.run(["true"], run_as_root=True)
instance.stop()
"""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A command line, and what it reads."""

    name: str
    argv: Sequence[str]
    stdin: str = ""

    def start(
        self, environment: dict[str, str], said: IO[bytes]
    ) -> "subprocess.Popen[bytes]":
        """Start it in a session of its own; ``said`` takes its errors."""
        child = subprocess.Popen(
            self.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=environment,
            start_new_session=True,
        )
        assert child.stdin
        child.stdin.write(self.stdin.encode())  # fits into the pipe
        child.stdin.close()
        return child


def operations(
    *, tarball: Path, imported: str, image: str, folder: Path
) -> tuple[Operation, ...]:
    """Return all of them.

    ``tarball`` is imported under the alias ``imported``, instances are of
    ``image``, and ``folder`` has a tree to copy and takes copies.
    """
    tree, copy = folder / "tree", folder / "copy"
    return (
        Operation(
            name="import",
            argv=(*_CLI, "import", str(tarball), "--alias", imported),
        ),
        Operation(name="run", argv=(*_CLI, "run", image, "--", "true")),
        Operation(
            name="life",
            argv=(
                *(sys.executable, "-c", _LIFE),
                *(image, str(tree), str(copy)),
            ),
        ),
        Operation(
            name="virt server",
            argv=(str(_VIRT / "autopkgtest-virt-incus-testbed"), image),
            stdin="\n".join(
                (
                    "open",
                    f"copydown {tree}/ /root/tree/",
                    f"copyup /root/tree/ {copy}.up/",
                    "reboot",
                    "revert",
                    "close",
                    "quit",
                    "",
                )
            ),
        ),
    )


def collection() -> Operation:
    """Return garbage collection."""
    return Operation(name="gc", argv=(*_CLI, "gc"))


def upstreams_life(image: str) -> Operation:
    """Return what Debusine's own executor does with an instance."""
    return Operation(
        name="upstream's life",
        argv=(sys.executable, "-c", _UPSTREAMS_LIFE, image),
    )
