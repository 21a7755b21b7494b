"""How the layers of a functional network of Keras 2 are called, and TensorFlow's functions between them."""

from collections.abc import Callable, Collection
from typing import Any

from distill.runtimes.keras2_table import NODES, OPERATIONS

_NODE_LAYER = "TensorFlowOpLayer"  # of TensorFlow 2.0 to 2.3
OPERATION_LAYERS = ("TFOpLambda", "SlicingOpLambda", _NODE_LAYER)
"""Layers that call a function of TensorFlow."""
_CONSTANT = "_CONSTANT_VALUE"


class Untranslatable(Exception):  # noqa: N818  (it says what it is)
    """A layer that Keras 3 cannot have: its name, and what it has."""

    def __init__(self, layer: str, problem: str):
        super().__init__(f'has a layer "{layer}" that {problem}')


class Nodes:
    """The calls in one functional network.

    Keras 2 writes a tensor as [layer, call, output], and one that goes into a call with the call's further arguments
    as a fourth. Keras 3 writes what a call was given, tensors as objects of their own.

    Args:
        config: the settings of the network.
        networks: the classes of layers that are networks themselves.
        clean: how a name is written in Keras 3.
    """

    def __init__(self, config: dict, networks: Collection[str], *, clean: Callable[[str], str]):
        self._clean = clean
        self._classes = {clean(layer["name"]): layer["class_name"] for layer in config["layers"]}
        self._networks = networks
        self.old = any(isinstance(node, list) for layer in config["layers"] for node in layer["inbound_nodes"])

    def call(self, node: Any) -> Any:
        """Translate one call of a layer."""
        if not isinstance(node, list):
            return node
        first, more = self.arguments(node)
        more = {name: value for name, value in more.items() if value is not None}
        return {"args": [first], "kwargs": more}

    def arguments(self, node: list) -> tuple[Any, dict]:
        """Return the first argument of a call and the others by name, with the tensors that Keras 3 knows."""
        more = _further(node)
        first = self._first(node)
        if isinstance(first, list) and len(first) == 1 and not _is_tensor(node):
            first = first[0]
        return first, {name: self._further(value) for name, value in more.items()}

    def ends(self, ends: Any) -> Any:
        """Translate the inputs or outputs of the network."""
        if not self.old:
            return ends
        if isinstance(ends, list) and len(ends) == 1:  # Keras 3 would give a list of the one tensor
            return self.ends(ends[0])
        if _is_tensor(ends):
            name, call, output = ends
            name = self._clean(name)
            return [name, call - (self._classes[name] == "Sequential"), output]
        if isinstance(ends, dict):
            return {name: self.ends(each) for name, each in ends.items()}
        return [self.ends(each) for each in ends]

    def _first(self, node: Any) -> Any:
        if not _is_tensor(node):
            return [self._first(each) for each in node]
        return constant(node[2]) if node[0] == _CONSTANT else self._tensor(node)

    def _further(self, value: Any) -> Any:
        if _is_tensor(value) and self._clean(value[0]) in self._classes:
            return self._tensor(value)
        return [self._further(each) for each in value] if isinstance(value, list) else value

    def _tensor(self, node: list) -> dict:
        name, call = self._clean(node[0]), node[1]
        call -= self._classes[name] in self._networks  # Keras 2 counted the making of a network as its first call
        return _object("__keras_tensor__", shape=[], dtype="float32", keras_history=[name, call, node[2]])


