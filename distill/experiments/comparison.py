"""Students compared: the cells of a grid, their means over seeds, and what they gain over labels alone.

Nothing here trains or reads files: accuracies go in, figures and text come out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from distill.reports.metrics import CONFIDENCE, aligned_text


@dataclass(frozen=True)
class Cell:
    """A student and how it is taught; the runs of a cell differ in their seed alone."""

    student: str
    loss: str | None = None
    """What is learned from the teacher; None: labels alone."""
    temperature: float | None = None
    """None: labels alone, or a loss without a temperature."""
    lambda_: float | None = 0.0
    """None: combined by `weights`."""
    weights: tuple[float, float] | None = None
    """Of cross entropy and of the soft loss, instead of lambda."""

    @property
    def name(self) -> str:
        """Name of its runs, such as "microexpnet-hinton-T4-lambda0.5"."""
        student = self.student.replace(":", ".")  # which no folder may hold everywhere
        if self.loss is None:
            return f"{student}-labels-alone"
        temperature = "" if self.temperature is None else f"-T{self.temperature:g}"
        combined = f"lambda{self.lambda_:g}" if self.weights is None else "weights{:g}-{:g}".format(*self.weights)
        return f"{student}-{self.loss}{temperature}-{combined}"

    def to_dict(self) -> dict:
        """Return the columns that say which cell a row is of."""
        return {
            "student": self.student,
            "loss": self.loss or "labels alone",
            "temperature": self.temperature,
            "lambda": self.lambda_,
            "weights": self.weights and "{:g} : {:g}".format(*self.weights),
        }


@dataclass(frozen=True)
class Difference:
    """What a cell gains over another with the same seeds: accuracies 0..1, subtracted seed by seed."""

    mean: float
    deviation: float | None = None
    """Sample standard deviation of the differences; None where there is one seed."""
    low: float | None = None
    """Of the interval that holds the true mean with a confidence of `CONFIDENCE`; None where there is one seed."""
    high: float | None = None


@dataclass(frozen=True)
class CellResult:
    """What the runs of a cell came to."""

    cell: Cell
    accuracies: Mapping[int, float]
    """Seed -> accuracy 0..1."""
    gain: Difference | None = None
    """Over labels alone; None for labels alone themselves."""

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds, 0..1."""
        return mean(self.accuracies.values())

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds; None where there is one."""
        return _deviation(list(self.accuracies.values()))

    def to_dict(self) -> dict:
        """Return a row of plain values, ready for CSV and JSON."""
        gain = self.gain or Difference(mean=0.0)
        return {
            **self.cell.to_dict(),
            "seeds": len(self.accuracies),
            "mean": self.mean,
            "deviation": self.deviation,
            "difference": gain.mean,
            "difference_deviation": gain.deviation,
            "difference_low": gain.low,
            "difference_high": gain.high,
        }


def grid(
    students: Sequence[str], temperatures: Mapping[str, Sequence[float | None]], lambdas: Sequence[float]
) -> tuple[Cell, ...]:
    """Return the cells to train: of every student labels alone, and every loss at every temperature and lambda.

    A value that is given twice is one, and a lambda of 0 is labels alone, whatever the loss and temperature.

    Args:
        temperatures: loss -> the temperatures to train it at; (None,) for a loss that has none.
    """
    taught = [
        (loss, temperature, lambda_)
        for loss, of_loss in temperatures.items()
        for temperature in of_loss
        for lambda_ in lambdas
        if lambda_ != 0
    ]
    cells = [[Cell(student), *(Cell(student, *how) for how in taught)] for student in students]
    return tuple(dict.fromkeys(cell for of_student in cells for cell in of_student))


def summarise(accuracies: Mapping[tuple[Cell, int], float]) -> list[CellResult]:
    """Return the result of every cell, in the order of `accuracies`.

    Args:
        accuracies: (cell, seed) -> accuracy 0..1. Labels alone must be among the cells of every student, with
            the same seeds as the others.

    Raises:
        ValueError: a student without labels alone, or with other seeds.
    """
    by_cell: dict[Cell, dict[int, float]] = {}
    for (cell, seed), accuracy in accuracies.items():
        by_cell.setdefault(cell, {})[seed] = accuracy
    return [
        CellResult(
            cell,
            of_cell,
            None if cell.loss is None else paired_difference(of_cell, by_cell.get(Cell(cell.student), {})),
        )
        for cell, of_cell in by_cell.items()
    ]


def paired_difference(ones: Mapping[int, float], others: Mapping[int, float]) -> Difference:
    """Return what `ones` are above `others`, seed by seed, with the interval of Student's paired t-test.

    Args:
        ones, others: seed -> accuracy 0..1, of the same seeds.

    Raises:
        ValueError: seeds that differ, or none.
    """
    if not ones or ones.keys() != others.keys():
        raise ValueError(f"paired accuracies need the same seeds. Received: {sorted(ones)} and {sorted(others)}")
    differences = [ones[seed] - others[seed] for seed in ones]
    middle, deviation = mean(differences), _deviation(differences)
    if deviation is None:
        return Difference(middle)
    from scipy import stats  # takes half a second to load

    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, df=len(differences) - 1))
    half_width = quantile * deviation / math.sqrt(len(differences))
    return Difference(middle, deviation, middle - half_width, middle + half_width)


def choose(results: Sequence[CellResult]) -> dict[str, CellResult]:
    """Return student -> its distilled cell with the highest mean accuracy, the first of equals.

    The highest of many is higher than it would be on other images: measure the chosen ones on a split that
    `results` are not from.
    """
    chosen: dict[str, CellResult] = {}
    for result in results:
        student = result.cell.student
        if result.gain is not None and (student not in chosen or result.mean > chosen[student].mean):
            chosen[student] = result
    return chosen


def table_text(results: Sequence[CellResult], *, split: str, best: Sequence[Cell] = ()) -> str:
    """Return `results` as text, a cell a line, aligned; those in `best` are marked.

    Accuracies stand in percent with their deviation, differences in points.
    """
    head = ("student", "loss", "T", "λ", f"{split} accuracy", "over labels alone", f"{CONFIDENCE:.0%} interval", "")
    table = aligned_text([head, *(_line(result, best=result.cell in best) for result in results)], left=2)
    return "\n".join(line.rstrip() for line in table.splitlines())


def _line(result: CellResult, *, best: bool) -> tuple[str, ...]:
    cell, gain = result.cell.to_dict(), result.gain
    interval = None if gain is None or gain.low is None or gain.high is None else (gain.low, gain.high)
    spread = "" if result.deviation is None else f" ± {100 * result.deviation:.2f}"
    return (
        cell["student"],
        cell["loss"],
        "-" if cell["temperature"] is None else f"{cell['temperature']:g}",
        f"{cell['lambda']:g}" if cell["weights"] is None else cell["weights"],
        f"{100 * result.mean:.2f}{spread} %",
        "-" if gain is None else f"{100 * gain.mean:+.2f}",
        "-" if interval is None else f"{100 * interval[0]:+.2f} .. {100 * interval[1]:+.2f}",
        "best" if best else "",
    )


def caution_text(results: Sequence[CellResult]) -> str:
    """Return what must be read with a table of validation accuracies, a line for each thing."""
    seeds = len(results[0].accuracies)
    lines = [f"mean ± deviation over {seeds} seeds; differences are paired by seed, their intervals Student's t"]
    if seeds == 1:
        lines = ["one seed: a difference may be chance; give more with --seeds"]
    for student, best in choose(results).items():
        cells = sum(result.cell.student == student and result.gain is not None for result in results)
        lines.append(
            f"{student}: best of {cells} cells, chosen on validation, which chose the epochs, too: its figures are "
            "optimistic, and its interval does not know of the choice"
        )
        if best.gain is not None and best.gain.mean <= 0:
            lines.append(f"{student}: no cell is better than labels alone")
    return "\n".join(lines)


def _deviation(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
