"""Students compared: the cells of a grid, their means over seeds, and what they gain over labels alone.

Nothing here trains or reads files: accuracies go in, figures and text come out.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

from distill.reports.metrics import CONFIDENCE, aligned_text

ACCURACY = "accuracy"
"""The usual metric of a comparison, by its name in tables."""


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
    feature_loss: str | None = None
    """What is learned from the teacher's features, in addition; None: nothing."""
    feature_weight: float | None = None
    """What it is multiplied by."""
    views: str | None = None
    """Name of the views that it learns from; None: those that come first."""
    epochs: int | None = None
    """Of labels alone for another time than all the others; None: theirs."""

    @property
    def is_taught(self) -> bool:
        """Whether a teacher has a part in it."""
        return (self.loss, self.feature_loss) != (None, None)

    @property
    def labels_alone(self) -> "Cell":
        """The cell by which it is measured: the same student in the same views."""
        return Cell(self.student, views=self.views)

    @property
    def name(self) -> str:
        """Name of its runs, such as "microexpnet-hinton-T4-lambda0.5" or "microexpnet-mixed-labels-hint0.1"."""
        return self._joined(self.student).replace(":", ".")  # which no folder may hold everywhere

    @property
    def earlier_name(self) -> str:
        """What earlier versions called its runs."""
        return self._joined(self.student.replace(":", "."))

    def _joined(self, student: str) -> str:
        parts = [student, self.views, self._learned, self._features and "{}{:g}".format(*self._features)]
        return "-".join(part for part in (*parts, self.epochs and f"{self.epochs}-epochs") if part)

    @property
    def _learned(self) -> str:
        if self.loss is None:
            return "labels" if self.is_taught else "labels-alone"
        temperature = "" if self.temperature is None else f"-T{self.temperature:g}"
        combined = f"lambda{self.lambda_:g}" if self.weights is None else "weights{:g}-{:g}".format(*self.weights)
        return f"{self.loss}{temperature}-{combined}"

    @property
    def _features(self) -> tuple[str, float] | None:
        return None if self.feature_loss is None else (self.feature_loss, self.feature_weight or 0.0)

    def to_dict(self) -> dict:
        """Return the columns that say which cell a row is of."""
        return {
            "student": self.student,
            "views": self.views,
            "loss": self.loss or ("labels" if self.is_taught else "labels alone"),
            "temperature": self.temperature,
            "lambda": self.lambda_,
            "weights": self.weights and "{:g} : {:g}".format(*self.weights),
            "features": self._features and "{} × {:g}".format(*self._features),
            "epochs": self.epochs,
        }


@dataclass(frozen=True)
class Difference:
    """What a cell gains over another with the same seeds: accuracies 0..1, subtracted seed by seed."""

    mean: float
    deviation: float | None = None
    """Sample standard deviation of the differences; None where there is one seed."""
    interval: tuple[float, float] | None = None
    """What holds the true mean with a confidence of `CONFIDENCE`; None where there is one seed."""


