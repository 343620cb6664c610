# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured, and how it is told."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

OURS = "incus-testbed"
FLOOR = "floor"
DEBUSINE = "Debusine's executor"
DEBUSINE_DIR = "Debusine's executor, dir pool"
VIRT_INCUS = "autopkgtest-virt-incus"
VIRT_UNSHARE = "autopkgtest-virt-unshare"

_Contender = TypeVar("_Contender")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one contender took for one step, once.

    ``seconds`` is None where it can't do that.  ``peak_mib`` is the most
    memory that its own process had, its children's left out; ``disk_mib`` the
    most that its temporary files took.  ``processor`` is what its programs took
    of the processors, in seconds for each testbed: the daemon's and the guest's
    work is left out.
    """

    step: str
    contender: str
    seconds: float | None
    peak_mib: float | None = None
    disk_mib: float | None = None
    processor: float | None = None


def timed(step: str, contender: str, act: Callable[[], object]) -> Sample:
    """Measure what ``act`` takes."""
    start = time.monotonic()
    act()
    return Sample(
        step=step, contender=contender, seconds=time.monotonic() - start
    )


def turns(
    contenders: Sequence[_Contender], rounds: int
) -> Iterator[tuple[int, _Contender]]:
    """Yield the round's number with each of them, another one first by turns.

    What follows may have a warmer machine, or a busier one.
    """
    for number in range(rounds):
        first = number % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            yield number, contender


@dataclass(frozen=True, kw_only=True)
class Row:
    """All that was measured of one step, by contender."""

    step: str
    taken: dict[str, list[Sample]]

    def seconds(self, contender: str) -> list[float]:
        """Return what it took each time; nothing where it can't be done."""
        return [
            sample.seconds
            for sample in self.taken.get(contender, [])
            if sample.seconds is not None
        ]

    def median(self, contender: str) -> float | None:
        """Return the median of what it took."""
        seconds = self.seconds(contender)
        return statistics.median(seconds) if seconds else None

    def processor(self, contender: str) -> float | None:
        """Return the median of what its programs took of the processors."""
        taken = [
            sample.processor
            for sample in self.taken.get(contender, [])
            if sample.processor is not None
        ]
        return statistics.median(taken) if taken else None

    def most(self, contender: str, what: str) -> float | None:
        """Return the most memory, or disk, that it ever took, in MiB."""
        amounts = [
            amount
            for sample in self.taken.get(contender, [])
            if (amount := getattr(sample, what)) is not None
        ]
        return max(amounts, default=None)


def rows(samples: Iterable[Sample]) -> list[Row]:
    """Bring together what belongs to the same step, in order."""
    taken: dict[str, dict[str, list[Sample]]] = {}
    for sample in samples:
        of_step = taken.setdefault(sample.step, {})
        of_step.setdefault(sample.contender, []).append(sample)
    return [Row(step=step, taken=each) for step, each in taken.items()]


def contenders(samples: Iterable[Row]) -> list[str]:
    """Return who took part, ourselves first and the floor next."""
    found = dict.fromkeys(name for row in samples for name in row.taken)
    return sorted(found, key=lambda name: (name != OURS, name != FLOOR))


def table(measured: list[Row]) -> Iterator[str]:
    """Yield the lines of a table: medians, and how many times ours.

    Ours has its spread, from the quickest to the slowest.
    """
    names = contenders(measured)
    yield f"| step | {' | '.join(names)} |"
    yield "|---|" + "---:|" * len(names)
    for row in measured:
        cells = [_cell(row, name) for name in names]
        yield f"| {row.step} | {' | '.join(cells)} |"


def _cell(row: Row, name: str) -> str:
    median, ours = row.median(name), row.median(OURS)
    if name not in row.taken:
        return ""
    if median is None:
        return "never"
    more = "".join(
        f", {amount:.0f} MiB{of}"
        for what, of in (("peak_mib", ""), ("disk_mib", " of disk"))
        if (amount := row.most(name, what))
    )
    if processor := row.processor(name):
        more += f", {shown(processor)} s of processors each"
    if name == OURS:
        seconds = row.seconds(name)
        spread = f"{shown(min(seconds))} to {shown(max(seconds))}"
        return f"{shown(median)} s ({spread}{more})"
    times = f" ({median / ours:.2g}x{more})" if ours else ""
    return f"{shown(median)} s{times}"


def shown(seconds: float) -> str:
    """Return seconds as precise as they can be meant."""
    return f"{seconds:.3f}" if seconds < 0.1 else f"{seconds:.2f}"
