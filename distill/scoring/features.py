"""Features: what a layer of a teacher gives for an image, averaged to a vector or to a map of a given size."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import keras
import numpy as np

from distill.averages import average_map
from distill.errors import InputError
from distill.logit_store import Feature
from distill.printable import printable
from distill.refusals import alternatives
from distill.runtimes.image_model import ImageModel, InnerOutputs


@dataclass(frozen=True)
class LayerFeature:
    """A layer of a teacher, and what its output is averaged to."""

    layer: str
    """Of a Keras network; of another file the name of a tensor, as what gives it is called."""
    side: int | None = None
    """Of a map, side x side; None: a vector, the mean over all positions."""

    @classmethod
    def parse(cls, text: str) -> "LayerFeature":
        """Return what "conv5", a vector, or "conv5@7", a map of 7 x 7, means.

        Raises:
            InputError: a side of 0.
        """
        layer, _, side = text.rpartition("@")
        if not layer or not (side.isascii() and side.isdecimal()):
            return cls(text)
        if not int(side):
            raise InputError(f"a feature is a layer, or LAYER@SIDE with a side of 1 or more, received {text}")
        return cls(layer, int(side))

    @property
    def name(self) -> str:
        """What it is called, in a store and among the outputs of a teacher: what `parse` reads."""
        return self.layer if self.side is None else f"{self.layer}@{self.side}"

    def shape(self, of_layer: tuple[int, ...], *, teacher: str) -> tuple[int, ...]:
        """Return the shape of the feature, of a layer with outputs [..., channels].

        Raises:
            InputError: a map of what has no positions in two directions, or fewer of them.
        """
        if self.side is None:
            return of_layer[-1:]
        if len(of_layer) != 3 or self.side > min(of_layer[:2]):
            raise InputError(
                f"{self.layer} of {teacher} gives {list(of_layer)}, of which no map of {self.side} x {self.side} can "
                f"be made: choose a smaller one, or the vector, {self.layer}"
            )
        return (self.side, self.side, of_layer[-1])

    def averaged(self, values: Any, ops: ModuleType | Any = np) -> Any:
        """Return the feature, float32 [B, *shape], of what the layer gave, float [B, ..., channels].

        Args:
            ops: NumPy, or keras.ops.
        """
        if self.side is None:
            return ops.mean(values, axis=tuple(range(1, len(values.shape) - 1))) if len(values.shape) > 2 else values
        return average_map(values, (self.side, self.side), ops)


def layer_shapes(teacher: ImageModel) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of what each layer gives for an image, [..., channels], by its name.

    Raises:
        InputError: one cannot look into this kind of teacher.
    """
    if teacher.network is not None:
        return _shapes_of(teacher.network)
    return _inner(teacher).shapes()


def described(
    requests: Iterable[LayerFeature], teacher: ImageModel, *, dtype: str, listed_by: str = ""
) -> tuple[Feature, ...]:
    """Return what a store says of the features that `requests` make of a teacher's layers.

    Args:
        listed_by: the flags that show all layers, for messages, where there are such.

    Raises:
        InputError: it has no such layer (near names are offered), or none of which such a map can be made; or its
            logits are a mean over copies of a view.
    """
    requests = tuple(requests)
    if requests and teacher.averages:
        average = " and ".join(name.replace("_", " ") for name in teacher.averages)
        raise InputError(f"features are those of one image, not a mean over copies of it: omit them or the {average}")
    shapes = layer_shapes(teacher) if requests else {}
    for each in requests:
        if each.layer not in shapes:
            hint = alternatives(each.layer, shapes) if len(shapes) <= 30 else _near(each.layer, shapes)
            shown = f" ({listed_by} shows all)" if listed_by else ""
            raise InputError(f'{teacher.name} has no layer "{each.layer}": {hint}{shown}')
    return tuple(Feature(each.name, each.shape(shapes[each.layer], teacher=teacher.name), dtype) for each in requests)


def features_text(teacher: ImageModel, *, dtype: str, views: int) -> str:
    """Return a table of what can be cached of a teacher, for people."""
    from distill.reports.metrics import aligned_text

    rows = []
    for layer, shape in layer_shapes(teacher).items():
        vector = Feature(layer, shape[-1:], dtype).bytes_per_view * views
        whole = Feature(layer, shape, dtype).bytes_per_view * views if len(shape) == 3 else None
        as_map = f"{printable(layer)}@{shape[0]}" if whole and shape[0] == shape[1] else ""
        rows.append(
            [printable(layer), "x".join(map(str, shape)), f"{vector:,}", f"{whole:,}" if whole else "-", as_map]
        )
    count = f"{views} view{'s' * (views > 1)} in {dtype}"
    title = (
        f"{teacher.name}: bytes per image of {count}, as a vector (LAYER) and as a map of its own size (LAYER@SIDE)"
    )
    return f"{title}\n\n" + aligned_text([["layer", "shape", "vector", "map", "named"], *rows], left=2)


def with_layers(network: keras.Model, layers: Sequence[str]) -> keras.Model:
    """Return a network that gives a list: its own output, and those of some of its layers."""
    inputs = network.inputs[0] if len(network.inputs) == 1 else network.inputs
    return keras.Model(inputs, [network.outputs[0], *(network.get_layer(name).output for name in layers)])


def predict_with_layers(teacher: ImageModel, layers: Sequence[str]):
    """Return a function from pixels to raw logits and a list of what the layers give, in one pass.

    Raises:
        InputError: one cannot look into this kind of teacher.
    """
    if not layers:
        return lambda pixels: (teacher.predict(pixels), [])
    return _inner(teacher).predict(layers)


def _inner(teacher: ImageModel) -> InnerOutputs:
    if teacher.inner is None:
        raise InputError(
            f"one cannot look into {teacher.name}: features are those of networks of this project, of .keras "
            "and .h5 files that are a graph of layers, of .onnx and .tflite files, and of SavedModels"
        )
    return teacher.inner


def _near(name: str, known: Iterable[str]) -> str:
    found = alternatives(name, known)
    return found if found.startswith("did") else "none is named alike"


def _shapes_of(network: keras.Model) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for layer in network.layers:
        try:
            output = layer.output
        except (AttributeError, ValueError):  # it is used several times, or never
            continue
        plain = isinstance(output, keras.KerasTensor) and not isinstance(layer, keras.layers.InputLayer)
        if plain and "float" in output.dtype and len(output.shape) > 1 and None not in output.shape[1:]:
            shapes[layer.name] = tuple(output.shape[1:])
    return shapes
