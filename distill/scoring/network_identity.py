"""What distinguishes one network from another, and whether it fits the data."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from distill.data.dataset import Dataset
from distill.errors import InputError
from distill.runtimes.keras_graph import last_activation
from distill.runtimes.weights import weights_sha256 as weights_sha256  # offered here with the rest

# Shares of the largest logit: rounding on another processor, or in other batches, stays well below.
_ROUNDING = {"float32": 1e-3}
_COARSE_ROUNDING = 0.05
_SMALLEST = 1e-2  # logits below it count as this large: they may be what large terms leave of each other


def check_classes(network: keras.Model, dataset: Dataset) -> None:
    """Check that `network` has one output per class of `dataset`.

    Raises:
        InputError: it has another number of classes.
    """
    classes = network.output_shape[-1]
    if classes != dataset.num_classes:
        names = ", ".join(dataset.class_names)
        raise InputError(
            f"{network.name} gives {classes} classes, {dataset.name} has {dataset.num_classes} ({names}): "
            f"build it with classes={dataset.num_classes}"
        )


def check_gives_logits(network: keras.Model, dataset: Dataset) -> None:
    """Check that `network` takes images, and gives one raw logit per class of `dataset`.

    Raises:
        InputError: it has another number of classes, or whatever `check_raw_logits` finds.
    """
    check_raw_logits(network)
    check_classes(network, dataset)


def check_raw_logits(network: keras.Model) -> None:
    """Check that `network` takes images and gives raw logits.

    Raises:
        InputError: it is not a graph of layers from one input to one output; takes neither grey nor RGB pixels; gives
            something else than a row of numbers for each image; or ends in an activation such as softmax, whose
            probabilities a temperature would flatten out.
    """
    if not getattr(network, "inputs", None):
        raise InputError(
            f"{network.name} is a Python class of its own, or has not seen an image: build it of Keras layers, as "
            "keras.Model(inputs, outputs)"
        )
    if len(network.inputs) != 1 or len(network.outputs) != 1 or len(network.outputs[0].shape) != 2:
        taken, given = (
            " and ".join(str(list(each.shape[1:])) for each in tensors)
            for tensors in (network.inputs, network.outputs)
        )
        raise InputError(
            f"{network.name} takes {taken} and gives {given}, expected one image and a row of logits: build it so"
        )
    if len(network.input_shape) != 4 or network.input_shape[-1] not in (1, 3):
        raise InputError(
            f"{network.name} takes {list(network.input_shape[1:])}, expected images [height, width, 1 or 3]: "
            "build it for grey or RGB pixels"
        )
    if (activation := last_activation(network)) is not None:
        raise InputError(
            f"{network.name} ends in {activation}: omit it, raw logits are needed (classifier_activation=None)"
        )


def numeric_policy(model: keras.Model) -> str:
    """Return the precision that the layers with weights compute in; a float32 head counts for nothing."""
    layers = [layer for layer in model.layers if layer.weights]
    policies = {layer.dtype_policy.name for layer in layers}
    return "+".join(sorted(policies - {"float32"})) or "float32"


def explained_by_rounding(logits: np.ndarray, policy: str) -> float:
    """Return the largest difference from `logits` that rounding explains in a network of this numeric policy."""
    return _ROUNDING.get(policy, _COARSE_ROUNDING) * max(float(np.abs(logits).max()), _SMALLEST)


def architecture_sha256(model: keras.Model) -> str:
    """Return the sha256 over the kinds and settings of the layers, whatever they are called."""
    layers = [
        (type(layer).__name__, {key: value for key, value in layer.get_config().items() if key != "name"})
        for layer in model.layers
    ]
    text = json.dumps(layers, sort_keys=True, default=lambda value: type(value).__name__)
    return hashlib.sha256(text.encode()).hexdigest()


def wiring_sha256(model: keras.Model) -> str | None:
    """Return the sha256 over which operations of a graph read what of which; None of what is not a graph.

    Settings of layers are those of `architecture_sha256`; those of operations of `keras.ops` are here.
    """
    try:
        text = json.dumps(_wiring(model.get_config()), sort_keys=True, default=lambda value: type(value).__name__)
    except (NotImplementedError, TypeError, ValueError, LookupError):  # a class of somebody's own
        return None
    return hashlib.sha256(text.encode()).hexdigest()


def _wiring(config: Mapping[str, Any]) -> list[Any]:
    places = {layer["config"]["name"]: place for place, layer in enumerate(config["layers"])}
    described = [
        (
            layer["class_name"],
            _wiring(layer["config"]) if "layers" in layer["config"] else _settings_of_operation(layer),
            _placed(layer.get("inbound_nodes", []), places),
        )
        for layer in config["layers"]
    ]
    return [*described, _placed(config.get("output_layers"), places)]


def _settings_of_operation(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an operation of `keras.ops`, such as an axis; none of a layer."""
    if "ops" not in (layer.get("module") or "").split("."):
        return {}
    return {name: value for name, value in layer["config"].items() if name != "name"}


def _placed(value: Any, places: Mapping[str, int]) -> Any:
    """Return what refers to layers by name with their places: names differ from one building to the next."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":  # its shape and type follow from what made it
            return _placed(value["config"]["keras_history"], places)
        return {key: _placed(each, places) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        if len(value) == 3 and isinstance(value[0], str) and value[0] in places and isinstance(value[1], int):
            return [places[value[0]], *value[1:]]
        return [_placed(each, places) for each in value]
    return value
