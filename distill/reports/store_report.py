"""What a logit store holds, and how good its logits are: numbers for JSON, and a table for people."""

from typing import Any

import numpy as np

from distill.data.class_order import ASSUMED
from distill.data.dataset import UNLABELLED, Dataset
from distill.data.views import ViewSpec
from distill.logit_store import Feature, LogitStore
from distill.printable import printable
from distill.reports.calibration import accuracy, calibrating_temperature, temperature_table
from distill.reports.diagnosis import Diagnosis, diagnose, warnings_of
from distill.reports.metrics import aligned_text
from distill.runtimes.image_model import AVERAGES

_SHOWN_DIGITS = 16  # of a fingerprint
_DIAGNOSED = 8192  # images: an order of classes shows in fewer


def store_notes(store: LogitStore) -> list[str]:
    """Return what a user should know of a store before it is used, a sentence each."""
    notes = []
    if store.unknown_pixels:
        which = f"of {store.unknown_pixels:,} of {len(store):,} images in" if store.pixels_known else "of"
        found_by = "id" if store.pixels_known else "file name"
        notes.append(f"pixels {which} {store.path} are unknown: joined by {found_by}, unchecked")
    if store.header.class_order == ASSUMED:
        names = ", ".join(store.class_names)
        notes.append(f"the class order of {store.path} is assumed, nobody said it: {names}")
    return notes


def is_of_this_project(store: LogitStore) -> bool:
    """Whether a store's teacher is a network of this project, of which no input format had to be described."""
    return not store.header.input_format.keys() - set(AVERAGES)


def store_diagnosis(store: LogitStore, dataset: Dataset | None = None, *, images: int = _DIAGNOSED) -> Diagnosis:
    """Compare a store's logits with labels, on at most `images` images from all over it.

    Args:
        dataset: whose labels to take, found by the names of the classes; by default the stored ones.

    Raises:
        InputError: the store lacks an image of `dataset`.
    """
    rows = np.arange(len(store)) if dataset is None else store.rows_of(dataset)
    labels = store.labels if dataset is None else dataset.labels_among(store.class_names)
    labelled = np.flatnonzero(labels != UNLABELLED)
    if not len(labelled):
        return Diagnosis(images=0)
    chosen = labelled[np.linspace(0, len(labelled) - 1, min(images, len(labelled))).round().astype(int)]
    return diagnose(_evaluated(store, store.read(rows[chosen])), labels[chosen], store.class_names)


def describe_store(store: LogitStore, dataset: Dataset | None = None) -> dict[str, Any]:
    """Return the header, the size, and an evaluation of the logits, as plain values.

    Args:
        dataset: the images and labels to evaluate the logits on; by default all samples and the stored labels.

    Returns:
        JSON-able. Accuracies, top probabilities and calibration errors lie in 0..1, and are None without labels.
        They are of the views that evaluate a network: the untouched image, or all crops as one.
    """
    logits, labels = store.logits, store.labels
    if dataset is not None:
        logits, labels = logits[store.rows_of(dataset)], dataset.labels_among(store.class_names)
    evaluated = _evaluated(store, logits)
    diagnosis = diagnose(evaluated, labels, store.class_names)
    labelled = int((labels != UNLABELLED).sum())
    return {
        "path": str(store.path),
        "bytes": sum(content.path.stat().st_size for content in store.contents),
        "files": len(store.contents),
        "samples": len(store),
        "labelled": int((store.labels != UNLABELLED).sum()),
        "pixels_known": store.pixels_known,
        "unknown_pixels": store.unknown_pixels,
        "header": store.header.to_dict(),
        "evaluated_labelled": labelled,
        "diagnosis": diagnosis.to_dict(),
        "warnings": warnings_of(diagnosis, of_this_project=is_of_this_project(store)),
        "accuracy": accuracy(evaluated, labels),
        "accuracy_by_view": [accuracy(logits[:, view], labels) for view in range(logits.shape[1])],
        "largest_logit": float(np.abs(logits).max()),
        "calibrating_temperature": calibrating_temperature(evaluated, labels) if labelled else None,
        "temperatures": temperature_table(evaluated, labels),
    }


def store_text(description: dict[str, Any]) -> str:
    """Return what `describe_store` found as two tables, for people."""
    facts = "\n".join(f"{name:<18}{value}" for name, value in _facts(description))
    names = list(description["temperatures"][0])
    rows = [[_cell(name, row[name]) for name in names] for row in description["temperatures"]]
    table = aligned_text([[name.replace("_", " ") for name in names], *rows], left=0)
    warnings = "".join(f"warning: {warning}\n" for warning in description["warnings"])
    return f"{facts}\n{warnings}\n{table}"


def _facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    header = found["header"]
    files = "" if found["files"] == 1 else f" in {found['files']} parts"
    pixels = f"; the pixels of {found['unknown_pixels']:,} are unknown" if found["unknown_pixels"] else ""
    input_shape = "x".join(map(str, header["teacher_input_shape"])) if any(header["teacher_input_shape"]) else ""
    taught_by = {split: fingerprint[:_SHOWN_DIGITS] for split, fingerprint in header["teacher_training"].items()}
    facts = [
        ("file", f"{found['path']}{files}, {found['bytes']:,} bytes"),
        ("samples", f"{found['samples']:,} of {header['dataset_name']}, {found['labelled']:,} labelled{pixels}"),
        ("fingerprint", f"{header['dataset_fingerprint'][:_SHOWN_DIGITS]} (of the samples)"),
        ("classes", ", ".join(header["class_names"])),
        ("class order", header["class_order"]),
        ("views", f"{header['views']}: {_settings(header['view_spec'])}"),
        ("teacher", f"{header['teacher_name']}, sha256 {header['teacher_sha256'][:_SHOWN_DIGITS]}"),
        ("input", f"{input_shape} {_settings(header['input_format'])}".strip()),
        ("learned from", _settings(taught_by)),
        ("precision", f"{header['numeric_policy']}, stored as {header['logits_dtype']}"),
        ("logits from", f"{header['logits_from']}, the largest {found['largest_logit']:.3g}"),
        *[("feature", _feature_text(Feature(**each), header["views"])) for each in header.get("features", [])],
        ("versions", _settings(header["versions"])),
        *_accuracy_facts(found),
    ]
    return [(name, printable(value) or "unknown") for name, value in facts]


def _feature_text(feature: Feature, views: int) -> str:
    return f"{feature}, {feature.bytes_per_view * views:,} bytes an image"


def _evaluated(store: LogitStore, logits: np.ndarray) -> np.ndarray:
    """Return [N, C]: the mean over the views that evaluate a network, of [N, V, C]."""
    return logits[:, ViewSpec.for_evaluation(store.view_spec).evaluation_views[: logits.shape[1]]].mean(axis=1)


def _accuracy_facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    if found["accuracy"] is None:
        return []
    views = found["accuracy_by_view"]
    by_view = f"; by view {min(views):.1%} to {max(views):.1%}" if len(views) > 1 else ""
    return [
        ("accuracy", f"{found['accuracy']:.2%} of {found['evaluated_labelled']:,} samples{by_view}"),
        ("best calibrated", f"at temperature {found['calibrating_temperature']:.3g}"),
    ]


def _settings(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if name == "temperature" else f"{value:.3f}"
