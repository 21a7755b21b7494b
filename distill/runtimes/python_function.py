"""Networks as Python functions, `module:function`: whatever runs behind one, NumPy goes in and out."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from distill.errors import InputError
from distill.python_function import load_function, recognise
from distill.refusals import reason
from distill.runtimes.image_model import ImageModel
from distill.runtimes.input_format import InputFormat
from distill.runtimes.softmax import probed
from distill.runtimes.weights import files_sha256

__all__ = ["open_function", "recognise"]


def open_function(source: str, input_format: InputFormat, policy: str, output_type: str) -> ImageModel:
    """Import `module:function`, from the current directory too, as `python -m` does.

    The function takes float32 images in the input format, [B, h, w, c] or [B, c, h, w], and returns floats [B, C]:
    raw logits, or probabilities. An attribute `fingerprint` of it, a string, stands for its weights; without one
    the source file of its module does.

    Raises:
        InputError: there is no such function, it fails, it returns something else, or not what `output_type` says, or
            size or channels of its images are not given.
    """
    function = load_function(source)
    pixel_format = input_format.resolve(None, source=source)

    def predict(images: np.ndarray) -> np.ndarray:
        formatted = pixel_format(images)
        try:
            return np.asarray(function(formatted))
        except Exception as error:
            problem = f"{type(error).__name__}: {reason(error)}"
            raise InputError(f"{source} failed on images {list(formatted.shape)} with {problem}") from error

    to_logits, classes, logits_from = probed(
        predict, pixel_format.image_shape, output_type=output_type, source=source
    )
    return ImageModel(
        name=source,
        input_shape=pixel_format.image_shape,
        classes=classes,
        sha256=_fingerprint(function, source),
        numeric_policy=policy,
        logits_from=logits_from,
        input_format=pixel_format.to_dict(),
        network=None,
        predict=lambda images: to_logits(predict(images), len(images)),
    )


def _fingerprint(function: Callable, source: str) -> str:
    fingerprint = getattr(function, "fingerprint", None)
    if fingerprint is not None:
        return str(fingerprint)
    file = getattr(sys.modules[source.partition(":")[0]], "__file__", None)
    if file is None or not Path(file).is_file():
        raise InputError(f"{source} has no source file to identify it: give the function an attribute fingerprint")
    return files_sha256({"source": Path(file)})
