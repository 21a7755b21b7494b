"""Conversion into an ONNX file, by tf2onnx."""

import hashlib
import logging
import os
from contextlib import redirect_stderr

import keras
import tensorflow as tf

from distill.errors import InputError
from distill.exporting.graph import OUTPUT, input_spec
from distill.extras import install_command
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
        import onnx
        import tf2onnx
    except ImportError as error:
        raise InputError(f"an ONNX export needs {error.name}: {install_command('onnx')}") from error
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # it names as errors what is refused below
    function = tf.function(lambda pixels: {OUTPUT: network(pixels, training=False)}, autograph=False)
    signature = [input_spec(network, batch=None)]
    try:
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            model, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=_OPSET)
    except Exception as error:  # tf2onnx raises whatever its passes raise
        raise InputError(f"{network.name} cannot be converted to ONNX: {reason(error)}") from error
    # What it cannot convert it leaves as it is.
    unknown = {node.op_type for node in model.graph.node if not onnx.defs.has(node.op_type, _OPSET, node.domain)}
    if unknown:
        raise InputError(
            f"{network.name} cannot be converted to ONNX: tf2onnx does not know the operation "
            f"{', '.join(sorted(unknown))} of TensorFlow: build it without, or name other formats"
        )
    return model.SerializeToString(deterministic=True)


def described_file(model: bytes, description: ModelDescription) -> bytes:
    """Return the content of an `.onnx` file: the network, and behind it the property that describes it."""
    return model + property_bytes(with_checksum(description, hashlib.sha256(model).hexdigest()))
