# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw what a user waits for, with each program, from what was measured.

    python3 -m tests.bench.chart PICTURE FIGURES...

FIGURES are files that ``--json`` of the bench has written.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.sample import FLOOR, OURS, Row, Sample, contenders, rows

_INCH_PER_ROW = 0.3
#: Seconds of the shortest wait that is drawn: nobody notices a shorter one.
_SHORTEST = 0.2
#: From the palette of Okabe and Ito, which all people can tell apart.
_COLOURS = ("#0072B2", "#000000", "#D55E00", "#E69F00", "#009E73", "#CC79A7")


def draw(measured: Sequence[Row], file: Path) -> None:
    """Write the medians as a dot plot with a logarithmic axis, in SVG.

    Each step has a line, the longest wait first.  Steps that nobody else has
    are left out, and those that all do in a moment.
    """
    # Only this needs it, and it takes a second to load.
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib import pyplot as plt  # noqa: PLC0415

    mpl.rcParams["svg.hashsalt"] = "incus-testbed"
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["font.size"] = 11
    names = contenders(measured)
    lines = sorted(filter(_is_drawn, measured), key=_longest, reverse=True)
    height = 1.4 + _INCH_PER_ROW * len(lines)
    figure, axes = plt.subplots(figsize=(9, height), layout="constrained")
    for place, row in enumerate(lines):
        ends = [median for name in names if (median := row.median(name))]
        axes.plot([min(ends), max(ends)], [place, place], color="#BBBBBB", lw=1)
    for name, colour in zip(names, _COLOURS, strict=False):
        found = [
            (median, place)
            for place, row in enumerate(lines)
            if (median := row.median(name))
        ]
        axes.plot(
            [median for median, _ in found],
            [place for _, place in found],
            "|" if name == FLOOR else "o",
            color=colour,
            label=name,
            markersize=14 if name == FLOOR else 9 if name == OURS else 6,
            zorder=3 if name == OURS else 2,
        )
    axes.set_yticks(range(len(lines)), [row.step for row in lines])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds:g} s")
    axes.grid(visible=True, axis="x", linewidth=0.4)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False
    )
    figure.savefig(
        file, metadata={"Date": None, "Creator": None}, facecolor="white"
    )
    plt.close(figure)


def _is_drawn(row: Row) -> bool:
    """Tell whether somebody waits for a step, and could wait for others."""
    others = {name for name in row.taken if row.median(name)} - {OURS, FLOOR}
    return bool(others) and _longest(row) >= _SHORTEST


def _longest(row: Row) -> float:
    return max(row.median(name) or 0 for name in row.taken)


def main() -> None:
    """Run the command line."""
    picture, *figures = map(Path, sys.argv[1:])
    samples = [
        Sample(**sample)
        for file in figures
        for sample in json.loads(file.read_text())
    ]
    draw(rows(samples), picture)


if __name__ == "__main__":
    main()
