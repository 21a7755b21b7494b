"""Train and test once per fold, and report all folds together.

OUT/fold-K/          the run directory of fold K
OUT/folds.json       mean and deviation, a row per fold, the pooled confusion matrix
OUT/folds.csv        the rows alone
OUT/confusion.png    every image once, as the network saw it that never learned from its fold
OUT/curves.png       the learning curves of all folds
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from distill.data.dataset import UNLABELLED, Dataset
from distill.data.folds import fold_count, fold_splits
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.files.busy_files import is_there
from distill.files.documents import read_document
from distill.files.whole_files import write_csv, write_json
from distill.logit_store import LogitStore, open_logits
from distill.logit_store.parts import PART_FILES
from distill.reports.metrics import EvaluationMetrics, aligned_text, evaluate_predictions
from distill.reports.verdict import worth_lines
from distill.runs.run_directory import SUMMARY, read_metrics, read_summary
from distill.runs.run_record import record_of
from distill.scoring.scorer import Scorer
from distill.versions import versions

REPORT = "folds.json"
_OURS = r"fold-\d+|folds\.(json|csv)|(confusion|curves)\.png"
TrainFold = Callable[[Dataset, Path, dict[str, int]], keras.Model]
"""Trains on the "train" and "validation" splits of a dataset, into a run directory, for a record's "fold"."""


def fold_path(folder: str | Path, fold: int, suffix: str = "") -> Path:
    """Return where a fold's run (or, with ".h5", its logits) lies."""
    return Path(folder) / f"fold-{fold}{suffix}"


def folds_in(folder: str | Path) -> range:
    """Return the numbers of the folds that `cross_validate` has finished in `folder`; none in another folder.

    Raises:
        InputError: some of its folds are still to be trained.
    """
    if not fold_path(folder, 0).is_dir():
        return range(0)
    file = Path(folder) / REPORT
    folds = range(len(read_document(file, _Report, what="report on folds").folds) if is_there(file) else 0)
    if not folds or not all((fold_path(folder, fold) / SUMMARY).is_file() for fold in folds):
        raise InputError(f"{folder} has folds that are not finished: run the command that trains them again")
    return folds


@dataclass
class _Report:
    folds: list[dict[str, Any]]


def open_fold_logits(path: str | Path, dataset: Dataset) -> list[LogitStore]:
    """Open the logits that each fold of `dataset` learns from, and check that no teacher saw its test images.

    Args:
        path: a folder with a store of each fold's own teacher, or one store of a teacher for all folds. Where a
            store knows what its teacher learned from, that must be the fold's own training images, or no fold of
            this data at all.

    Raises:
        InputError: a store is missing or damaged, or its teacher saw test images.
    """
    folds = range(fold_count(dataset))
    if not Path(path).is_dir() or any(Path(path).glob(PART_FILES)):
        store = open_logits(path)
        print("note: one teacher for all folds: it must never have seen these images")
        for fold in folds:
            if store.header.teacher_training.get("train") == fold_splits(dataset, fold).split("train").fingerprint:
                raise InputError(
                    f"the teacher of {path} learned from fold {fold}, so it saw the test images of others: "
                    "give the folder with the logits of every fold's own teacher"
                )
        return [store] * len(folds)
    stores = [open_logits(fold_path(path, fold, ".h5")) for fold in folds]
    for fold, store in enumerate(stores):
        _check_teacher_of_fold(store, fold_splits(dataset, fold))
    return stores


def _check_teacher_of_fold(store: LogitStore, parts: Dataset) -> None:
    learned_from = store.header.teacher_training
    for split in ("train", "validation"):
        expected = parts.split(split).fingerprint
        if learned_from and learned_from.get(split) != expected:
            raise InputError(
                f"the teacher of {store.path} did not learn from this fold: {split} fingerprint stored "
                f"{learned_from.get(split)}, expected {expected}: cache the logits of a teacher trained with the "
                "same --folds"
            )


