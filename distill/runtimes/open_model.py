"""`open_model`: a file, a folder or a function becomes an `ImageModel`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from distill.errors import InputError
from distill.files.busy_files import cannot_read_now
from distill.files.home import expanded
from distill.refusals import check_known, near_paths
from distill.runtimes import keras_file, onnx_file, python_function, saved_model, tflite_file
from distill.runtimes.first_image import check_first_image
from distill.runtimes.image_model import ImageModel
from distill.runtimes.input_format import InputFormat
from distill.runtimes.softmax import AUTO, OUTPUT_TYPES


class Format(NamedTuple):
    """How a network may be given: a name for messages, a test, a way to open it, and its numeric policies."""

    name: str
    recognise: Callable[[str], bool]
    open: Callable[..., ImageModel]
    policies: tuple[str, ...] = ("float32",)
    checked_first: bool = True
    """Whether another process opens it first."""


FORMATS = (
    Format("a Keras file", keras_file.recognise, keras_file.open_file, keras_file.POLICIES),
    Format("an ONNX file", onnx_file.recognise, onnx_file.open_file),
    Format("a LiteRT file", tflite_file.recognise, tflite_file.open_file),
    Format("a SavedModel folder", saved_model.recognise, saved_model.open_folder),
    Format("a Python function", python_function.recognise, python_function.open_function, checked_first=False),
)
"""The first format that recognises a source opens it."""

_EXPECTED = (
    "expected a .keras, .h5, .hdf5, .json, .onnx or .tflite file, the folder of a SavedModel, or module:function"
)


def is_model_file(teacher: str) -> bool:
    """Whether `teacher` means a file, a folder or `module:function`, not the name of a network.

    A name is one plain word. A path that is one is taken for a name, unless a SavedModel lies there: write `./path`.
    """
    return bool(re.search(r"[./\\:]", teacher)) or format_of(teacher) is not None


def is_architecture(source: str) -> bool:
    """Whether `source` is named as a file that describes a network without its weights, which may be given, too."""
    return source.endswith(keras_file.ARCHITECTURE)


def open_model(
    source: str,
    *,
    input_format: InputFormat | None = None,
    policy: str = "float32",
    output_type: str = AUTO,
    weights: str | None = None,
) -> ImageModel:
    """Open a network that is no part of this project.

    Args:
        source: a file or folder of one of the `FORMATS`, or `module:function`.
        input_format: what it expects of its pixels; by default 0..255, sized as its file says.
        policy: "float32" or, for Keras networks, "mixed_bfloat16".
        output_type: what its last layer gives: "logits", "probabilities", or "auto", which looks at its last layer or
            at what it gives for a few images.
        weights: the file with the weights of a network that `source` describes alone, a `.json` file of Keras.

    Raises:
        InputError: there is no such file, it has no known format, the policy is not for it, `output_type` is none of
            the three; and whatever its format finds wrong.
    """
    source = str(source)
    if not python_function.recognise(source):
        source = str(expanded(source))
    model_format = format_of(source)
    if model_format is None or not (Path(source).exists() or python_function.recognise(source)):
        if Path(source).exists():
            raise InputError(f"{source} is not a network that can be opened; {_EXPECTED}")
        raise InputError(f"{source} does not exist{near_paths(Path(source))}; {_EXPECTED}")
    _check_policy(policy, model_format)
    if output_type not in OUTPUT_TYPES:
        raise InputError(f'--output-type must be {" or ".join(OUTPUT_TYPES)}, received "{output_type}"')
    if weights is not None and not is_architecture(source):
        raise InputError(f"{source} holds its own weights: omit --weights")
    more = {} if weights is None else {"weights": weights}
    described = input_format or InputFormat()
    if model_format.checked_first:
        check_first_image(source, described, policy, output_type, **more)
    try:
        return model_format.open(source, described, policy, output_type, **more)
    except OSError as error:
        wrong = InputError(f"{error.filename or source} cannot be read: {error.strerror or error}")
        raise cannot_read_now(error, error.filename or source) or wrong from error


def format_of(source: str) -> Format | None:
    """Return the format that recognises a source."""
    return next((each for each in FORMATS if each.recognise(source)), None)


def _check_policy(policy: str, model_format: Format) -> None:
    check_known(policy, keras_file.POLICIES, what="numeric policy")
    if policy not in model_format.policies:
        raise InputError(
            f"--policy {policy} works for Keras networks, {model_format.name} runs in its own precision: omit it"
        )
