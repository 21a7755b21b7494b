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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.data.dataset import Dataset
from distill.data.view_differences import view_differences
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.evaluation.evaluate_model import evaluate_model
from distill.experiments.comparison import Cell, caution_text, choose, summarise, table_text
from distill.files.busy_files import is_there
from distill.files.documents import parsed, read_json
from distill.files.whole_files import write_csv, write_json
from distill.progress import progress_bar
from distill.reports.metrics import RecordedAccuracy, import_pandas
from distill.reports.verdict import worth_lines
from distill.runs.earlier import upgraded_settings
from distill.runs.recorded_data import check_unseen
from distill.runs.run_directory import SUMMARY, load_network, read_summary
from distill.runs.run_record import record_of
from distill.versions import versions

if TYPE_CHECKING:
    import pandas

REPORT = "comparison.json"
_WHAT = "report of a comparison"
_OURS = r"runs|comparison\.json|(cells|runs)\.csv|heat_map\.png"
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
        self._record, self._tested = _read_former(self.path / REPORT)

    def run(self, cell: Cell, seed: int) -> Path:
        """Return the run directory of a student."""
        return self.path / "runs" / f"{cell.name}-{seed}"

    def is_finished(self, cell: Cell, seed: int) -> bool:
        """Whether that student was trained to the end."""
        return is_there(self.run(cell, seed) / SUMMARY)

    def check_open_for(self, record: Mapping) -> None:
        """Refuse another comparison where the test split was seen: its choices would be made knowing that.

        Args:
            record: JSON-able description of the comparison, nested once: `settings` and what they stand for.

        Raises:
            InputError: students were measured on the test split, and `record` is not that of then.
        """
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
        validation: Dataset,
        test: Dataset | None = None,
    ) -> ComparisonReport:
        """Print the tables of finished `runs`, save them, and return them.

        Args:
            runs: cell and seed of each; labels alone among the cells of every student in all its views.
            record: as for `check_open_for`.
            validation: that of all runs.
            test: where to measure the chosen cells and labels alone, unless that was done before.
        """
        summaries = {key: read_summary(self.run(*key)) for key in runs}
        results = summarise({key: summary["validation_accuracy"] for key, summary in summaries.items()})
        best = [result.cell for result in choose(results).values()]
        caution = [*caution_text(results).splitlines(), *_worth(best, summaries, validation)]
        table = table_text(results, split="validation", best=best)
        print("", table, "", *caution, sep="\n")
        if test is not None and not self._tested:
            self._measure([(cell, seed) for cell, seed in runs if cell in best or not cell.is_taught], test)
        on_test = summarise(
            {key: self._tested[name] for key in runs if (name := self.run(*key).name) in self._tested}
        )
        rows = [
            {"run": self.run(cell, seed).name, **cell.to_dict(), "seed": seed, **summary}
            for (cell, seed), summary in summaries.items()
        ]
        report = {
            **record,
            "cells": [{**result.to_dict(), "best": result.cell in best} for result in results],
            "caution": caution,
            "runs": rows,
            "test": [result.to_dict() for result in on_test],
            "tested": self._tested,
            "versions": versions(),
        }
        written = self._save(report)
        if on_test:  # shown when it is on record that they were measured
            print(f"\nof these, on the test split:\n{table_text(on_test, split='test')}")
        print(f"\nin {self.path}: {', '.join(written)} and runs/")
        return ComparisonReport(report, table=table)

    def _measure(self, runs: Sequence[tuple[Cell, int]], test: Dataset) -> None:
        for run in progress_bar([self.run(*key) for key in runs], desc="test split", unit="student"):
            check_unseen(run, test, split="test")
            view_spec = ViewSpec.for_evaluation(record_of(run).views.spec)
            self._tested[run.name] = evaluate_model(load_network(run), test, view_spec=view_spec).accuracy

    def _save(self, report: Mapping) -> list[str]:
        """Write the report, and return the names of its files."""
        from distill.reports.plots import heat_map  # slow to import

        write_json(self.path / REPORT, report)
        write_csv(self.path / "runs.csv", report["runs"])
        write_csv(self.path / "cells.csv", report["cells"])
        of_grid = [cell for cell in report["cells"] if not (cell["views"] or cell["features"])]
        if any(cell["lambda"] for cell in of_grid):
            heat_map(of_grid, self.path / "heat_map.png")
            return [REPORT, "cells.csv", "runs.csv", "heat_map.png"]
        return [REPORT, "cells.csv", "runs.csv"]


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


def _read_former(file: Path) -> tuple[dict, dict[str, float]]:
    """Return the report of an earlier call, and the test accuracies in it by the names of runs."""
    if not is_there(file):
        return {}, {}
    report = read_json(file, what=_WHAT)
    checked = parsed(report, _Report, source=file, what=_WHAT)
    return report | {"settings": upgraded_settings(checked.settings)}, checked.tested


@dataclass
class _Report:
    """What is relied on in a report."""

    settings: dict[str, Any]
    tested: dict[str, float]


def _same(name: str, stored: Mapping, expected: Mapping) -> bool:
    old, new = stored.get(name), expected[name]
    return not view_differences(old, new) if name == "settings.view" and old else old == new


def _flat(record: Mapping) -> dict:
    """Return a record of dictionaries as {"settings.lr": 0.001, ...}, as JSON gives it back."""
    record = json.loads(json.dumps(record))
    nested = {name: value for name, value in record.items() if isinstance(value, dict)}
    return {f"{name}.{key}": value for name, values in nested.items() for key, value in values.items()}
