"""Which epoch of a run is its best: `CHOICES` = {name: row}."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

AVERAGED = "_ema"
"""What the names of metrics of the averaged weights end in."""


class Choice(NamedTuple):
    """A row of `CHOICES`."""

    metric: str
    """Its column of metrics.csv is "validation_METRIC"."""
    sign: int = 1
    """-1 where lower is better."""


CHOICES = {
    "accuracy": Choice("accuracy"),
    "macro-f1": Choice("macro_f1"),
    "balanced-accuracy": Choice("balanced_accuracy"),
    "loss": Choice("loss", sign=-1),
}


def chosen_by(recipe: Mapping[str, Any]) -> str:
    """Return by which of `CHOICES` a run of the recipe `recipe`, of its record, chooses its epoch.

    What gives all classes the same weight is chosen by what does so, too.
    """
    balanced = recipe.get("class_weights") == "balanced"
    return recipe.get("choose_by") or ("balanced-accuracy" if balanced else "accuracy")


def quality(row: Mapping[str, float], choose_by: str = "accuracy") -> float:
    """Return what an epoch is worth, higher is better: that of its averaged weights, where they are better.

    Args:
        row: of metrics.csv.
        choose_by: of `CHOICES`.
    """
    choice = CHOICES[choose_by]
    columns = (f"validation_{choice.metric}{suffix}" for suffix in ("", AVERAGED))
    return max(choice.sign * row[column] for column in columns if column in row)


def averaged_is_better(row: Mapping[str, float], choose_by: str = "accuracy") -> bool:
    """Return whether the averaged weights of an epoch are better than its raw ones."""
    choice = CHOICES[choose_by]
    return quality(row, choose_by) > choice.sign * row[f"validation_{choice.metric}"]


def best_epoch(rows: Sequence[Mapping[str, float]], choose_by: str = "accuracy") -> Mapping[str, float]:
    """Return the best row, the first of equals."""
    return max(rows, key=lambda row: quality(row, choose_by))


def best_accuracy(row: Mapping[str, float], choose_by: str = "accuracy") -> float:
    """Return the validation accuracy, 0..1, of the weights that are kept of an epoch."""
    return row[kept_column(row, "accuracy", choose_by)]


def kept_column(row: Mapping[str, float], metric: str, choose_by: str = "accuracy") -> str:
    """Return the column of a metric of the weights that are kept of an epoch, raw or averaged."""
    return f"validation_{metric}{AVERAGED if averaged_is_better(row, choose_by) else ''}"
