"""Draw what was tried for the students of the package: accuracy by parameters.

    python benchmarks/draw_students.py docs/devices.md docs/students.png

The figures are those of the page's own two tables. A cross stands for a row of several, and spans them.
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

_MARKS = (("#0072B2", "o", 6), ("#E69F00", "s", 9), ("#999999", ".", 9))  # of each group: colour, marker, size
_NUMBER = re.compile(r"[\d,]*\d\.?\d*")


class Tried(NamedTuple):
    """A row of a table: what it is called, and parameters and accuracies (percent), of one run or several."""

    name: str
    parameters: tuple[float, ...]
    accuracy: tuple[float, ...]


def numbers(cell: str) -> tuple[float, ...]:
    """Return the numbers of a cell: "61,847 to 70,503" -> (61847.0, 70503.0)."""
    return tuple(float(number.replace(",", "")) for number in _NUMBER.findall(cell))


def mean_and_range(values: tuple[float, ...]) -> tuple[float, list[list[float]]]:
    """Return the mean, and how far below and above it the others reach, as `errorbar` takes it."""
    mean = sum(values) / len(values)
    return mean, [[mean - min(values)], [max(values) - mean]]


def table(page: str, heads: list[str]) -> list[list[str]]:
    """Return the rows of the only table of a page that has these heads."""
    head = f"| | {' | '.join(heads)} |\n"
    (body,) = page.split(head)[1:]
    lines = body.split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def draw(page: str, path: Path) -> None:
    trained = table(page, ["parameters", "views", "epochs, the best", "float32", "the same from labels alone"])
    short = table(page, ["parameters", "PublicTest"])
    groups = {
        "distilled, 60 to 300 epochs": [Tried(row[0], numbers(row[1]), numbers(row[4])) for row in trained],
        "the same from labels alone": [
            Tried("", numbers(row[1]), numbers(row[5])) for row in trained if numbers(row[5])
        ],
        "distilled, 12 epochs": [Tried("", numbers(row[1]), numbers(row[2])) for row in short],
    }
    figure = Figure(figsize=(7, 5.4), dpi=110, layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="parameters (log scale)", ylabel="accuracy on PublicTest, %")
    for (label, tried), (colour, marker, size) in zip(groups.items(), _MARKS, strict=True):
        for row in tried:
            (x, x_range), (y, y_range) = mean_and_range(row.parameters), mean_and_range(row.accuracy)
            axes.errorbar(
                x,
                y,
                xerr=x_range,
                yerr=y_range,
                color=colour,
                marker=marker,
                markersize=size,
                zorder=-size,  # where two lie at one place both are seen
                linestyle="",
                label=label,
            )
            label = None  # one entry of the legend is enough
            name = row.name.partition(",")[0].partition(";")[0].replace("`", "")
            axes.annotate(name, (x, y), (6, -3), textcoords="offset points", fontsize=8)
    ticks = (60_000, 100_000, 200_000, 400_000, 800_000)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(55_000, 5_000_000)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    draw(Path(sys.argv[1]).read_text(encoding="utf-8"), Path(sys.argv[2]))
