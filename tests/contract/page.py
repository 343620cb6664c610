# SPDX-License-Identifier: GPL-3.0-or-later
"""The page about Debusine's own executor, beside ours.

    python3 -m tests.contract.page

writes it again, from the tables that the tests use.
"""

from collections.abc import Iterable
from pathlib import Path

from tests.contract.adoption import LEFT_OUT
from tests.contract.instance.upstream import DIFFERENCES, VERSIONS, Difference

PAGE = (
    Path(__file__).resolve().parents[2]
    / "docs/reference/upstream-differences.md"
)

_PAGE = """\
# Debusine's own executor and ours

`python3 -m tests.contract.page` writes this page, from the tables that the
tests use.

## Where Debusine's own IncusInstance differs

`tests/contract/instance` tests what the documentation of Debusine's
`InstanceInterface` promises, and that of `subprocess.run`, because `run` takes
its arguments. The tests run Debusine's own `IncusInstance` and ours, on a real
Incus. Ours does what is promised in every case. Debusine's, in versions
{versions}, does not in the following cases. A test fails if one of
them changes.

{differences}
## Debusine's own tests, on ours

Debusine's package contains tests of its executors.
`tests/contract/test_debusine_own.py` runs them on our classes: the tests of
`test_base`, and the tests of `test_incus` that are about executors. It leaves
out the following tests.

{left_out}"""


def page() -> str:
    """Return it, as Markdown."""
    return _PAGE.format(
        versions=" and ".join(VERSIONS),
        differences=_table(
            ("what it does instead", "cases"),
            map(_row, DIFFERENCES),
        ),
        left_out=_table(
            ("class", "tests", "why not"),
            (
                (
                    ", ".join(entry.owners),
                    ", ".join(f"`{test}`" for test in entry.tests) or "all",
                    entry.why,
                )
                for entry in LEFT_OUT
            ),
        ),
    )


def _row(difference: Difference) -> tuple[str, str]:
    instead = difference.instead
    if difference.fixed:
        instead += f" (Not in {difference.fixed}.)"
    return instead, "; ".join(map(_readable, difference.cases))


def _readable(case: str) -> str:
    """Return a case's name as words, with the parameters that it is about."""
    name, bracket, parameters = case.removesuffix("]").partition("[")
    words = name.replace("_", " ")
    return f"{words} (`{parameters}`)" if bracket else words


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("-" * len(word) for word in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page())
