"""The metrics of a run as TensorBoard events."""

from collections.abc import Callable, Mapping
from pathlib import Path

import keras


def event_writer(path: Path) -> Callable[[Mapping[str, float]], None]:
    """Return a function that writes a row of metrics as TensorBoard events; without TensorFlow it writes none."""
    if keras.config.backend() != "tensorflow":
        return lambda row: None
    import tensorflow as tf

    writer = tf.summary.create_file_writer(str(path))

    def write(row: Mapping[str, float]) -> None:
        with writer.as_default(step=int(row["epoch"])):
            for name, value in row.items():
                if name != "epoch":
                    tf.summary.scalar(name, value)
        writer.flush()

    return write
