"""Networks in Keras files: `.keras`, and `.h5` or `.hdf5`, of Keras 3 and older; `.json` with weights in another."""

import copy
from pathlib import Path

import keras
import numpy as np

from distill.errors import InputError
from distill.files.busy_files import cannot_read_now
from distill.files.home import expanded
from distill.refusals import reason
from distill.runtimes.image_model import LOGITS, ImageModel
from distill.runtimes.input_format import InputFormat, PixelFormat, refusing
from distill.runtimes.keras_config import check_keras_file, objects
from distill.runtimes.keras_graph import from_pixels, in_policy, is_graph, without_softmax
from distill.runtimes.keras_weights import load_weights
from distill.runtimes.safe_names import give_safe_names
from distill.runtimes.softmax import Predict, check_given, probed
from distill.runtimes.weights import described_sha256

POLICIES = ("float32", "mixed_bfloat16")
ARCHITECTURE = ".json"
SUFFIXES = (".keras", ".h5", ".hdf5", ARCHITECTURE)
_WEIGHTS_SUFFIXES = (".weights.h5", ".h5", ".hdf5")


def recognise(source: str) -> bool:
    """Whether `source` is named as a Keras file."""
    return source.endswith(SUFFIXES)


def open_file(
    source: str, input_format: InputFormat, policy: str, output_type: str, weights: str | None = None
) -> ImageModel:
    """Open the network in a Keras file.

    Of one that describes a network alone, `.json`, the weights are those of the file `weights`; by default of the
    only one of the same name next to it, `.weights.h5`, `.h5` or `.hdf5`.

    One that is a graph of layers is rebuilt: the input format becomes part of it, nested models become part of one
    flat graph, and it ends before its softmax. One that is a registered Python class is called as it is.

    Raises:
        InputError: the file is damaged, holds weights alone or anything that could run code; the network does not
            take one image, or does not give raw logits or probabilities, or not what `output_type` says; the input
            format or policy is not for it.
    """
    model, description = _load(Path(source), weights)
    shape = _one(model, "input", source)
    pixel_format = input_format.resolve(None if shape is None else shape[1:], source=source)
    if is_graph(model):
        network, predict, classes, logits_from = _rebuilt(model, pixel_format, policy, output_type, source)
    else:
        _check_own_policy(model, policy, source)
        network = None
        predict, classes, logits_from = _called(model, pixel_format, output_type, source)
    return ImageModel(
        name=Path(source).stem,
        input_shape=pixel_format.image_shape,
        classes=classes,
        sha256=described_sha256(model, description),
        numeric_policy=policy,
        logits_from=logits_from,
        input_format=pixel_format.to_dict(),
        network=network,
        predict=predict,
    )


def load_network(path: Path, weights: str | None = None) -> keras.Model:
    """Return the network in a Keras file as it was saved; arguments and errors are those of `open_file`."""
    return _load(path, weights)[0]


def _load(path: Path, weights: str | None) -> tuple[keras.Model, dict]:
    """Return the network, and its description in the file."""
    if not path.is_file():
        raise InputError(f"{path} is not a file: expected a network saved by Keras, {', '.join(SUFFIXES)}")
    description = check_keras_file(path)
    file = path if path.suffix != ARCHITECTURE else _weights_of(path, weights)
    try:
        model = keras.saving.deserialize_keras_object(copy.deepcopy(description.translated), safe_mode=True)
    except Exception as error:  # Keras fails in as many ways as it has layers
        culprit = _culprit(description.translated)
        raise InputError(f"{path} is not a Keras model that can be loaded: {culprit}{reason(error)}") from error
    if not isinstance(model, keras.Model):
        raise InputError(f"{path} holds a {type(model).__name__}, expected a whole network: save a keras.Model")
    if not model.built:
        raise InputError(f"{path} was saved before it saw an image, so it has no weights: build it, and train it")
    try:
        load_weights(model, file, description)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Keras, h5py and zipfile each fail in their own way
        holder = path if file == path else f"{file}, given as the weights of {path},"
        unknown = InputError(f"{holder} is not a Keras model that can be loaded: {reason(error)}")
        raise cannot_read_now(error, file) or unknown from error
    give_safe_names(model)  # not before: weights are found by name
    return model, description.stated


