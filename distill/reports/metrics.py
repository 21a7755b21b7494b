"""How well a network recognises the classes: accuracy, macro-F1, figures per class, the confusion matrix.

And what these figures are to be compared with: their interval, and what always giving one class would reach.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.data.dataset import UNLABELLED
from distill.errors import InputError
from distill.printable import printable

if TYPE_CHECKING:
    import pandas

CONFIDENCE = 0.95
"""Of every interval."""


class ComparedAccuracy:
    """An accuracy (0..1) of images, `support` (int64 [C]) of each class, and what it has to be compared with."""

    class_names: tuple[str, ...]

    if TYPE_CHECKING:  # what the classes below have as fields or as properties

        @property
        def accuracy(self) -> float: ...

        @property
        def support(self) -> np.ndarray: ...

    @property
    def count(self) -> int:
        """Number of labelled images."""
        return int(self.support.sum())

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """Wilson's interval of the accuracy at a confidence of 95 %, 0..1: what other images of the kind may give."""
        return wilson_interval(round(self.accuracy * self.count), self.count)

    @property
    def most_frequent(self) -> tuple[str, float]:
        """The class that most images are of, and the accuracy of always giving it, 0..1."""
        row = int(self.support.argmax())
        return self.class_names[row], float(self.support[row] / self.count)


def wilson_interval(right: int, count: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the interval that holds the true share, 0..1, where `right` of `count` are.

    Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    from scipy import stats  # takes half a second to load

    interval = stats.binomtest(right, count).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True, eq=False)
class RecordedAccuracy(ComparedAccuracy):
    """An accuracy of which no confusion matrix is kept."""

    class_names: tuple[str, ...]
    support: np.ndarray
    """int64 [C]: images of each class."""
    accuracy: float
    """0..1."""
    balanced_accuracy: float | None = None
    """0..1; None where it was not measured."""


