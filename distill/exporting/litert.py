"""Conversion into LiteRT's flatbuffers, in three precisions."""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

from distill.errors import InputError
from distill.exporting.graph import save_graph
from distill.quiet import quiet_stderr
from distill.refusals import reason

FLOAT32, FLOAT16, INT8 = PRECISIONS = ("float32", "float16", "int8")


def litert_flatbuffer(network: keras.Model, precision: str, *, calibration: np.ndarray | None = None) -> bytes:
    """Convert a network of `probabilities_network`.

    Pixels in and probabilities out are float32 in every precision. "float16" keeps weights in half the bytes and
    computes in float32 where the processor has no better. "int8" has 8-bit weights (per channel) and activations
    up to the logits; their softmax stays float32, because in 8 bits no probability below 1/256 would be left.

    Args:
        precision: one of `PRECISIONS`.
        calibration: for "int8", pixels float32 [N, h, w, c] of real images: their activations set the ranges.

    Raises:
        InputError: the network cannot be converted.
        ValueError: "int8" without calibration images.
    """
    if (precision == INT8) != (calibration is not None):
        raise ValueError(f"{INT8} needs calibration images, the others none. Received: {precision}")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        try:
            save_graph(network, folder, batch=1)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            return _converted(converter, precision, calibration)
        except Exception as error:  # the converter raises whatever its passes raise
            raise InputError(f"{network.name} cannot be converted to LiteRT {precision}: {reason(error)}") from error


def _converted(converter: tf.lite.TFLiteConverter, precision: str, calibration: np.ndarray | None) -> bytes:
    if precision != FLOAT32:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == FLOAT16:
        converter.target_spec.supported_types = [tf.float16]
    if calibration is None:
        return converter.convert()

    def images() -> Iterator[list[np.ndarray]]:
        for image in calibration:
            yield [image[None]]

    converter.representative_dataset = images
    # The one way in TensorFlow to leave an operation in float32.
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=["SOFTMAX"])
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=images, debug_options=options
    )
    return debugger.get_nondebug_quantized_model()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converter's news of its passes from the user."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), quiet_stderr():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