def operation_of(layer: dict, nodes: Nodes) -> dict:
    """Translate a layer that calls a function of TensorFlow into an operation of Keras.

    Raises:
        Untranslatable: the table has no such function, or not with these arguments.
    """
    name, function = layer["name"], _function(layer)
    if function not in OPERATIONS:
        raise Untranslatable(name, f"calls tf.{function}")
    operation, read = OPERATIONS[function], _of_node if layer["class_name"] == _NODE_LAYER else _of_call
    calls = [_call_of(name, function, *read(layer, node, nodes)) for node in layer["inbound_nodes"]]
    if any(settings != calls[0][1] for _, settings in calls):
        raise Untranslatable(name, f"calls tf.{function} in several ways")
    return {
        "module": f"keras.src.ops.{operation.room}",
        "class_name": operation.name,
        "config": {"name": name.replace("/", "_"), **(calls[0][1] if calls else {})},
        "registered_name": operation.name,
        "inbound_nodes": [{"args": inputs, "kwargs": {}} for inputs, _ in calls],
    }


def _call_of(name: str, function: str, first: Any, more: dict) -> tuple[list, dict]:
    """Return the tensors and the settings of a call of an operation of Keras."""
    operation = OPERATIONS[function]
    inputs, settings = [first], dict(operation.given)
    for key, value in more.items():
        if key in operation.inputs:
            inputs.append(_key(value) if key == "slice_spec" else constant(value))
        elif key in operation.settings and not _holds_tensors(value):
            settings[operation.settings[key]] = value
        elif key != "name" and value not in operation.harmless.get(key, (None,)):
            raise Untranslatable(name, f"calls tf.{function} with {key} {value!r:.80}")
    return inputs, settings


def _of_call(_: dict, node: list, nodes: Nodes) -> tuple[Any, dict]:
    return nodes.arguments(node)


def constant(value: Any) -> Any:
    """Return a number as it is, and numbers as an array of float32, as Keras 3 writes it."""
    if isinstance(value, list) and value and not _holds_tensors(value):
        return _object("__numpy__", value=value, dtype="float32")
    return value


def _function(layer: dict) -> str:
    config = layer["config"]
    if layer["class_name"] != _NODE_LAYER:
        return config["function"].removeprefix("compat.v1.")
    node = config["node_def"]
    if not isinstance(node, dict):
        raise Untranslatable(layer["name"], "calls TensorFlow in a way of its early releases")
    return NODES.get(node["op"], f"raw_ops.{node['op']}")


def _of_node(layer: dict, node: list, nodes: Nodes) -> tuple[Any, dict]:
    """Return what a node of TensorFlow's graph was given: tensors, and constants at their places."""
    first, _ = nodes.arguments(node)
    inputs = first if isinstance(first, list) else [first]
    for place, value in sorted((layer["config"].get("constants") or {}).items(), key=lambda each: int(each[0])):
        if isinstance(value, dict) and isinstance(value.get("config"), dict):  # an array, written as an object
            value = value["config"]["value"]
        inputs.insert(int(place), constant(value))
    names = OPERATIONS[_function(layer)].inputs
    if len(inputs) != 1 + len(names):
        raise Untranslatable(layer["name"], f"calls tf.{_function(layer)} with {len(inputs)} tensors")
    return inputs[0], dict(zip(names, inputs[1:], strict=True))


def _key(spec: list) -> list:
    """Translate what stands between the brackets of `x[...]`."""
    return [_sliced(each) for each in spec] if isinstance(spec, list) else [_sliced(spec)]


def _sliced(each: Any) -> Any:
    if isinstance(each, dict) and "start" in each:
        return _object("__slice__", start=each["start"], stop=each["stop"], step=each["step"])
    if isinstance(each, dict) and each.get("class_name") == "__ellipsis__":
        return _object("__ellipsis__")
    return each


def _further(node: Any) -> dict:
    """Return the further arguments of a call, which every tensor of its first one carries."""
    while not _is_tensor(node):
        node = node[0]
    return node[3] if len(node) == 4 else {}


def _is_tensor(node: Any) -> bool:
    return isinstance(node, list) and len(node) in (3, 4) and isinstance(node[0], str) and isinstance(node[1], int)


def _holds_tensors(value: Any) -> bool:
    return any(map(_holds_tensors, value)) if isinstance(value, list) else isinstance(value, dict)


def _object(class_name: str, **config: Any) -> dict:
    return {"class_name": class_name, "config": config}
