"""Names of networks and layers that TensorFlow can take, which are also names of files."""

import re

import keras

_SAFE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.>-]*")  # as TensorFlow checks names of scopes
_LONGEST = 100


def give_safe_names(network: keras.Model) -> None:
    """Rename, in place, a network and those of its layers whose names TensorFlow cannot take; weights stay.

    Keras takes any name without a slash, and TensorFlow then refuses to run the network: "a b", "-rf", an emoji.
    """
    network.name = safe_name(network.name)
    taken = {layer.name for layer in network.layers}
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            give_safe_names(layer)
        name, number = safe_name(layer.name), 1
        while name != layer.name and name in taken:
            number += 1
            name = f"{safe_name(layer.name)}_{number}"
        taken.add(name)
        layer.name = name


def has_safe_names(network: keras.Model) -> bool:
    """Whether TensorFlow can take the names of a network and of all its layers."""
    names = [network.name, *(layer.name for layer in network.layers)]
    within = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    return all(safe_name(name) == name for name in names) and all(map(has_safe_names, within))


def safe_name(name: str) -> str:
    """Return `name`, where TensorFlow can take it; else what is left of it."""
    if _SAFE.fullmatch(name) and len(name) <= _LONGEST:
        return name
    return re.sub(r"[^A-Za-z0-9_.>-]+", "_", name).lstrip("_->")[:_LONGEST] or "network"
