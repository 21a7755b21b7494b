"""`export_student`: a folder with a student in several formats, what each is worth, and the card of the model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from distill import __version__
from distill.data.class_order import KNOWN
from distill.data.dataset import Dataset
from distill.data.rendering import render_numpy
from distill.data.views import ViewSpec
from distill.errors import BusyError, InputError
from distill.exporting.comparing import KERAS, Comparison, ExportRow, some_of
from distill.exporting.formats import FORMATS
from distill.exporting.graph import in_float32, probabilities_network
from distill.exporting.model_card import model_card
from distill.exporting.recommendation import recommend
from distill.extras import install_command
from distill.files.documents import read_document
from distill.files.whole_files import atomic_folder, write_json
from distill.prediction.description import ModelDescription
from distill.prediction.exported_model import EXPORTS
from distill.refusals import check_known
from distill.reports.metrics import EvaluationMetrics
from distill.reports.verdict import verdict
from distill.runs.run_record import RunRecord
from distill.scoring.network_identity import check_classes, numeric_policy, weights_sha256
from distill.versions import machine, versions

CARD = "README.md"


@dataclass(frozen=True)
class ExportResult:
    """What was written, and what it is worth."""

    rows: tuple[ExportRow, ...]
    """The student itself, then every file."""
    recommended: str
    """Name of the file to take."""
    advice: tuple[str, ...]
    """A sentence about every file, first of all about that one."""
    notes: tuple[str, ...]
    """What was left out."""
    metrics: EvaluationMetrics
    """Of the student itself."""


def export_student(
    student: keras.Model,
    dataset: Dataset,
    out: str | Path,
    *,
    formats: Sequence[str] = (),
    split: str = "validation",
    view_spec: ViewSpec | None = None,
    record: RunRecord | None = None,
    class_order: str = KNOWN,
    images: int = 4000,
    calibration: int = 300,
    seconds: float = 1.0,
) -> ExportResult:
    """Write a student's files, `exports.json` and the card into the folder `out`.

    The folder appears whole or not at all, and replaces that of an earlier export.

    Args:
        student: pixels 0..255 in, raw logits out, one for each class of `dataset`.
        dataset: real images with the splits of the student's training: "train" sets the ranges of int8.
        formats: names of `FORMATS`; by default all whose packages are installed and that the student can be
            converted to.
        split: whose images the files are compared on.
        view_spec: of the student's training; it decides which views evaluate the student.
        record: of the student's run, for the card.
        class_order: how it is known that the student's classes stand in the order of `dataset`; for the card.
        images: the most images that are scored.
        calibration: how many training images set the ranges of int8.
        seconds: how long the call for one image is repeated, for each file.

    Raises:
        InputError: an unknown format, or one whose package is missing; a student that cannot be exported, or not in
            one of the `formats` given, or of other classes; a split without images; `out` is a file, or holds
            something else.
    """
    out = Path(out)
    chosen, notes = _chosen(formats)
    check_classes(student, dataset)
    student = in_float32(student)  # what a file is compared with computes as the file does
    network = probabilities_network(student)
    whole = dataset.split(split)
    part = some_of(whole, images)
    view_spec = view_spec or ViewSpec()
    pixels = _calibration_pixels(dataset, view_spec, network.input_shape[1:], count=calibration)
    _check_is_ours(out)
    comparison = Comparison(student, part, view_spec=view_spec, seconds=seconds)
    described = _description(student, dataset, record, class_order)
    rows = [_of_student(comparison, network)]
    with atomic_folder(out) as folder:
        for name in tqdm(chosen, desc="exporting", unit="format", leave=False, disable=None):
            form = FORMATS[name]
            path = folder / f"{student.name}{form.ending}"
            try:
                form.check(out)
                form.write(path, network, replace(described, precision=form.precision), pixels)
            except InputError as error:
                if formats:
                    raise
                notes.append(f"{name} is left out: {error}")
            else:
                rows.append(comparison.row(form.open(path), name=name, path=path))
        if len(rows) == 1:
            raise InputError(f"{student.name} cannot be exported in any format: {'; '.join(notes)}")
        recommended, advice = recommend(rows, verdict=_worthless(comparison.metrics))
        described = replace(described, precision=FORMATS[recommended.format].precision)
        facts = {
            "recommended": recommended.file,
            "advice": advice,
            "description": described.to_dict(),
            **_compared(comparison, rows, split=split),
        }
        chosen_on_these = record is not None and record.data.validation.fingerprint == whole.fingerprint
        card = model_card(facts, rows, comparison.metrics, record=record, chosen_on_these=chosen_on_these)
        (folder / CARD).write_text(card, encoding="utf-8")
        write_json(folder / EXPORTS, facts)
    return ExportResult(tuple(rows), recommended.file, tuple(advice), tuple(notes), comparison.metrics)


def _worthless(metrics: EvaluationMetrics) -> str | None:
    """Return why no file of a student is recommended: it is no better than always predicting one class."""
    return verdict(metrics) if metrics.accuracy <= metrics.most_frequent[1] else None


def _compared(comparison: Comparison, rows: Sequence[ExportRow], *, split: str) -> dict[str, Any]:
    """Return what was measured, on what and with what, without the paths of this machine."""
    part = comparison.dataset
    return {
        "data": {
            "name": Path(part.name).name,
            "fingerprint": part.fingerprint,
            "split": split,
            "images": len(part),
        },
        "student": comparison.metrics.to_dict(),
        "exports": [asdict(row) for row in rows],
        "machine": machine(),
        "versions": versions(),
    }


def _chosen(formats: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the formats to write, and notes on those that cannot be."""
    for name in formats:
        check_known(name, FORMATS, what="format")
    lacking = {name: [each for each in FORMATS[name].needs if find_spec(each) is None] for name in FORMATS}
    mend = install_command("onnx")
    for name in formats:
        if lacking[name]:
            raise InputError(f"{name} needs {', '.join(lacking[name])}: {mend}")
    notes = [
        f"{name} is left out, it needs {', '.join(absent)}: {mend}" for name, absent in lacking.items() if absent
    ]
    return list(dict.fromkeys(formats)) or [name for name in FORMATS if not lacking[name]], [] if formats else notes


