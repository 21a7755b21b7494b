"""The metrics of a run as TensorBoard events."""

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import keras

from distill.refusals import reason
from distill.runs.best_epoch import AVERAGED


def tag(column: str) -> str:
    """Return the tag of a column of metrics.csv: "loss/train" and "loss/validation" stand side by side."""
    part, _, metric = column.partition("_")
    if part not in ("train", "validation"):
        return column
    averaged = metric.endswith(AVERAGED)
    return f"{metric.removesuffix(AVERAGED)}/{part}{AVERAGED if averaged else ''}"


def event_writer(path: Path) -> Callable[[Mapping[str, float]], None]:
    """Return a function that writes a row of metrics as TensorBoard events; without TensorFlow it writes none.

    Raises:
        OSError: they cannot be written, such as on a full disk; also from the function.
    """
    if keras.config.backend() != "tensorflow":
        return lambda row: None
    import tensorflow as tf

    with _failures_of_the_system(path):
        writer = tf.summary.create_file_writer(str(path))

    def write(row: Mapping[str, float]) -> None:
        with _failures_of_the_system(path), writer.as_default(step=int(row["epoch"])):
            for name, value in row.items():
                if name != "epoch":
                    tf.summary.scalar(tag(name), value)
            writer.flush()

    return write


@contextmanager
def _failures_of_the_system(path: Path) -> Iterator[None]:
    """Say what TensorFlow could not write in the way of every other file."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, f"events cannot be written: {reason(error)}", str(path)) from error