def _weights_of(path: Path, given: str | None) -> Path:
    """Return the file with the weights of a network that `path` describes."""
    candidates = [path.with_suffix(suffix) for suffix in _WEIGHTS_SUFFIXES]
    found = [expanded(given)] if given is not None else [file for file in candidates if file.is_file()]
    if len(found) != 1:
        names = " and ".join(file.name for file in found) or "there is no such file"
        raise InputError(
            f"{path} describes a network without its weights: give them as --weights, or as the only one of "
            f"{', '.join(file.name for file in candidates)} next to it ({names})"
        )
    if not found[0].is_file():
        raise InputError(f"{found[0]} is not a file: expected the weights of {path}, .h5 or .hdf5")
    return found[0]


def _culprit(described: dict) -> str:
    """Name the first layer that cannot be built on its own, for a message; "" where each of them can."""
    for layer in objects(described):
        if layer.get("module") == "keras.layers":
            try:
                keras.saving.deserialize_keras_object(copy.deepcopy(layer), safe_mode=True)
            except Exception:  # this is it, whatever it says
                return f'layer "{layer["config"].get("name")}": '
    return ""


def _called(model: keras.Model, pixel_format: PixelFormat, output_type: str, source: str) -> tuple[Predict, int, str]:
    """Return what gives the logits of a network that is called as it is."""
    run = refusing(lambda pixels: _predict(model, pixels), source=source)
    to_logits, classes, logits_from = probed(
        lambda images: run(pixel_format(images)), pixel_format.image_shape, output_type=output_type, source=source
    )
    return lambda images: to_logits(run(pixel_format(images)), len(images)), classes, logits_from


def _rebuilt(
    model: keras.Model, pixel_format: PixelFormat, policy: str, output_type: str, source: str
) -> tuple[keras.Model | None, Predict, int, str]:
    """Return the rebuilt network (None where its values, not its layers, show that it gives probabilities)."""
    shape = _one(model, "output", source) or ()  # a graph knows it
    if len(shape) != 2 or shape[1] is None or shape[1] < 2:
        raise InputError(
            f"{source} gives {list(shape[1:])} for each image, expected one logit for each of its classes"
        )
    try:
        network, logits_from = without_softmax(from_pixels(model, pixel_format), source=source)
        if policy != "float32":
            network = in_policy(network, policy)
    except (ValueError, TypeError, NotImplementedError, AttributeError) as error:
        raise InputError(f"{source} has layers that cannot be rebuilt: {reason(error)}") from error

    def predict(images: np.ndarray) -> np.ndarray:
        return _predict(network, images)

    if logits_from is not None:
        check_given(logits_from, output_type, source=source)
        return network, predict, shape[1], logits_from
    to_logits, classes, logits_from = probed(
        predict, pixel_format.image_shape, output_type=output_type, source=source
    )
    if logits_from == LOGITS:
        return network, predict, classes, logits_from
    return None, lambda images: to_logits(predict(images), len(images)), classes, logits_from


def _one(model: keras.Model, side: str, source: str) -> tuple[int | None, ...] | None:
    """Return the shape of the one input or output; None for a model that does not know it."""
    tensors = getattr(model, f"{side}s", None)
    if not tensors:
        return None
    if len(tensors) != 1:
        names = ", ".join(tensor.name for tensor in tensors)
        raise InputError(f"{source} has {len(tensors)} {side}s ({names}), expected one: save a part with one")
    return tuple(tensors[0].shape)


def _check_own_policy(model: keras.Model, policy: str, source: str) -> None:
    own = model.dtype_policy.name
    if policy != own:
        raise InputError(f"{source} is a Python class of its own and computes in {own}: give --policy {own}")


def _predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return np.asarray(model.predict_on_batch(images), np.float32)
