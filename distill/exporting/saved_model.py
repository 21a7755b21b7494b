"""A SavedModel folder, for TensorFlow Serving and whatever else runs TensorFlow."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from distill.errors import InputError
from distill.exporting.graph import INPUT, OUTPUT, save_graph
from distill.files.tensorflow_paths import check_no_pattern
from distill.files.whole_files import atomic_folder, write_json
from distill.prediction.description import ModelDescription
from distill.prediction.litert_file import DESCRIPTION
from distill.quiet import quiet_stderr
from distill.refusals import reason

_EXTRA = "assets.extra"
"""Where a SavedModel keeps what is not part of the graph."""


def write(path: Path, network: keras.Model, description: ModelDescription) -> None:
    """Write a network of `probabilities_network`, for any number of images, and what is to be known of it.

    Raises:
        InputError: TensorFlow cannot save it.
    """
    with atomic_folder(path) as unfinished:
        try:
            with quiet_stderr():
                save_graph(network, str(unfinished), batch=None)
        except OSError:
            raise
        except Exception as error:  # TensorFlow fails in as many ways as there are layers
            raise InputError(f"{network.name} cannot be saved as a SavedModel: {reason(error)}") from error
        write_json(unfinished / _EXTRA / DESCRIPTION, description.to_dict())


def open_folder(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from float32 pixels [B, h, w, c] to float32 probabilities [B, C].

    Raises:
        InputError: TensorFlow takes `path` for a pattern.
    """
    check_no_pattern(path)
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    return lambda pixels: serve(**{INPUT: tf.constant(pixels)})[OUTPUT].numpy()
