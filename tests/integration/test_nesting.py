# SPDX-License-Identifier: GPL-3.0-or-later
"""Tools that make containers of their own work in a testbed.

systemd-nspawn is none of them: it drops all that it can see of the old /proc
before it mounts its own, and the kernel refuses that in an unprivileged
container.
"""

from collections.abc import Callable, Iterator

import pytest

from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance

#: The system that has the tools: a suite and packages.
SYSTEM = ("trixie", ("bubblewrap",))
_USER = "tester"
#: Commands that print "inside" from a container.
_TOOLS = {
    "unshare": "unshare --user --map-root-user --mount --pid --fork"
    " --mount-proc echo inside",
    "bubblewrap": "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev"
    " echo inside",
}


@pytest.fixture(scope="module")
def with_tools(image: Callable[..., str]) -> str:
    """Return an image that has the tools."""
    suite, packages = SYSTEM
    return image(suite, *packages)


@pytest.fixture(scope="module")
def testbed(incus: Incus, with_tools: str) -> Iterator[Instance]:
    """Give a testbed with a normal user."""
    with Instance.launch(incus, with_tools, purpose="test") as instance:
        instance.wait_ready()
        instance.guest.make_user(_USER)
        yield instance


@pytest.mark.parametrize("user", ["root", _USER])
@pytest.mark.parametrize("tool", _TOOLS)
def test_tool(testbed: Instance, tool: str, user: str) -> None:
    done = testbed.guest.run(
        ["sh", "-euc", _TOOLS[tool]],
        user=user,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "inside\n"), done.stderr


def test_it_takes_the_setting(incus: Incus, with_tools: str) -> None:
    """The profile has it for a reason: without it neither works."""
    with Instance.launch(
        incus,
        with_tools,
        purpose="test",
        arguments=["--config=security.nesting=false"],
    ) as instance:
        instance.wait_ready()
        for command in _TOOLS.values():
            done = instance.guest.run(
                ["sh", "-euc", command], capture_output=True, timeout=120
            )
            assert done.returncode != 0
