"""Weights of networks: given to another one, and fingerprints of them or of the files that they were read from."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras
    import numpy as np

_CHUNK = 1 << 20


def set_weights(target: "keras.Layer", weights: "Sequence[np.ndarray]") -> None:
    """Give a layer or a network these weights, and let all of its layers compute with them."""
    target.set_weights(weights)
    finalize_states(target)


def finalize_states(target: "keras.Layer") -> None:
    """Let normalisations compute with the weights that they were given: Keras has them compute with a copy."""
    for layer in leaves(target):
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def leaves(layer: "keras.Layer") -> "Iterator[keras.Layer]":
    """Yield the layers of a network and of those nested in it."""
    import keras

    if isinstance(layer, keras.Model):
        for each in layer.layers:
            yield from leaves(each)
    else:
        yield layer


def weights_sha256(model: "keras.Model") -> str:
    """Return the sha256 over shape, dtype and bytes of every weight, in the model's order."""
    import keras

    digest = hashlib.sha256()
    for weight in model.weights:
        array = keras.ops.convert_to_numpy(weight)
        digest.update(f"{array.shape} {array.dtype}\n".encode() + array.tobytes())
    return digest.hexdigest()


def described_sha256(model: "keras.Model", description: Mapping) -> str:
    """Return the sha256 over the weights of a network and what else its file says of it.

    Layers without weights count as much as those with: a `Rescaling` of other factors is another teacher.

    Args:
        description: JSON-able, as the file has it and not as this release of Keras would write it.
    """
    text = json.dumps(description, sort_keys=True)
    return hashlib.sha256(f"{weights_sha256(model)}\n{text}".encode()).hexdigest()


def files_sha256(files: Mapping[str, Path]) -> str:
    """Return the sha256 of one file, or over the names, sizes and bytes of several.

    Args:
        files: name -> path. Only the names count, so that a folder may be moved.
    """
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        if len(files) > 1:
            digest.update(f"{name} {path.stat().st_size}\n".encode())
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
