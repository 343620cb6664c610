# SPDX-License-Identifier: GPL-3.0-or-later
"""The debusine-incus command."""

import importlib.util
import sys


def main() -> int:
    """Run the command line and return its exit status."""
    if not importlib.util.find_spec("debusine"):
        sys.exit(
            "debusine-incus: Debusine's client is not installed\n"
            "  Install it: apt install debusine-client"
        )
    from debusine_incus import cli  # noqa: PLC0415 - it imports Debusine

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
