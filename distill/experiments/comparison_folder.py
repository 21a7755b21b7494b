"""The folder of a comparison, which names its runs, reports them, and evaluates on the test split once.

OUT/runs/CELL-SEED/    the run directory of every student
OUT/comparison.json    settings, cells, runs, and what was measured on the test split
OUT/cells.csv          a row per cell: mean, deviation, difference to labels alone with its interval
OUT/runs.csv           a row per run
OUT/heat_map.png       what each loss gains at each temperature and lambda, where there are any
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from distill.data.dataset import Dataset
from distill.data.view_differences import view_differences
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.evaluation.evaluate_model import evaluate_model
from distill.experiments.comparison import ACCURACY, Cell, caution_text, choose, summarise, table_text
from distill.files.busy_files import is_there
from distill.files.documents import parsed, read_json
from distill.files.whole_files import write_csv, write_json
from distill.progress import progress_bar
from distill.reports.metrics import RecordedAccuracy, import_pandas
from distill.reports.verdict import worth_lines
from distill.runs.best_epoch import CHOICES, kept_column
from distill.runs.earlier import upgraded_settings
from distill.runs.recorded_data import check_unseen
from distill.runs.run_directory import SUMMARY, load_network, read_summary
from distill.runs.run_record import record_of
from distill.training.labels import is_labelled
from distill.versions import versions

if TYPE_CHECKING:
    import pandas

REPORT = "comparison.json"
_WHAT = "report of a comparison"
_OURS = r"runs|comparison\.json|(cells|runs)\.csv|heat_map\.png"
_Metric = Literal["accuracy", "balanced_accuracy", "macro_f1"]
_METRICS: dict[_Metric, str] = {
    "accuracy": ACCURACY,
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
}
"""What cells can be compared by, with its name in tables."""
# They change no student, or its last bits alone.
_INCIDENTAL = ("settings.data", "settings.logits", "settings.out", "settings.test", "settings.cpus_per_run")


class ComparisonReport(dict[str, Any]):
    """The content of comparison.json, shown as its table. Accuracies lie in 0..1."""

    def __init__(self, content: Mapping[str, Any], *, table: str):
        super().__init__(content)
        self._table = table

    def __repr__(self) -> str:
        return self._table

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the cells as a table, one a row: mean, deviation, difference to labels alone with its interval.

        Raises:
            InputError: pandas is not installed.
        """
        return import_pandas().DataFrame(self["cells"])


