"""What an export costs and what it changes: each file and its student are run on the same real images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from distill.data.dataset import UNLABELLED, Dataset
from distill.data.views import ViewSpec
from distill.exporting.formats import Run
from distill.prediction.latency import Latency, face_latency
from distill.reports.calibration import log_softmax
from distill.reports.metrics import EvaluationMetrics, aligned_text, evaluate_predictions
from distill.runtimes.image_model import ImageModel
from distill.runtimes.softmax import finite_log, from_probabilities
from distill.scoring.scorer import Scorer


@dataclass(frozen=True)
class ExportRow:
    """A line of the table: one way to run the student."""

    format: str
    """A name of `FORMATS`, or `KERAS`: the student itself."""
    file: str
    """Its name in the folder, "" for the student itself."""
    bytes: int
    """Of the file or of all files in its folder; of the student, of its weights."""
    logit_difference: float
    """Largest difference of a logit from the student's, where both are the logarithms of probabilities that float32
    can hold, minus their mean over the classes: logits are known up to one number for each image."""
    agreement: float
    """Share of images for which the student predicts the same class, 0..1."""
    accuracy: float
    """0..1."""
    latency: Latency
    """Of one image on one thread."""


KERAS = "keras"


class Comparison:
    """Compares whatever gives probabilities with a student, on the images of a dataset.

    Args:
        student: gives raw logits.
        dataset: labelled images; all are scored.
        view_spec: of the student's training; it decides which views evaluate the student.
        seconds: how long one image is repeated.
    """

    def __init__(self, student: keras.Model, dataset: Dataset, *, view_spec: ViewSpec, seconds: float):
        self.dataset, self.view_spec, self.seconds = dataset, view_spec, seconds
        self._shape = student.input_shape[1:]
        logits = self._scored(student)  # [N, V, C]
        self._student_logits = _comparable(logits)
        self.metrics = self._metrics(logits)

    def row(self, run: Run, *, name: str, path: Path | None, weight_bytes: int = 0) -> ExportRow:
        """Measure `run`, which lies in `path`, if anywhere; else its size is `weight_bytes`."""
        model = from_probabilities(run, name=name, input_shape=self._shape, classes=self.dataset.num_classes)
        logits = _comparable(self._scored(model))
        same = logits.mean(1).argmax(1) == self._student_logits.mean(1).argmax(1)
        return ExportRow(
            format=name,
            file=path.name if path else "",
            bytes=size_of(path) if path else weight_bytes,
            logit_difference=float(np.abs(logits - self._student_logits).max()),
            agreement=float(same.mean()),
            accuracy=self._metrics(logits).accuracy,
            latency=face_latency(run, self._shape, seconds=self.seconds),
        )

    def _scored(self, model: keras.Model | ImageModel) -> np.ndarray:
        """Return float32 [N, V, C] of the V views that evaluate the student."""
        scorer = Scorer(model, self.dataset, view_spec=self.view_spec)
        return scorer.score(np.arange(len(self.dataset)), self.view_spec.evaluation_views)

    def _metrics(self, logits: np.ndarray) -> EvaluationMetrics:
        return evaluate_predictions(
            labels=self.dataset.labels, logits=logits.mean(1), class_names=self.dataset.class_names
        )


def _comparable(logits: np.ndarray) -> np.ndarray:
    """Return as float64 what logits [N, V, C] are worth as float32 probabilities, which are all that a file gives."""
    log_probs = log_softmax(logits.reshape(-1, logits.shape[-1])).reshape(logits.shape)
    kept = finite_log(np.exp(log_probs))
    return kept - kept.mean(-1, keepdims=True)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; 0 where there is none, as of a Python function."""
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


def some_of(dataset: Dataset, count: int, *, seed: int = 0, labelled: bool = True) -> Dataset:
    """Return `count` images of a dataset, drawn by `seed`, in its order; all where there are no more.

    Args:
        labelled: omit images without a label.
    """
    eligible = np.flatnonzero((dataset.labels != UNLABELLED) | (not labelled))
    chosen = np.random.default_rng(seed).permutation(eligible)[:count]
    return dataset.subset(np.sort(chosen))


COLUMNS = ("format", "bytes", "logit difference", "agreement", "accuracy", "frames/s", "p50 ms", "p99 ms")


def cells(row: ExportRow) -> tuple[str, ...]:
    """Return what stands in the `COLUMNS` of a table."""
    return (
        row.format,
        f"{row.bytes:,}",
        f"{row.logit_difference:.2g}" if row.file else "-",
        f"{row.agreement:.2%}" if row.file else "-",
        f"{row.accuracy:.2%}",
        f"{row.latency.frames_per_second:,.0f}",
        f"{row.latency.p50_ms:.3f}",
        f"{row.latency.p99_ms:.3f}",
    )


def table(rows: Sequence[ExportRow]) -> str:
    """Return the rows as aligned text."""
    return aligned_text([COLUMNS, *map(cells, rows)])


def missed_bounds(
    rows: Sequence[ExportRow], *, max_bytes: int | None = None, min_agreement: float | None = None
) -> list[str]:
    """Return what every exported file misses of the bounds, in words; nothing where all keep them."""
    missed = []
    for row in rows:
        if not row.file:
            continue
        if max_bytes is not None and row.bytes > max_bytes:
            missed.append(f"{row.file} has {row.bytes:,} bytes, more than {max_bytes:,}")
        if min_agreement is not None and row.agreement < min_agreement:
            missed.append(f"{row.file} agrees with the student on {row.agreement:.2%}, less than {min_agreement:.2%}")
    return missed
