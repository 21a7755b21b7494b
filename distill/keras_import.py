"""Keras on the backend that a command needs, imported without a greeting and with its fast kernels."""

import os
import platform
import sys
from typing import Any

from distill.errors import InputError
from distill.quiet import quiet_stderr, without_retracing_warnings

_TRAINING_BACKENDS = ("tensorflow", "jax", "torch")


def set_tensorflow_defaults() -> None:
    """Set what TensorFlow reads from the environment when it is imported, where the user has not.

    It says what goes wrong, and nothing else. And it takes oneDNN's kernels on every x86 processor: TensorFlow itself
    takes them only where there are instructions for neural networks, such as AVX-512 VNNI, while on processors with
    AVX2 alone MicroExpNet learns 3.5 times as fast with them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def import_keras_quietly(needed: str = "tensorflow") -> None:
    """Import Keras and its backend without TensorFlow's greetings about processors and missing GPUs.

    They are written before its log level is read, straight to the file descriptor, and would stand before
    every one-line error. What goes wrong in TensorFlow later is raised as an exception all the same.
    """
    without_retracing_warnings()
    set_tensorflow_defaults()
    try:
        with quiet_stderr():
            import keras

            if keras.config.backend() == "tensorflow":
                import tensorflow as tf

                tf.config.list_physical_devices()
    except (ImportError, ValueError) as error:  # a backend that is not installed, or there is no such
        if isinstance(error, ModuleNotFoundError) and error.name == "keras":
            raise
        raise InputError(f"Keras cannot start ({error}): set KERAS_BACKEND to an installed backend") from error
    possible = _TRAINING_BACKENDS if needed == "any" else (needed,)
    if keras.config.backend() not in possible:
        raise InputError(f'Keras runs on "{keras.config.backend()}": set KERAS_BACKEND={" or ".join(possible)}')


def import_tensorflow_quietly() -> Any:
    """Return TensorFlow, which a command that needs no network may not have imported yet."""
    if "tensorflow" not in sys.modules:
        set_tensorflow_defaults()
        with quiet_stderr():
            import tensorflow as tf

            tf.config.list_physical_devices()
    import tensorflow as tf

    return tf