class ComparisonFolder:
    """Opens a folder to compare in: new, empty, or that of a comparison.

    Raises:
        InputError: it holds something else, or a damaged report.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if self.path.is_file():
            raise InputError(f"{self.path} is a file: name a new folder for the comparison")
        others = [child.name for child in self.path.glob("[!.]*") if not re.fullmatch(_OURS, child.name)]
        if others:
            raise InputError(f"{self.path} holds {others[0]}, which is not of a comparison: name a new folder for it")
        self._record, self._tested, self._tested_on = _read_former(self.path / REPORT)

    def run(self, cell: Cell, seed: int) -> Path:
        """Return the run directory of a student."""
        runs = self.path / "runs"
        earlier = runs / f"{cell.earlier_name}-{seed}"
        return earlier if earlier.exists() else runs / f"{cell.name}-{seed}"

    def is_finished(self, cell: Cell, seed: int) -> bool:
        """Whether that student was trained to the end."""
        return is_there(self.run(cell, seed) / SUMMARY)

    def check_open_for(self, record: Mapping, test: Dataset | None = None) -> None:
        """Refuse another comparison where the test split was seen: its choices would be made knowing that.

        Args:
            record: JSON-able description of the comparison, nested once: `settings` and what they stand for.
            test: where to measure in the end, if anywhere.

        Raises:
            InputError: students were measured on the test split, and `record` or `test` is not that of then.
        """
        tested_on = self._tested_on.fingerprint
        if self._tested and test is not None and tested_on not in (None, test.fingerprint):
            raise InputError(
                f"{self.path} was measured on another test split than that of {test.name} now: name a new folder, or "
                "omit --test"
            )
        stored, expected = (_flat(each) for each in (self._record, record))
        new = {name for name in expected if name not in stored and not expected[name]}  # nothing that was there then
        changed = [
            name for name in expected if name not in (*_INCIDENTAL, *new) and not _same(name, stored, expected)
        ]
        if self._tested and changed:
            name = changed[0]
            raise InputError(
                f"{self.path} was measured on the test split, which closed it ({name}: stored {stored.get(name)}, "
                f"now {expected[name]}): name a new folder for another comparison"
            )

    def report(
        self,
        runs: Sequence[tuple[Cell, int]],
        record: Mapping,
        *,
        learned: Dataset,
        test: Dataset | None = None,
        diverged: Mapping[str, str] | None = None,
    ) -> ComparisonReport:
        """Print the tables of finished `runs`, save them, and return them.

        Cells are compared by what the runs chose their epochs by; by accuracy where that is the loss. What was
        measured on the test split before was chosen by what the report of then says, which stays so.

        Args:
            runs: cell and seed of each; labels alone among the cells of every student in all its views.
            record: as for `check_open_for`.
            learned: the train and validation splits of all runs.
            test: where to measure the chosen cells and labels alone, unless that was done before.
            diverged: name of a run that is left out -> why.
        """
        summaries = {key: read_summary(self.run(*key)) for key in runs}
        metric = self._tested_on.metric if self._tested else _metric(next(iter(summaries.values())))
        name = _METRICS[metric]
        results = summarise({key: _kept(summary, metric) for key, summary in summaries.items()})
        best = [result.cell for result in choose(results).values()]
        caution = caution_text(results, metric=name).splitlines()
        caution += [*_unlabelled(learned.split("train")), *_worth(best, summaries, learned.split("validation"))]
        table = table_text(results, split="validation", metric=name, best=best)
        print("", table, "", *caution, sep="\n")
        if test is not None and not self._tested:
            measured = [(cell, seed) for cell, seed in runs if cell in best or not cell.is_taught]
            self._measure(measured, test, metric=metric)
        on_test = summarise({key: self._tested[run] for key in runs if (run := self.run(*key).name) in self._tested})
        rows = [
            {"run": self.run(cell, seed).name, **cell.to_dict(), "seed": seed, **_row(summary)}
            for (cell, seed), summary in summaries.items()
        ]
        report = {
            **record,
            "metric": metric,
            "cells": [{**result.to_dict(), "best": result.cell in best} for result in results],
            "caution": caution,
            "runs": rows,
            "test": [result.to_dict() for result in on_test],
            "tested": self._tested,
            "tested_on": asdict(self._tested_on),
            "diverged": dict(diverged or {}),
            "versions": versions(),
        }
        written = self._save(report, metric=name)
        if on_test:  # shown when it is on record that they were measured
            of_test = table_text(on_test, split="test", metric=_METRICS[self._tested_on.metric])
            print(f"\nof these, on the test split:\n{of_test}")
        print(f"\nin {self.path}: {', '.join(written)} and runs/")
        return ComparisonReport(report, table=table)

    def _measure(self, runs: Sequence[tuple[Cell, int]], test: Dataset, *, metric: _Metric) -> None:
        self._tested_on = _TestedOn(test.fingerprint, metric)
        for run in progress_bar([self.run(*key) for key in runs], desc="test split", unit="student"):
            check_unseen(run, test, split="test")
            view_spec = ViewSpec.for_evaluation(record_of(run).views.spec)
            self._tested[run.name] = getattr(evaluate_model(load_network(run), test, view_spec=view_spec), metric)

    def _save(self, report: Mapping, *, metric: str) -> list[str]:
        """Write the report, and return the names of its files."""
        from distill.reports.plots import heat_map  # slow to import

        write_json(self.path / REPORT, report)
        write_csv(self.path / "runs.csv", report["runs"])
        write_csv(self.path / "cells.csv", report["cells"])
        written = [REPORT, "cells.csv", "runs.csv"]
        of_grid = [cell for cell in report["cells"] if not (cell["views"] or cell["features"])]
        picture = self.path / "heat_map.png"
        if any(cell["lambda"] for cell in of_grid):
            heat_map(of_grid, picture, metric=metric)
            written.append(picture.name)
        else:
            picture.unlink(missing_ok=True)  # of other cells, by an earlier call
        return written


def _metric(summary: Mapping[str, Any]) -> _Metric:
    """Return which of `_METRICS` runs are compared by: what they chose their epochs by, but for the loss."""
    chosen_by = CHOICES[summary.get("chosen_by", "accuracy")].metric
    return next((metric for metric in _METRICS if metric == chosen_by), "accuracy")


def _kept(summary: Mapping[str, Any], metric: _Metric) -> float:
    """Return a metric of the network that a run kept, on its validation split, 0..1."""
    if metric == "accuracy":
        return summary["validation_accuracy"]
    return summary["best"][kept_column(summary["best"], metric, summary["chosen_by"])]


def _row(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a run: `epochs` is what its cell sets."""
    names = {"epochs": "epochs_done"}
    return {names.get(name, name): value for name, value in summary.items() if name not in ("best", "last")}


