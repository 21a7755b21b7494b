"""Conversion into an ONNX file, by tf2onnx."""

import hashlib
import logging
import os
from contextlib import redirect_stderr

import keras
import tensorflow as tf

from distill.errors import InputError
from distill.exporting.graph import INPUT
from distill.prediction.description import ModelDescription, with_checksum
from distill.prediction.onnx_student import property_bytes
from distill.refusals import reason

_OPSET = 17  # of 2022: what every runtime in use knows


def onnx_model(network: keras.Model) -> bytes:
    """Convert a network of `probabilities_network`; it takes any number of images.

    Raises:
        InputError: tf2onnx is not installed, or it cannot convert the network.
    """
    try:
        import tf2onnx
    except ImportError as error:
        raise InputError(f'an ONNX export needs {error.name}: pip install "distill-faces[onnx]"') from error
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    pixels = tf.TensorSpec([None, *network.input_shape[1:]], tf.float32, name=INPUT)
    function = tf.function(lambda pixels: {"probabilities": network(pixels, training=False)}, autograph=False)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            model, _ = tf2onnx.convert.from_function(function, input_signature=[pixels], opset=_OPSET)
    except Exception as error:  # tf2onnx raises whatever its passes raise
        raise InputError(f"{network.name} cannot be converted to ONNX: {reason(error)}") from error
    return model.SerializeToString(deterministic=True)


def described_file(model: bytes, description: ModelDescription) -> bytes:
    """Return the content of an `.onnx` file: the network, and behind it the property that describes it."""
    return model + property_bytes(with_checksum(description, hashlib.sha256(model).hexdigest()))