def _calibration_pixels(
    dataset: Dataset, view_spec: ViewSpec, shape: tuple[int, int, int], *, count: int
) -> np.ndarray:
    """Return float32 [count, h, w, c]: training images as the student sees them in an evaluation."""
    part = some_of(dataset.split("train"), count, labelled=False)
    parameters = view_spec.parameters(part.ids, np.zeros(len(part), int))
    return render_numpy(part.read(np.arange(len(part))), parameters, image_shape=shape)


def _of_student(comparison: Comparison, network: keras.Model) -> ExportRow:
    graph = tf.function(lambda pixels: network(pixels, training=False), autograph=False, reduce_retracing=True)
    return comparison.row(
        lambda pixels: graph(tf.constant(pixels)).numpy(),
        name=KERAS,
        path=None,
        weight_bytes=4 * network.count_params(),
    )


def _description(
    student: keras.Model, dataset: Dataset, record: RunRecord | None, class_order: str
) -> ModelDescription:
    return ModelDescription(
        name=student.name,
        class_names=dataset.class_names,
        input_shape=tuple(student.input_shape[1:]),
        precision=numeric_policy(student),
        weights_sha256=weights_sha256(student),
        trained_on=Path(record.data.name).name if record else "",
        version=__version__,
        class_order=class_order,
    )


@dataclass
class _ExportedFile:
    file: str | None  # None: the student itself


@dataclass
class _Exports:
    exports: list[_ExportedFile]


def _check_is_ours(out: Path) -> None:
    """Check that nothing but an earlier export stands at `out`."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: name a folder for the exports")
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / EXPORTS).is_file():
        raise InputError(f"{out} is not empty and holds no {EXPORTS}: name a new folder for the exports")
    try:
        earlier = read_document(out / EXPORTS, _Exports, what="list of exports")
    except BusyError:
        raise
    except InputError as error:
        raise InputError(f"{error}: name a new folder for the exports") from error
    written = {EXPORTS, CARD, *(row.file for row in earlier.exports)}
    others = sorted(path.name for path in out.iterdir() if path.name not in written)
    if others:
        raise InputError(
            f"{out} holds {', '.join(others[:3])} next to an earlier export: move it, or name a new folder"
        )