def _unlabelled(train: Dataset) -> list[str]:
    """Say where labels alone learn from less than the others."""
    without = int(np.sum(~is_labelled(train)))
    if not without:
        return []
    return [
        f"{without:,} of the {len(train):,} training images have no label: labels alone learn from the others, in "
        "fewer steps an epoch; a difference holds what these images add, and what the steps do"
    ]


def _worth(best: Sequence[Cell], summaries: Mapping[tuple[Cell, int], Mapping], validation: Dataset) -> list[str]:
    """Return what the mean accuracy of each best cell is worth on as many images, a line for each thing."""
    lines = []
    for cell in best:
        of_cell = [summary for (other, _), summary in summaries.items() if other == cell]
        balanced = [
            value for summary in of_cell if (value := summary.get("validation_balanced_accuracy")) is not None
        ]
        mean = RecordedAccuracy(
            validation.class_names,
            validation.class_counts,
            accuracy=float(np.mean([summary["validation_accuracy"] for summary in of_cell])),
            balanced_accuracy=float(np.mean(balanced)) if len(balanced) == len(of_cell) else None,
        )
        lines += [f"{cell.name}: {line}" for line in worth_lines(mean)]
    return lines


def _read_former(file: Path) -> tuple[dict, dict[str, float], "_TestedOn"]:
    """Return the report of an earlier call, what it measured on the test split by the names of runs, and where."""
    if not is_there(file):
        return {}, {}, _TestedOn()
    report = read_json(file, what=_WHAT)
    checked = parsed(report, _Report, source=file, what=_WHAT)
    return report | {"settings": upgraded_settings(checked.settings)}, checked.tested, checked.tested_on


@dataclass(frozen=True)
class _TestedOn:
    """What was measured on the test split."""

    fingerprint: str | None = None
    """Of the split; None: nothing was measured, or an earlier report does not say."""
    metric: _Metric = "accuracy"


@dataclass
class _Report:
    """What is relied on in a report."""

    settings: dict[str, Any]
    tested: dict[str, float]
    tested_on: _TestedOn = _TestedOn()


def _same(name: str, stored: Mapping, expected: Mapping) -> bool:
    old, new = stored.get(name), expected[name]
    return not view_differences(old, new) if name == "settings.view" and old else old == new


def _flat(record: Mapping) -> dict:
    """Return a record of dictionaries as {"settings.lr": 0.001, ...}, as JSON gives it back."""
    record = json.loads(json.dumps(record))
    nested = {name: value for name, value in record.items() if isinstance(value, dict)}
    return {f"{name}.{key}": value for name, values in nested.items() for key, value in values.items()}
