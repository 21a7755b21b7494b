"""What an evaluation found, as text for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill.data.class_order import KNOWN
from distill.reports.metrics import CONFIDENCE, EvaluationMetrics, aligned_text, confusion_text, per_class_table
from distill.reports.verdict import worth_lines


def model_text(model: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Return accuracy, figures per class and the confusion matrix of a model.

    Args:
        model: one of `models` in `evaluation.json`.
        data: what stands there of the data.
    """
    metrics = EvaluationMetrics.from_dict(model)
    sizes = [f"{model[name]:,} {name}" for name in ("parameters", "bytes") if model[name] is not None]
    facts = [
        ", ".join([f"{model['name']}: {model['network']}", model["kind"], *sizes[:1]]),
        f"on {metrics.count + metrics.unlabelled:,} {data['split']} images of {data['name']}",
        f"accuracy {metrics.accuracy:.4f}   balanced accuracy {metrics.balanced_accuracy:.4f}   "
        f"macro-F1 {metrics.macro_f1:.4f}   calibration error {model['calibration']['error']:.4f}",
        *([f"evaluated on {evaluated_on(model)}"] if model["averages"] else []),
        *worth_lines(metrics),
        *(_compared(teacher) for teacher in model["teachers"]),
        *_copies(model["copies"]),
        *([] if model["class_order"] == KNOWN else [f"order of its classes: {model['class_order']}"]),
        *(f"warning: {warning}" for warning in model["warnings"]),
    ]
    return "\n\n".join(["\n".join(facts), per_class_table(metrics), confusion_text(metrics)])


def evaluated_on(model: Mapping[str, Any]) -> str:
    """Return of what the logits are that evaluate a model, one of `models` in `evaluation.json`."""
    views, averages = model["views"], model["averages"]
    shown = "the untouched image" if views == 1 else f"the mean over {views} crops of each image"
    copies = []
    if pixels := averages.get("shift_average"):
        copies.append(f"it moved by {pixels} pixels towards each corner")
    if averages.get("flip_average"):
        copies.append("the mirror images of all of these" if copies else "its mirror image")
    return f"{shown}, averaged with {' and '.join(copies)}" if copies else shown


def comparison_text(models: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of several models, and what always predicting one class would give, of `models`."""
    teachers = [f"as {teacher['name']}" for teacher in models[0]["teachers"]]
    columns = (
        "model",
        "accuracy",
        f"{CONFIDENCE:.0%} interval",
        "balanced accuracy",
        "macro-F1",
        "calibration error",
        *teachers,
        "bytes",
        "multiply-adds",
        "frames/s",
    )
    name, share = EvaluationMetrics.from_dict(models[0]).most_frequent
    return f'{aligned_text([columns, *map(_cells, models)])}\nalways predicting "{name}" would give {share:.4f}'


def _cells(model: Mapping[str, Any]) -> tuple[str, ...]:
    speed, metrics = model["latency"], EvaluationMetrics.from_dict(model)
    return (
        model["name"],
        f"{model['accuracy']:.4f}",
        "{:.4f} .. {:.4f}".format(*metrics.accuracy_interval),
        f"{metrics.balanced_accuracy:.4f}",
        f"{model['macro_f1']:.4f}",
        f"{model['calibration']['error']:.4f}",
        *(f"{teacher['agreement']:.4f}" for teacher in model["teachers"]),
        "-" if model["bytes"] is None else f"{model['bytes']:,}",
        "-" if model["multiply_adds"] is None else f"{model['multiply_adds']:,}",
        "-" if speed is None else f"{speed['frames_per_second']:,.0f}",
    )


def _compared(teacher: Mapping[str, Any]) -> str:
    right = "" if teacher["accuracy"] is None else f" (accuracy {teacher['accuracy']:.4f})"
    return f"agrees with {teacher['name']}{right} on {teacher['agreement']:.2%} of the images"


def _copies(copies: Mapping[str, Any] | None) -> list[str]:
    if copies is None or copies["copies"] is None:
        return []
    named = {"exact or mirrored copies of training images": copies["copies"], "others": copies["others"]}
    parts = [f"{part['accuracy']:.4f} of {part['count']:,} {name}" for name, part in named.items() if part]
    return [f"accuracy {', '.join(parts)}"]
