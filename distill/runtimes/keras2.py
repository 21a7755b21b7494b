"""Translate the description of a network of Keras 1 or 2 into one that Keras 3 reads, before it reads it."""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import keras

from distill.runtimes.keras2_nodes import OPERATION_LAYERS, Nodes, Untranslatable, operation_of
from distill.runtimes.keras2_table import (
    ACTIVATIONS,
    CLASSES,
    DEFAULTS,
    SETTINGS,
    TRAINING_ALONE,
    TRAINING_ALONE_OF_KERAS_1,
)

ROOTS = ("keras", "tf_keras", "tensorflow", "tensorflow_core", "keras_applications")
_OLD_ROOMS = tuple(f"{root}." for root in ROOTS)
NO_ACTIVATIONS = ("get", "serialize", "deserialize")
"""What else `keras.activations` holds."""
_MODELS = ("Model", "Functional", "Sequential")
_FUNCTIONAL = {
    "module": "keras.src.models.functional",
    "class_name": "Functional",
    "registered_name": "Functional",
}
_SEQUENTIAL = {"module": "keras", "class_name": "Sequential", "registered_name": None}


def translate(described: dict, *, old: bool) -> dict:
    """Return the description of a network as Keras 3 reads it.

    What Keras 3 reads already stays as it is, and so does what is none of Keras: whoever builds the network must
    check that nonetheless.

    Args:
        described: what `to_json` or a file of any release of Keras says of a network, unchanged afterwards.
        old: whether Keras 1 or 2 wrote it. Some names mean something else since, and how weights were drawn and
            regularised is left out.

    Raises:
        Untranslatable: it has a layer or a setting of Keras 2 that Keras 3 has not, and the table neither.
        KeyError, TypeError, ValueError, IndexError, AttributeError: it is no such description.
    """
    return _Translation(old).described(described)


class _Translation:
    def __init__(self, old: bool):
        self.old = old
        self._rooms = _OLD_ROOMS if old else "keras.layers"

    def described(self, described: dict) -> dict:
        """Translate what describes a network or a layer."""
        name, module = described.get("class_name"), described.get("module")
        if not isinstance(name, str) or (module and module.partition(".")[0] not in ROOTS):
            return described
        if _is_registered(described.get("registered_name") or name):
            return {"module": None, "registered_name": name, **described, "class_name": name.rpartition(">")[2]}
        if name in _MODELS:
            return self._model(described)
        return self._layer(described) if module is None or module.startswith(self._rooms) else described

    def _model(self, described: dict) -> dict:
        changed = {key: value for key, value in described.items() if not (self.old and key == "build_config")}
        if described["class_name"] == "Sequential":
            return {**changed, **_SEQUENTIAL, "config": self._sequential(described)}
        return {**changed, **_FUNCTIONAL, "config": self._functional(described["config"])}

    def _sequential(self, described: dict) -> dict:
        """Translate the settings of a `Sequential`, which up to Keras 2.2.2 were the list of its layers."""
        config = described["config"]
        config = config if isinstance(config, dict) else {"layers": config}
        layers = list(config["layers"])
        shape = _input_shape(layers[0]) if layers else None
        if shape is not None and layers[0]["class_name"] != "InputLayer":
            settings = {"batch_shape": shape, "name": f"{_name(layers[0])}_input"}
            layers.insert(0, {"class_name": "InputLayer", "config": settings})
        build_shape = config.get("build_input_shape") or (described.get("build_config") or {}).get("input_shape")
        return {
            **config,
            "name": _clean(config.get("name", "sequential")),
            "layers": [self.described(layer) for layer in layers],
            "build_input_shape": None if self.old and shape is not None else build_shape,
        }

    def _functional(self, config: dict) -> dict:
        nodes = Nodes(config, _MODELS, clean=_clean)
        layers = [{**self._of_graph(each, nodes), "name": _clean(each["name"])} for each in config["layers"]]
        known = ("name", "trainable") if nodes.old else tuple(config)
        return {
            **{key: config[key] for key in known if key in config},
            "name": _clean(config.get("name", "functional")),
            "layers": layers,
            "input_layers": nodes.ends(config["input_layers"]),
            "output_layers": nodes.ends(config["output_layers"]),
        }

    def _of_graph(self, layer: dict, nodes: Nodes) -> dict:
        """Translate a layer of a functional network, with the calls that were made of it."""
        if layer["class_name"] in OPERATION_LAYERS:
            return operation_of(layer, nodes)
        translated = self.described(layer)
        return {**translated, "inbound_nodes": [nodes.call(node) for node in layer["inbound_nodes"]]}

    def _layer(self, described: dict) -> dict:
        name = described["class_name"]
        name = CLASSES.get(name, name)
        layer_class = getattr(keras.layers, name, None)
        if not inspect.isclass(layer_class) or not isinstance(described.get("config"), dict):
            return described
        config = self._settings(layer_class, described)
        changed = {key: value for key, value in described.items() if not (self.old and key == "build_config")}
        if self.old or described.get("module") is None:
            changed |= {"module": "keras.layers", "registered_name": None}
        return {**changed, "class_name": name, "config": config}

    def _settings(self, layer_class: type, described: dict) -> dict:
        config = dict(described["config"])
        if "nb_row" in config:  # Keras 1
            config["kernel_size"] = [config.pop("nb_row"), config.pop("nb_col")]
        if layer_class is keras.layers.Identity:
            config = {key: config[key] for key in ("name", "dtype") if key in config}
        if self.old:
            config = {key: value for key, value in config.items() if not _for_training(key)}
            config = {**DEFAULTS.get(layer_class.__name__, {}), **config}
        changed = {}
        for key, value in config.items():
            name = _new_name(layer_class, key, value, described)
            if name is not None:
                changed[name] = self._value(key, value, described)
        return changed

    def _value(self, key: str, value: Any, described: dict) -> Any:
        """Translate the value of a setting."""
        if key == "name":
            return _clean(value)
        if key == "axis" and isinstance(value, list) and len(value) == 1:
            return value[0]
        if key == "dtype" and isinstance(value, dict) and value.get("class_name") in ("Policy", "PolicyV1"):
            return value["config"]["name"]
        if key == "dim_ordering":
            if value != "tf":
                raise Untranslatable(_name(described), f"has the channels in Theano's order, dim_ordering {value!r}")
            return "channels_last"
        if key.endswith("activation"):
            value = _activation(value)
            return ACTIVATIONS.get(value, value) if self.old and isinstance(value, str) else value
        if isinstance(value, list):
            return [self._value(key, each, described) for each in value]
        within = isinstance(value, dict) and isinstance(value.get("config"), dict | list)
        return self.described(value) if within else value  # a layer in a layer, such as that of a TimeDistributed