@dataclass(frozen=True)
class CellResult:
    """What the runs of a cell came to."""

    cell: Cell
    accuracies: Mapping[int, float]
    """Seed -> accuracy 0..1, or another metric of that range."""
    gain: Difference | None = None
    """Over labels alone in the same views; None for these themselves."""

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
        low, high = gain.interval or (None, None)
        return {
            **self.cell.to_dict(),
            "seeds": len(self.accuracies),
            "mean": self.mean,
            "deviation": self.deviation,
            "difference": gain.mean,
            "difference_deviation": gain.deviation,
            "difference_low": low,
            "difference_high": high,
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


def with_features(cells: Iterable[Cell], features: Sequence[tuple[str, float]]) -> tuple[Cell, ...]:
    """Return `cells`, and each of them with each loss on features: labels alone becomes labels and features.

    Args:
        features: names of losses on features, each with its weight.
    """
    cells = tuple(cells)
    added = [replace(cell, feature_loss=loss, feature_weight=weight) for cell in cells for loss, weight in features]
    return tuple(dict.fromkeys([*cells, *added]))


def complete(runs: Sequence[tuple[Cell, int]], diverged: Collection[tuple[Cell, int]]) -> list[tuple[Cell, int]]:
    """Return the runs of cells of which none diverged, and none of the labels alone by which they are measured."""
    left_out = {cell for cell, _ in diverged}
    return [(cell, seed) for cell, seed in runs if not left_out & {cell, cell.labels_alone}]


def summarise(accuracies: Mapping[tuple[Cell, int], float]) -> list[CellResult]:
    """Return the result of every cell, in the order of `accuracies`.

    Args:
        accuracies: (cell, seed) -> accuracy 0..1. Labels alone must be among the cells of every student in all its
            views, with the same seeds as the others.

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
            None if cell == cell.labels_alone else paired_difference(of_cell, by_cell.get(cell.labels_alone, {})),
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
    return Difference(middle, deviation, (middle - half_width, middle + half_width))


def choose(results: Sequence[CellResult]) -> dict[str, CellResult]:
    """Return student -> its distilled cell with the highest mean accuracy, the first of equals.

    The highest of many is higher than it would be on other images: measure the chosen ones on a split that
    `results` are not from.
    """
    chosen: dict[str, CellResult] = {}
    for result in results:
        student = result.cell.student
        if result.cell.is_taught and (student not in chosen or result.mean > chosen[student].mean):
            chosen[student] = result
    return chosen


def table_text(
    results: Sequence[CellResult], *, split: str, metric: str = ACCURACY, best: Sequence[Cell] = ()
) -> str:
    """Return `results` as text, a cell a line, aligned; those in `best` are marked.

    Accuracies, or whatever `metric` they are, stand in percent with their deviation, differences in points.
    """
    lines = [_line(result, split=split, metric=metric, best=result.cell in best) for result in results]
    seldom = [name for name in ("views", "features", "epochs") if all(line[name] == "-" for line in lines)]
    heads = [name for name in lines[0] if name not in seldom]
    left = 2 + ("views" in heads)
    table = aligned_text([heads, *([line[name] for name in heads] for line in lines)], left=left)
    return "\n".join(line.rstrip() for line in table.splitlines())


def _line(result: CellResult, *, split: str, metric: str, best: bool) -> dict[str, str]:
    cell, gain = result.cell.to_dict(), result.gain
    spread = "" if result.deviation is None else f" ± {100 * result.deviation:.2f}"
    return {
        "student": cell["student"],
        "views": cell["views"] or "-",
        "loss": cell["loss"],
        "T": "-" if cell["temperature"] is None else f"{cell['temperature']:g}",
        "λ": f"{cell['lambda']:g}" if cell["weights"] is None else cell["weights"],
        "features": cell["features"] or "-",
        "epochs": f"{cell['epochs'] or '-'}",
        f"{split} {metric}": f"{100 * result.mean:.2f}{spread} %",
        "over labels alone": "-" if gain is None else _points(gain.mean),
        f"{CONFIDENCE:.0%} interval": (
            "-" if gain is None or gain.interval is None else " .. ".join(map(_points, gain.interval))
        ),
        "": "best" if best else "",
    }


def caution_text(results: Sequence[CellResult], *, metric: str = ACCURACY) -> str:
    """Return what must be read with a table of validation accuracies, or another `metric`: a line for each thing."""
    seeds = len(results[0].accuracies)
    lines = [f"mean ± deviation over {seeds} seeds; differences are paired by seed, their intervals Student's t"]
    if seeds == 1:
        lines = ["one seed: a difference may be chance; give more with --seeds"]
    for student, best in choose(results).items():
        of_student = [each for each in results if each.cell.student == student]
        taught = [each for each in of_student if each.cell.is_taught]
        alone = max((each for each in of_student if not each.cell.is_taught), key=lambda each: each.mean)
        gains = [each.gain.mean for each in taught if each.gain is not None]
        by = "" if metric == ACCURACY else f" by {metric}"
        lines.append(
            f"{student}: best of {len(taught)} cells{by}, chosen on validation, which chose the epochs, too: its "
            "figures are optimistic, and its interval does not know of the choice"
        )
        if max(gains) <= 0:
            lines.append(f"{student}: no cell is better than labels alone")
        elif alone.mean >= best.mean:
            where = "labels alone in its views" if alone.cell == best.cell.labels_alone else alone.cell.name
            lines.append(f"{student}: the best cell is no better than {where}, {100 * alone.mean:.2f} %")
    return "\n".join(lines)


def _points(difference: float) -> str:
    """Return a difference of accuracies in points, such as "+1.20"; what rounds to nothing has no minus."""
    return f"{round(100 * difference, 2) + 0.0:+.2f}"


def _deviation(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
