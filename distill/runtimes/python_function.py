"""Networks as Python functions, `module:function`: whatever runs behind one, NumPy goes in and out."""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from distill.errors import InputError
from distill.runtimes.image_model import ImageModel
from distill.runtimes.input_format import InputFormat
from distill.runtimes.reasons import reason
from distill.runtimes.softmax import probed
from distill.runtimes.weights import files_sha256

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def recognise(source: str) -> bool:
    """Whether `source` is written as `module:function`."""
    return _FUNCTION.fullmatch(source) is not None


def open_function(source: str, input_format: InputFormat, policy: str, gives: str) -> ImageModel:
    """Import `module:function`, from the current directory too, as `python -m` does.

    The function takes float32 images in the input format, [B, h, w, c] or [B, c, h, w], and returns floats [B, C]:
    raw logits, or probabilities. An attribute `fingerprint` of it, a string, stands for its weights; without one
    the source file of its module does.

    Raises:
        InputError: there is no such function, it fails, it returns something else, or not what `gives` says, or
            size or channels of its images are not given.
    """
    function = _import(source)
    pixel_format = input_format.resolve(None, source=source)

    def predict(images: np.ndarray) -> np.ndarray:
        formatted = pixel_format(images)
        try:
            return np.asarray(function(formatted))
        except Exception as error:
            problem = f"{type(error).__name__}: {reason(error)}"
            raise InputError(f"{source} failed on images {list(formatted.shape)} with {problem}") from error

    logits, classes, logits_from = probed(predict, pixel_format.image_shape, gives=gives, source=source)
    return ImageModel(
        name=source,
        input_shape=pixel_format.image_shape,
        classes=classes,
        sha256=_fingerprint(function, source),
        numeric_policy=policy,
        logits_from=logits_from,
        input_format=pixel_format.to_dict(),
        network=None,
        predict=logits,
    )


def _import(source: str) -> Callable[[np.ndarray], np.ndarray]:
    module_name, _, name = source.partition(":")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the module does when it is imported
        raise InputError(f"{source} cannot be imported, {type(error).__name__}: {reason(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [each for each, value in vars(module).items() if inspect.isfunction(value) and each[0] != "_"]
        raise InputError(f"{module_name} has no function {name}: its functions are {', '.join(known) or 'none'}")
    return function


def _fingerprint(function: Callable, source: str) -> str:
    fingerprint = getattr(function, "fingerprint", None)
    if fingerprint is not None:
        return str(fingerprint)
    file = getattr(sys.modules[source.partition(":")[0]], "__file__", None)
    if file is None or not Path(file).is_file():
        raise InputError(f"{source} has no source file to tell it by: give the function an attribute fingerprint")
    return files_sha256({"source": Path(file)})
