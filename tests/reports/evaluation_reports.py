"""A small dataset, and what an evaluation found on it, as `python -m distill.evaluate` saves it."""

from typing import Any

import numpy as np

from distill.data.dataset import ArrayImages, Dataset
from distill.evaluation.evaluation_report import TeacherPredictions, report_on

LATENCY = {"p50_ms": 0.05, "p99_ms": 0.07, "frames_per_second": 20000.0}


def small_faces(*, count: int = 90, class_names=("angry", "happy", "sad"), channels: int = 1) -> Dataset:
    """Noise with labels, some of them missing."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(class_names), count)
    labels[::10] = -1
    return Dataset(
        name="/somewhere/faces",
        ids=np.array([f"validation/{row:03}" for row in range(count)]),
        labels=labels,
        class_names=tuple(class_names),
        images=ArrayImages(rng.integers(0, 256, (count, 8, 8, channels), np.uint8)),
        splits=np.array(["validation"] * count),
    )


def found_of(dataset: Dataset, name: str, *, seed: int = 0, **values) -> dict[str, Any]:
    """What is found of a model that is right in about half of the images; `values` replace some of it."""
    rng = np.random.default_rng(seed)
    classes = dataset.num_classes
    logits = rng.normal(0, 2, (len(dataset), classes)) + 2 * np.eye(classes)[np.maximum(dataset.labels, 0)]
    teacher = TeacherPredictions("big", "0123456789abcdef", rng.normal(0, 2, logits.shape))
    copies = rng.random(len(dataset)) < 0.2
    return {
        "name": name,
        "model": f"runs/{name}",
        "network": "microexpnet",
        "kind": "Keras float32",
        "input_shape": [48, 48, 1],
        "views": 1,
        "averages": {},
        "class_order": "known",
        "diagnosis": None,
        "warnings": [],
        "parameters": 65000,
        "bytes": 260000,
        "multiply_adds": 2853200,
        "latency": dict(LATENCY),
        "latency_unknown": None,
        **report_on(logits, dataset, teachers=[teacher], copies=copies, mistakes=5),
        **values,
    }


def report_of(dataset: Dataset, *models: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": {"name": dataset.name, "split": "validation", "fingerprint": dataset.fingerprint},
        "models": list(models),
        "date": "2026-01-02T03:04+00:00",
        "machine": {"processor": "Some Processor", "cores": 2},
        "versions": {"distill": "0.1.0", "python": "3.11"},
    }
