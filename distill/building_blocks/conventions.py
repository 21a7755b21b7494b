"""What every network builder shares: the conventions of `keras.applications` around a stack of layers.

A builder calls `image_input`, lays its layers, ends in `classifier` or `pooled`, and returns `finished`.
"""

import os
import re
import warnings
import zipfile

import keras
from keras import layers


def image_input(input_tensor, input_shape, *, default, smallest, name, any_size=True):
    """The tensor that the first layer of network `name` reads, float pixels `[B, H, W, C]`.

    Args:
        input_tensor: a Keras tensor to build on, or None for a new input.
        input_shape: `(H, W, C)`, or None for `default`; an `input_tensor` has its own.
        default: the published input shape.
        smallest: the least height and width from which every layer still has an output.
        any_size: whether H and W may be None; a network that flattens must know them.

    Raises:
        ValueError: the shape is not an image shape, or too small for this network.
    """
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(f"{name} reads channels-last images. Received: image_data_format='channels_first'")
    if input_tensor is not None:
        shape = tuple(input_tensor.shape[1:])
    elif input_shape is None:
        shape = default
    else:
        shape = tuple(input_shape) if len(input_shape) != 2 else (*input_shape, default[-1])
    _check_shape(shape, smallest, name, any_size)
    return layers.Input(shape=shape, name="pixels") if input_tensor is None else input_tensor


def _check_shape(shape, smallest, name, any_size):
    if len(shape) != 3 or shape[2] is None:
        raise ValueError(f"{name} expects input_shape=(height, width, channels). Received: input_shape={shape}")
    if None in shape and not any_size:
        raise ValueError(f"{name} needs a fixed height and width to flatten. Received: input_shape={shape}")
    if any(side is not None and side < smallest for side in shape[:2]):
        raise ValueError(f"{name} needs images of at least {smallest}x{smallest}. Received: input_shape={shape}")


def checked_keep_prob(keep_prob):
    """`keep_prob`, the share that dropout keeps in training, if it lies above 0 and up to 1; else a ValueError."""
    if not 0 < keep_prob <= 1:
        raise ValueError(f"keep_prob must be above 0 and at most 1. Received: keep_prob={keep_prob}")
    return keep_prob


def checked_pixel_scale(pixel_scale):
    """`pixel_scale`, what pixels are multiplied by, if it lies above 0; else a ValueError."""
    if not pixel_scale > 0:
        raise ValueError(f"pixel_scale must be above 0. Received: pixel_scale={pixel_scale}")
    return pixel_scale


def classifier(features, classes, activation, **options):
    """The last dense layer, in float32 under every policy: half-precision logits are too coarse to distil."""
    return layers.Dense(classes, activation=activation, dtype="float32", name="logits", **options)(features)


def pooled(feature_map, pooling):
    """What `include_top=False` returns: `[B, H, W, C]` for `pooling=None`, `[B, C]` for "avg" and "max"."""
    if pooling is None:
        return feature_map
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(name="avg_pool")(feature_map)
    if pooling == "max":
        return layers.GlobalMaxPooling2D(name="max_pool")(feature_map)
    raise ValueError(f"pooling must be None, 'avg' or 'max'. Received: pooling={pooling!r}")


def finished(inputs, outputs, *, weights, name):
    """The model that ends at `outputs`, holding the weights of the file `weights`, if any."""
    sources = keras.utils.get_source_inputs(inputs)
    model = keras.Model(sources[0] if len(sources) == 1 else sources, outputs, name=name)
    if weights is not None:
        _load_weights(model, os.fspath(weights))
    return model


def _load_weights(model, path):
    if not os.path.isfile(path):
        raise ValueError(f"No file with weights of {model.name} is here. Received: weights={path!r}")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.load_weights(path)
        # Keras 3.15 only warns where a file leaves layers at their random start.
        if skipped := [str(each.message) for each in caught if "Skipping nested container" in str(each.message)]:
            raise ValueError(skipped[0])
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"This file does not fit {model.name}: it is damaged, or of another network, input shape or "
            f"number of classes{_first_difference(error)}. Received: weights={path!r}"
        ) from error


def _first_difference(error):
    """The first layer that did not load, and its shapes, as Keras says them; "" where it names none."""
    layer = re.search(r"<\w+ name=([^,>]+)", str(error))
    shapes = re.search(r"variable.shape=(\([^)]*\)), Received: value.shape=(\([^)]*\))", str(error))
    found = f" (expected {shapes[1]}, the file has {shapes[2]})" if shapes else ""
    return f"; the first layer that differs is {layer[1]}{found}" if layer else ""
