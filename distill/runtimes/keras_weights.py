"""Weights from a Keras file into the network that was built of its description."""

import io
import math
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from distill.files.hdf5_objects import plain_datasets
from distill.files.hdf5_probe import check_ends
from distill.runtimes.keras_config import Description
from distill.runtimes.weights import finalize_states, leaves

_SMALL, _TIMES = 1 << 26, 16  # bytes beside the weights; the state of an optimizer is some times the weights
_OLD_GROUP, _LAYERS, _WEIGHTS = "model_weights", "layer_names", "weight_names"
_ZIPPED = "model.weights.h5"
_OLD_ROOM = "_layer_checkpoint_dependencies"  # of Keras 2.12 and 2.13, which counts a layer with weights twice


def load_weights(model: keras.Model, path: Path, description: Description) -> None:
    """Give a network the weights in a `.keras`, `.h5` or `.hdf5` file.

    Keras 1 and 2, and Keras 3 in `.h5`, name every weight: names decide where all of them differ, else the
    order does, as in Keras itself. In `.keras` and `.weights.h5` files the layers are numbered by their kind.

    Args:
        description: of the network, from this file or another one.

    Raises:
        ValueError: the file holds other weights than the network has.
    """
    check_weights(model, path)
    if path.suffix != ".keras":
        with h5py.File(path, "r") as file:
            if _OLD_GROUP in file or _texts(file, _LAYERS):
                return _load_named(model, file.get(_OLD_GROUP, file))
            if description.old:
                return _load_numbered(model, file, description)
    elif description.old:
        with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read(_ZIPPED)), "r") as file:
            return _load_numbered(model, file, description)
    return model.load_weights(path)


def check_weights(model: keras.Model, path: Path) -> None:
    """Check that a `.keras`, `.h5` or `.hdf5` file holds arrays in itself, and not many times what the network needs.

    Raises:
        ValueError: it holds anything else.
    """
    most = _SMALL + _TIMES * sum(math.prod(each.shape) * 4 for each in model.variables)
    with _opened(path, most) as file:
        unpacked = sum(dataset.nbytes for dataset in plain_datasets(file, packed=True))
    if unpacked > most:
        raise ValueError(f"it unpacks to {unpacked:,} bytes, far more than its network needs")


@contextmanager
def _opened(path: Path, most: int) -> Iterator[h5py.File]:
    if path.suffix != ".keras":
        check_ends(path)
        with h5py.File(path, "r") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo(_ZIPPED).file_size
        if size > most:
            raise ValueError(f"it unpacks to {size:,} bytes, far more than its network needs")
        with h5py.File(io.BytesIO(archive.read(_ZIPPED)), "r") as file:
            yield file


def _load_numbered(model: keras.Model, file: h5py.File, description: Description) -> None:
    """Load weights as Keras 2.12 to 2.15 wrote them; Keras 3 finds no nested networks in such files."""
    arrays: dict[str, h5py.Dataset] = {}
    file.visititems(
        lambda name, each: arrays.update({name.replace("\\", "/"): each} if isinstance(each, h5py.Dataset) else {})
    )
    loaded = _load_network(model, description.stated, arrays, "")
    if loaded != len(model.weights):
        raise ValueError(f"it holds {loaded} of the {len(model.weights)} weights of its network")


Arrays = Mapping[str, h5py.Dataset]


def _load_network(model: keras.Model, described: Mapping[str, Any], arrays: Arrays, at: str) -> int:
    """Load the layers of a network whose arrays are named `at`..., and return how many arrays that were."""
    config, loaded = described["config"], 0
    seen: Counter[str] = Counter()
    room = _OLD_ROOM if any(name.startswith(f"{at}{_OLD_ROOM}/") for name in arrays) else "layers"
    layers = {layer.name: layer for layer in model.layers}
    for each in config["layers"] if isinstance(config, dict) else config:
        kind, layer = _snake_case(each["class_name"]), layers.get(_plain(_name(each)))
        inner = f"{at}{room}/{kind}_{seen[kind]}/" if seen[kind] else f"{at}{room}/{kind}/"
        seen[kind] += 2 if room == _OLD_ROOM and layer is not None and layer.weights else 1
        if isinstance(layer, keras.Model):
            loaded += _load_network(layer, each, arrays, inner)
        elif layer is not None:
            loaded += _load_layer(layer, _below(arrays, inner))
    return loaded


