# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture of what was measured: one line for each step, a dot for each."""

from collections.abc import Sequence
from pathlib import Path

from tests.bench.sample import Row, contenders

_INCH_PER_ROW = 0.28


def draw(measured: Sequence[Row], file: Path) -> None:
    """Write the medians as a dot plot with a logarithmic axis, in SVG."""
    # Only this needs it, and it takes a second to load.
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib import pyplot as plt  # noqa: PLC0415

    mpl.rcParams["svg.hashsalt"] = "incus-testbed"
    mpl.rcParams["svg.fonttype"] = "none"
    names = contenders(measured)
    height = 1.2 + _INCH_PER_ROW * len(measured)
    figure, axes = plt.subplots(figsize=(9, height), layout="constrained")
    for name in names:
        found = [
            (median, place)
            for place, row in enumerate(measured)
            if (median := row.median(name)) is not None
        ]
        axes.plot(
            [median for median, _ in found],
            [place for _, place in found],
            "|" if name == "floor" else "o",
            label=name,
            markersize=12 if name == "floor" else 6,
        )
    axes.set_yticks(range(len(measured)), [row.step for row in measured])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds, median")
    axes.grid(visible=True, axis="both", linewidth=0.4)
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False
    )
    figure.savefig(file, metadata={"Date": None, "Creator": None})
    plt.close(figure)