def _new_name(layer_class: type, key: str, value: Any, described: dict) -> str | None:
    """Return the name of a setting in Keras 3, None where it is left out."""
    taken = _taken(layer_class)
    if key in taken or key not in SETTINGS:
        return key
    setting = SETTINGS[key]
    if setting.becomes in taken:
        return setting.becomes
    if not setting.can_be_left_out(value):
        problem = f"has {key} {value!r:.80}, which {layer_class.__name__} of Keras 3 has not"
        raise Untranslatable(_name(described), problem)
    return None


@cache
def _taken(layer_class: type) -> frozenset[str]:
    """Return the names of the settings that a class takes, also those that it hands on to the class below."""
    names: set[str] = set()
    for each in layer_class.__mro__:
        parameters = inspect.signature(each.__init__).parameters  # type: ignore[misc]  # of a class, not of an instance
        names |= set(parameters)
        if all(parameter.kind != parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return frozenset(names)


def _for_training(key: str) -> bool:
    return key.endswith(TRAINING_ALONE) or key in TRAINING_ALONE_OF_KERAS_1


def _activation(value: Any) -> Any:
    """Return the plain name of an activation that Keras knows, however it is written."""
    if not isinstance(value, dict) or value.get("class_name") != "function":
        return value
    name, module = value.get("config"), value.get("module")
    of_keras = module == "builtins" or (module or "").partition(".")[0] in ROOTS
    known = isinstance(name, str) and hasattr(keras.activations, name)
    return name if of_keras and known and name not in NO_ACTIVATIONS else value


def _input_shape(layer: dict) -> list | None:
    """Return the shape of what a layer, or the first one of a nested network, takes; None where it does not say."""
    config: Any = layer.get("config")
    if layer.get("class_name") == "Sequential":
        layers = config["layers"] if isinstance(config, dict) else config
        return _input_shape(layers[0]) if layers else None
    if layer.get("class_name") in _MODELS:
        layers = {each["name"]: each for each in config["layers"]}
        first = next(iter(_leaves(config["input_layers"])))
        return _input_shape(layers[first])
    return config.get("batch_shape") or config.get("batch_input_shape")


def _leaves(ends: Any):
    """Yield the names in a structure of [name, node, tensor]."""
    if isinstance(ends, list) and len(ends) == 3 and isinstance(ends[0], str):
        yield ends[0]
    else:
        for each in ends.values() if isinstance(ends, Mapping) else ends:
            yield from _leaves(each)


def _name(described: dict) -> str:
    config = described.get("config")
    return str(described.get("name") or (isinstance(config, dict) and config.get("name")) or described["class_name"])


def _clean(name: str) -> str:
    """Return a name without the slashes that Keras 3 does not allow."""
    return name.replace("/", "_")


def _is_registered(name: str) -> bool:
    return keras.saving.get_registered_object(name) is not None