def _name(described: Mapping[str, Any]) -> str:
    config = described["config"]
    return (config.get("name") if isinstance(config, dict) else None) or described.get("name", "")


def _load_layer(layer: Any, arrays: Arrays) -> int:
    """Load the arrays of a layer, and of the layers that its attributes are, and return how many they were."""
    own = {name: np.asarray(each) for name, each in _below(arrays, "vars/").items()}
    if own:
        layer.load_own_variables(own)
    loaded = len(own)
    for name in sorted({name.partition("/")[0] for name in arrays} - {"vars"}):
        child = getattr(layer, name, None)
        if isinstance(child, keras.Layer):
            loaded += _load_layer(child, _below(arrays, f"{name}/"))
    return loaded


def _below(arrays: Arrays, at: str) -> Arrays:
    return {name[len(at) :]: each for name, each in arrays.items() if name.startswith(at)}


def _snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _load_named(model: keras.Model, weights: h5py.Group) -> None:
    names = [name for name in _texts(weights, _LAYERS) if _texts(weights[name], _WEIGHTS)]
    layers = [layer for layer in model.layers if layer.weights]
    if len(names) != len(layers):
        raise ValueError(f"it holds the weights of {len(names)} layers, its network has {len(layers)} with weights")
    by_name = {layer.name: layer for layer in layers}
    if {_plain(name) for name in names} == set(by_name):
        layers = [by_name[_plain(name)] for name in names]
    for name, layer in zip(names, layers, strict=True):
        group = weights[name]
        arrays = {each: np.asarray(group[each]) for each in _texts(group, _WEIGHTS)}
        _set_weights(layer, arrays)
    finalize_states(model)


def _set_weights(layer: keras.Layer, arrays: Mapping[str, np.ndarray]) -> None:
    variables = [*layer.trainable_weights, *layer.non_trainable_weights]  # the order of these files
    if len(arrays) != len(variables):
        raise ValueError(f'layer "{layer.name}" has {len(variables)} weights, the file holds {len(arrays)} for it')
    variables = _by_name(layer, list(arrays)) or variables
    for (name, array), variable in zip(arrays.items(), variables, strict=True):
        if tuple(variable.shape) != array.shape:
            raise ValueError(
                f'layer "{layer.name}" has a weight {variable.name} {list(variable.shape)}, the file holds {name} '
                f"{list(array.shape)} for it"
            )
        variable.assign(array)


def _by_name(layer: keras.Layer, names: Sequence[str]) -> list[keras.Variable] | None:
    """Return the variables in the order of their names in a file, None where they do not all differ."""
    known = [(f"{leaf.name}_{each.name}", each) for leaf in leaves(layer) for each in leaf.weights]
    variables = dict(sorted(known, key=lambda each: -len(each[0])))
    if len(variables) != len(known):
        return None
    found = []
    for name in names:
        plain = f"_{_plain(name.partition(':')[0])}"
        ending = next((ending for ending in variables if plain.endswith(f"_{ending}")), None)
        if ending is None:
            return None
        found.append(variables.pop(ending))
    return found


def _texts(group: h5py.Group, name: str) -> list[str]:
    """Return the texts of an attribute, which lies in several where it is long."""
    parts = [name] if name in group.attrs else []
    while f"{name}{len(parts)}" in group.attrs and name not in group.attrs:
        parts.append(f"{name}{len(parts)}")
    texts = [text for part in parts for text in group.attrs[part]]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]


def _plain(name: str) -> str:
    return name.replace("/", "_")