def cross_validate(
    train_fold: TrainFold,
    dataset: Dataset,
    *,
    out: str | Path,
    train_ahead: Callable[[Sequence[int]], None] | None = None,
) -> dict:
    """Train and test a network per fold of `dataset`, which `deal_folds` has dealt.

    A fold is tested with the network of the epoch that was best on its validation split. An interrupted call
    that is repeated goes on where it stopped.

    Args:
        train_ahead: trains the folds of these numbers, which are not finished, at once: `train_fold` then finds them.

    Returns:
        The content of folds.json. Accuracies lie in 0..1; "deviation" is the sample standard deviation over
        folds. Where a network is evaluated on several crops of an image, "accuracy" is that of their mean logits
        and "crop_accuracy" counts every crop as an image of its own, as MicroExpNet's authors do.

    Raises:
        InputError: `out` holds something else.
    """
    out = Path(out)
    _check_is_ours(out)
    dataset.content_hashes  # noqa: B018 - read every image once, not once per fold
    rows, logits = [], np.empty((len(dataset), dataset.num_classes), np.float32)
    folds = fold_count(dataset)
    if train_ahead is not None:
        train_ahead([fold for fold in range(folds) if not is_there(fold_path(out, fold) / SUMMARY)])
    for fold in range(folds):
        parts = fold_splits(dataset, fold)
        print(f"\nfold {fold} of 0..{folds - 1}")
        network = train_fold(parts, fold_path(out, fold), {"number": fold, "of": folds})
        row, logits[dataset.folds == fold] = _test(network, parts.split("test"), fold_path(out, fold))
        rows.append({"fold": fold, **row})
    pooled = evaluate_predictions(labels=dataset.labels, logits=logits, class_names=dataset.class_names)
    report = {
        "data": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "mean": float(np.mean([row["accuracy"] for row in rows])),
        "deviation": float(np.std([row["accuracy"] for row in rows], ddof=1)),
        "folds": rows,
        "pooled": pooled.to_dict(),
        "versions": versions(),
    }
    _save(report, pooled, out)
    return report


def _check_is_ours(out: Path) -> None:
    if out.is_file():
        raise InputError(f"{out} is a file: name a new folder for the folds")
    others = [child.name for child in out.glob("[!.]*") if not re.fullmatch(_OURS, child.name)]
    if others:
        raise InputError(
            f"{out} holds {others[0]}, which is not of a run with folds: name a new folder for the folds"
        )


def folds_text(report: dict) -> str:
    """Return a report of `cross_validate` as text: a row per fold, and the mean."""
    pooled = EvaluationMetrics.from_dict(report["pooled"])
    names = [name for name in report["folds"][0] if name != "fold"]
    rows = [[str(row["fold"]), *(_cell(row[name]) for name in names)] for row in report["folds"]]
    table = aligned_text([["fold", *(name.replace("_", " ") for name in names)], *rows])
    figures = (
        f"accuracy {report['mean']:.1%} ± {report['deviation']:.1%} (mean and deviation over {len(rows)} folds)   "
        f"pooled {pooled.accuracy:.1%}   balanced accuracy {pooled.balanced_accuracy:.1%}   "
        f"macro-F1 {pooled.macro_f1:.3f}"
    )
    return "\n".join([table, "", figures, *worth_lines(pooled)])


def _test(network: keras.Model, test: Dataset, run: Path) -> tuple[dict, np.ndarray]:
    """Return the row of a fold, and the logits [N, C] of its test images."""
    record, summary = record_of(run), read_summary(run)
    view_spec = ViewSpec.for_evaluation(record.views.spec)
    logits = Scorer(network, test, view_spec=view_spec).score(np.arange(len(test)), view_spec.evaluation_views)
    metrics = evaluate_predictions(labels=test.labels, logits=logits.mean(axis=1), class_names=test.class_names)
    row: dict[str, float] = {"images": len(test)}
    if test.subjects is not None:
        row["subjects"] = len(np.unique(test.subjects))
    row |= {
        "best_epoch": summary["best_epoch"],
        "validation_accuracy": summary["validation_accuracy"],
        "accuracy": metrics.accuracy,
        "balanced_accuracy": metrics.balanced_accuracy,
        "macro_f1": metrics.macro_f1,
    }
    if logits.shape[1] > 1:
        labelled = test.labels != UNLABELLED
        row["crop_accuracy"] = float(np.mean((logits.argmax(axis=2) == test.labels[:, None])[labelled]))
    return row, logits.mean(axis=1)


def _save(report: dict, pooled: EvaluationMetrics, out: Path) -> None:
    from distill.reports.plots import confusion_picture, fold_curves  # slow to import

    title = f"{len(report['folds'])} folds: accuracy {report['mean']:.1%} ± {report['deviation']:.1%}"
    write_json(out / REPORT, report)
    write_csv(out / "folds.csv", report["folds"])
    confusion_picture(pooled, out / "confusion.png", title=title)
    curves = [read_metrics(fold_path(out, row["fold"])) for row in report["folds"]]
    fold_curves(curves, out / "curves.png", title=title)


def _cell(value: float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"
