"""What comes out of a network that cannot be looked into: recognise softmax by its values, and undo it."""

from collections.abc import Callable

import numpy as np

from distill.errors import InputError
from distill.runtimes.image_model import BEFORE_SOFTMAX, LOG_PROBABILITIES, LOGITS, ImageModel

Predict = Callable[[np.ndarray], np.ndarray]
ToLogits = Callable[[np.ndarray, int], np.ndarray]

SOFTMAX_NAMES = ("Softmax", "LogSoftmax", "softmax", "log_softmax")
"""Operations and activations whose input are logits, whatever the runtime."""

AUTO, TYPE_LOGITS, TYPE_PROBABILITIES = OUTPUT_TYPES = ("auto", "logits", "probabilities")
"""What a network gives; auto: its last layer shows it, or else its values."""

_NOISE, _FLAT = 5, (0.0, 128.0, 255.0)
_PROBES = _NOISE + len(_FLAT)
_TOLERANCE = 1e-3
_MEND = "omit --output-type"
_SMALLEST = np.finfo(np.float32).tiny


def probed(
    predict: Predict, image_shape: tuple[int, int, int], *, source: str, output_type: str = AUTO
) -> tuple[ToLogits, int, str]:
    """Show a network a few images, and find out from what it gives how to get raw logits.

    Rows that are all nonnegative and sum to 1 are probabilities. Their logarithm is the logits minus one number
    for each image, which no softmax sees.

    Args:
        predict: float32 pixels 0..255 [B, h, w, c] -> the network's outputs.
        image_shape: height, width and channels.
        source: the network's file, for messages.
        output_type: one of `OUTPUT_TYPES`. Whatever is said to be logits is taken as it is.

    Returns:
        A function from the network's outputs, and how many images they are of, to float32 raw logits [B, C]; C; and
        `LOGITS` or `LOG_PROBABILITIES`.

    Raises:
        InputError: the outputs are no rows of numbers, or are of one class; they look like those of a sigmoid, or are
            not the probabilities that `output_type` says. The returned function raises it where they are no rows of
            C numbers, or no longer probabilities.
    """
    outputs = _rows(predict(probe_images(image_shape)), _PROBES, source=source)
    classes = outputs.shape[1]
    if classes < 2:
        raise InputError(f"{source} gives one number per image, expected a logit for each of two classes or more")
    if np.isnan(outputs).any():
        raise InputError(f"{source} gives NaN for images of noise or of one color, expected numbers: is it damaged?")

    def as_they_are(outputs: np.ndarray, images: int) -> np.ndarray:
        return _rows(outputs, images, classes=classes, source=source)

    def logarithms(outputs: np.ndarray, images: int) -> np.ndarray:
        return _log_probabilities(as_they_are(outputs, images), source)

    if output_type != TYPE_LOGITS and _is_probabilities(outputs):
        return logarithms, classes, LOG_PROBABILITIES
    if output_type == TYPE_PROBABILITIES:
        raise InputError(f"{source} gives rows that are negative or do not sum to 1, so no probabilities: {_MEND}")
    if output_type == AUTO and np.all((outputs >= 0) & (outputs <= 1)):
        raise InputError(
            f"{source} gives numbers in 0..1 that do not sum to 1, which looks like a sigmoid: "
            "save it without its last activation, or where they are raw logits say --output-type logits"
        )
    return as_they_are, classes, LOG_PROBABILITIES if _is_log_probabilities(outputs) else LOGITS


def from_probabilities(
    run: Predict, *, name: str, input_shape: tuple[int, int, int], classes: int, sha256: str = ""
) -> ImageModel:
    """Return what gives probabilities as an `ImageModel`: its logits are known up to one number for each image.

    Args:
        run: float32 pixels 0..255 [B, h, w, c] -> probabilities [B, C].
    """
    return ImageModel(
        name=name,
        input_shape=input_shape,
        classes=classes,
        sha256=sha256,
        numeric_policy="float32",
        logits_from=LOG_PROBABILITIES,
        input_format={},
        network=None,
        predict=lambda pixels: finite_log(run(pixels)),
    )


def finite_log(probabilities: np.ndarray) -> np.ndarray:
    """Return the logarithm of probabilities, none of which counts as less than the least normal float32 number."""
    return np.log(np.maximum(probabilities, _SMALLEST))


def check_given(logits_from: str, output_type: str, *, source: str) -> None:
    """Check that the description of a network agrees with its last layer, where that shows what it gives.

    Raises:
        InputError: it is said to give logits and ends in a softmax, or the other way round.
    """
    if (logits_from, output_type) == (BEFORE_SOFTMAX, TYPE_LOGITS):
        raise InputError(f"{source} ends in a softmax, so it does not give logits: {_MEND}")
    if (logits_from, output_type) == (LOGITS, TYPE_PROBABILITIES):
        raise InputError(f"{source} ends without a softmax, so it does not give probabilities: {_MEND}")


def probe_images(image_shape: tuple[int, int, int]) -> np.ndarray:
    """Return float32 pixels 0..255 [8, h, w, c] that distinguish networks: noise, black, grey and white."""
    noise = np.random.default_rng(0).uniform(0, 255, (_NOISE, *image_shape))
    flat = [np.full(image_shape, level) for level in _FLAT]
    return np.concatenate([noise, flat]).astype(np.float32)


def _rows(outputs: np.ndarray, images: int, *, source: str, classes: int | None = None) -> np.ndarray:
    outputs = np.asarray(outputs)
    rows = outputs.ndim == 2 and len(outputs) == images and classes in (None, outputs.shape[1])
    if not rows or outputs.dtype.kind != "f":
        expected = f"floats [{images}, {classes or 'classes'}]"
        shape = list(outputs.shape)
        raise InputError(f"{source} gives {outputs.dtype} {shape} for {images} images, expected {expected}")
    return outputs.astype(np.float32, copy=False)


def _is_probabilities(outputs: np.ndarray) -> bool:
    return bool(np.all(outputs >= 0) and np.all(np.abs(outputs.sum(axis=1) - 1) <= _TOLERANCE))


def _is_log_probabilities(outputs: np.ndarray) -> bool:
    return bool(np.all(outputs <= 0)) and _is_probabilities(np.exp(outputs))


def _log_probabilities(outputs: np.ndarray, source: str) -> np.ndarray:
    if not _is_probabilities(outputs):
        raise InputError(
            f"{source} gave probabilities at first and now rows that do not sum to 1: "
            "a softmax that is sometimes there cannot be undone, save it without"
        )
    return finite_log(outputs)