@dataclass(frozen=True, eq=False, repr=False)
class EvaluationMetrics(ComparedAccuracy):
    """What an evaluation found. Images without a label were left out, and are counted in `unlabelled`."""

    class_names: tuple[str, ...]
    confusion: np.ndarray
    """int64 [C, C]: images of class `row` that were predicted to be of class `column`."""
    unlabelled: int = 0
    """Images that had no label and count nowhere else."""

    def __repr__(self) -> str:
        low, high = self.accuracy_interval
        name, share = self.most_frequent
        return (
            f"accuracy {self.accuracy:.1%} ({low:.1%} to {high:.1%}) of {self.count:,} images, balanced "
            f'{self.balanced_accuracy:.1%}, macro-F1 {self.macro_f1:.3f}; always "{name}": {share:.1%}\n'
            f"{per_class_table(self)}"
        )

    def to_pandas(self) -> "pandas.DataFrame":
        """Return precision, recall, F1 and support as a table, a class a row.

        Raises:
            InputError: pandas is not installed.
        """
        return import_pandas().DataFrame.from_dict(self.to_dict()["classes"], orient="index")

    @property
    def support(self) -> np.ndarray:
        """int64 [C]: images of each class."""
        return self.confusion.sum(axis=1)

    @property
    def predicted(self) -> np.ndarray:
        """int64 [C]: images predicted to be of each class."""
        return self.confusion.sum(axis=0)

    @property
    def accuracy(self) -> float:
        """Share of images whose class was found, 0..1."""
        return float(np.trace(self.confusion) / self.count)

    @property
    def precision(self) -> np.ndarray:
        """float64 [C]: share of the images predicted to be of a class that are of it; 0 where none was."""
        return _ratio(np.diag(self.confusion), self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """float64 [C]: share of the images of a class that were found; 0 where it has none."""
        return _ratio(np.diag(self.confusion), self.support)

    @property
    def f1(self) -> np.ndarray:
        """float64 [C]: 2 TP / (2 TP + FP + FN), harmonic mean of precision and recall; 0 where undefined."""
        return _ratio(2 * np.diag(self.confusion), self.support + self.predicted)

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the classes that occur among the labels or the predictions, 0..1.

        A class with neither says nothing about the network and is left out, as scikit-learn's
        `f1_score(..., average="macro", zero_division=0)` does; a class that is only labelled, or only
        predicted, counts as 0.
        """
        return float(self.f1[self.support + self.predicted > 0].mean())

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes that occur among the labels, 0..1, scikit-learn's `balanced_accuracy_score`.

        Always giving one class reaches 1 / the number of these classes, however often each occurs.
        """
        return float(self.recall[self.support > 0].mean())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EvaluationMetrics":
        """Return what `to_dict` was called of; further values are ignored."""
        counts = np.array(values["confusion"]["counts"], np.int64)
        return cls(class_names=tuple(values["classes"]), confusion=counts, unlabelled=values["unlabelled"])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, strings, lists and dictionaries, ready for JSON."""
        columns = {"precision": self.precision, "recall": self.recall, "f1": self.f1, "support": self.support}
        return {
            "count": self.count,
            "unlabelled": self.unlabelled,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "most_frequent": dict(zip(("class", "accuracy"), self.most_frequent, strict=True)),
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "classes": {
                name: {column: values[row].item() for column, values in columns.items()}
                for row, name in enumerate(self.class_names)
            },
            "confusion": {
                "rows": "true class",
                "columns": "predicted class",
                "counts": self.confusion.tolist(),
            },
        }


def evaluate_predictions(*, labels: np.ndarray, logits: np.ndarray, class_names: Sequence[str]) -> EvaluationMetrics:
    """Compare the predictions of a network with the labels.

    Args:
        labels: int [N], 0..C-1; `UNLABELLED` (-1) rows are left out and counted.
        logits: float [N, C]: the class of the largest value is the prediction, the first of equals.
        class_names: the C names, in the order of the logits.

    Raises:
        InputError: no row has a label, or a logit is not finite.
        ValueError: shapes that do not fit together, or a label that is not a class.
    """
    labels, logits = np.asarray(labels), np.asarray(logits)
    if logits.shape != (len(labels), len(class_names)):
        raise ValueError(
            f"Logits must be [{len(labels)}, {len(class_names)}], labels by classes. Received: {logits.shape}"
        )
    if not np.isfinite(logits).all():
        rows = int((~np.isfinite(logits)).any(axis=1).sum())
        raise InputError(f"{rows} of {len(logits)} rows of logits are not finite: the network has diverged")
    if not np.any(labels != UNLABELLED):
        raise InputError(f"none of the {len(labels)} images has a label, an evaluation needs some")
    return EvaluationMetrics(
        class_names=tuple(class_names),
        confusion=confusion_matrix(labels, logits.argmax(axis=1), len(class_names)),
        unlabelled=int(np.sum(labels == UNLABELLED)),
    )


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Count how often each class was predicted to be each.

    Args:
        labels: int [N], 0..num_classes-1; rows that are `UNLABELLED` (-1) are left out.
        predictions: int [N], 0..num_classes-1.

    Returns:
        int64 [num_classes, num_classes]: rows are true classes, columns predicted ones.

    Raises:
        ValueError: lengths that differ, or a number that is not a class.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise ValueError(f"Labels and predictions must be [N]. Received: {labels.shape} and {predictions.shape}")
    labelled = labels != UNLABELLED
    labels, predictions = labels[labelled].astype(np.int64), predictions[labelled].astype(np.int64)
    for name, column in (("label", labels), ("prediction", predictions)):
        if np.any((column < 0) | (column >= num_classes)):
            raise ValueError(f"Every {name} must be 0..{num_classes - 1}. Received: {np.unique(column)}")
    cells = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes).astype(np.int64)


def per_class_table(metrics: EvaluationMetrics) -> str:
    """Return precision, recall, F1 and support as text, one class a line, aligned."""
    return aligned_text([("class", "precision", "recall", "F1", "images"), *per_class_cells(metrics)])


def per_class_cells(metrics: EvaluationMetrics) -> list[tuple[str, ...]]:
    """Return name, precision, recall, F1 and support of every class, as they stand in a table."""
    return [
        (name, f"{precision:.3f}", f"{recall:.3f}", f"{f1:.3f}", f"{support:,}")
        for name, precision, recall, f1, support in zip(
            metrics.class_names, metrics.precision, metrics.recall, metrics.f1, metrics.support, strict=True
        )
    ]


def confusion_text(metrics: EvaluationMetrics) -> str:
    """Return the confusion matrix as text: one true class a line, one predicted class a column, aligned."""
    rows = [
        (name, *(f"{count:,}" for count in counts))
        for name, counts in zip(metrics.class_names, metrics.confusion, strict=True)
    ]
    return aligned_text([("true \\ predicted", *metrics.class_names), *rows])


def aligned_text(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Join cells into lines of aligned columns: the first `left` to the left, numbers to the right."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    columns = [("<" if column < left else ">") + str(width) for column, width in enumerate(widths)]
    return "\n".join("  ".join(map(format, row, columns)) for row in rows)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def import_pandas() -> Any:
    """Return the module that `to_pandas` needs, which comes with no part of the project.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise InputError("to_pandas needs pandas: pip install pandas") from error
    return pandas
