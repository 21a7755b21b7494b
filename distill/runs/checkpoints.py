"""The checkpoints of a run: network and optimizer after the last finished epoch, and after the one before.

RUN/last.keras and RUN/previous.keras hold both in one file, with the weights of further layers that are trained with
the network. It ends with checksums of all that it holds, and a kill at any moment leaves one of them whole.
"""

import io
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from distill.errors import InputError
from distill.files.busy_files import cannot_read_now, is_there, reading
from distill.files.numpy_files import read_array
from distill.files.regular_files import check_regular
from distill.files.whole_files import atomic_file
from distill.refusals import reason
from distill.runtimes.keras_weights import check_weights
from distill.runtimes.weights import set_weights

LAST, PREVIOUS = "last.keras", "previous.keras"
_OWN_LAYERS = "own_layers.npz"
"""In the archive: weights of further layers, which Keras does not look at."""


def save_checkpoint(folder: Path, network: keras.Model, own_layers: Sequence[keras.layers.Layer] = ()) -> None:
    """Save a network and the optimizer that it is compiled with as the last checkpoint in `folder`.

    Args:
        own_layers: further layers that are trained with it, or hold what changes with it.
    """
    with atomic_file(folder / LAST) as unfinished:
        network.save(unfinished)
        if own_layers:
            weights = io.BytesIO()
            np.savez(weights, *[array for layer in own_layers for array in layer.get_weights()])
            with zipfile.ZipFile(unfinished, "a") as archive:
                archive.writestr(_OWN_LAYERS, weights.getvalue())
        if (folder / LAST).exists():
            os.replace(folder / LAST, folder / PREVIOUS)


def load_checkpoint(
    folder: Path,
    network: keras.Model,
    own_layers: Sequence[keras.layers.Layer] = (),
    *,
    remove_damaged: bool = True,
) -> bool:
    """Put `network` and its optimizer, which is built, back to the last checkpoint in `folder` that is whole.

    A damaged one is reported in a line.

    Args:
        remove_damaged: remove it, too.

    Returns:
        Whether there was one; else nothing has changed, and the run begins again.

    Raises:
        BusyError: one cannot be read now: it may be whole, so it is neither passed over nor removed.
    """
    files = [folder / name for name in (LAST, PREVIOUS) if is_there(folder / name)]
    for file in files:
        check_regular(file)
    whole = next((file for file in files if _is_whole(file)), None)
    for damaged in files[: None if whole is None else files.index(whole)]:
        again = f"resumes from {whole.name}" if whole else "starts from the beginning"
        print(f"note: {damaged} is damaged: training {again}")
        if remove_damaged:
            damaged.unlink(missing_ok=True)
    if whole is not None:
        with reading(whole):
            _check_weights(whole, network)
            network.load_weights(whole)
            if own_layers:
                _load_own_layers(whole, own_layers)
    return whole is not None


def _check_weights(file: Path, network: keras.Model) -> None:
    try:
        check_weights(network, file)
    except (ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{file} is no checkpoint: {reason(error)}") from error


def _load_own_layers(file: Path, own_layers: Sequence[keras.layers.Layer]) -> None:
    try:
        with zipfile.ZipFile(file) as archive, zipfile.ZipFile(io.BytesIO(archive.read(_OWN_LAYERS))) as stored:
            arrays = iter([_array(stored, info) for info in stored.infolist()])
        for layer in own_layers:
            set_weights(layer, [next(arrays) for _ in layer.weights])
    except (KeyError, ValueError, StopIteration) as error:
        raise InputError(
            f"{file} does not hold the layers and variables of the objective (an earlier version kept no variables): "
            f"delete {file.parent}, and train again"
        ) from error


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as file:
        return read_array(file, size=info.file_size)


def _is_whole(file: Path) -> bool:
    """Whether a `.keras` file, which is a zip archive, holds what its checksums say."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except Exception as error:  # damage shows in many ways: BadZipFile, zlib.error, EOFError, ...
        busy = cannot_read_now(error, file)
        if busy is not None:
            raise busy from error
        return False
