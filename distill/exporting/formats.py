"""`FORMATS`: the files that a student is exported as."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from distill.exporting import litert, litert_metadata, onnx_export, saved_model
from distill.files.tensorflow_paths import check_no_pattern
from distill.files.whole_files import write_bytes
from distill.prediction.description import ModelDescription
from distill.prediction.exported_model import SAVED_MODEL_ENDING, open_exported

Calibration = np.ndarray
Run = Callable[[np.ndarray], np.ndarray]


class Format(NamedTuple):
    """One kind of file."""

    ending: str
    """Of the file's name, behind that of the network."""
    precision: str
    """Of its weights."""
    write: Callable[[Path, keras.Model, ModelDescription, Calibration], None]
    """Path, network that gives probabilities, description, and pixels float32 [N, h, w, c] of real images."""
    open: Callable[[Path], Run]
    """Path -> a function from float32 pixels [B, h, w, c] to float32 probabilities [B, C], on one thread."""
    needs: tuple[str, ...] = ()
    """Packages that the core of this project does without."""
    check: Callable[[Path], None] = lambda out: None
    """Refuses a folder from which it could not be read."""


def _write_litert(path: Path, network: keras.Model, description: ModelDescription, calibration: Calibration) -> None:
    images = calibration if description.precision == litert.INT8 else None
    flatbuffer = litert.litert_flatbuffer(network, description.precision, calibration=images)
    write_bytes(path, litert_metadata.described_file(flatbuffer, description))


def _write_onnx(path: Path, network: keras.Model, description: ModelDescription, calibration: Calibration) -> None:
    write_bytes(path, onnx_export.described_file(onnx_export.onnx_model(network), description))


def _write_saved_model(
    path: Path, network: keras.Model, description: ModelDescription, calibration: Calibration
) -> None:
    saved_model.write(path, network, description)


def _open(path: Path) -> Run:
    return open_exported(path).run


FORMATS = {
    "litert-float32": Format("-float32.tflite", litert.FLOAT32, _write_litert, _open),
    "litert-float16": Format("-float16.tflite", litert.FLOAT16, _write_litert, _open),
    "litert-int8": Format("-int8.tflite", litert.INT8, _write_litert, _open),
    "onnx": Format(".onnx", litert.FLOAT32, _write_onnx, _open, needs=("onnx", "onnxruntime", "tf2onnx")),
    "saved-model": Format(
        SAVED_MODEL_ENDING, litert.FLOAT32, _write_saved_model, saved_model.open_folder, check=check_no_pattern
    ),
}
"""Name -> what it is, how it is written, and how it is run."""
