"""The checkpoints of a run: network and optimizer after the last finished epoch, and after the one before.

RUN/last.keras and RUN/previous.keras hold both in one file, which ends with checksums of all that it holds. A kill at
any moment leaves one of them whole.
"""

import os
import zipfile
from pathlib import Path

import keras

from distill.files import atomic_file

LAST, PREVIOUS = "last.keras", "previous.keras"


def save_checkpoint(folder: Path, network: keras.Model) -> None:
    """Save `network` and the optimizer that it is compiled with as the last checkpoint in `folder`."""
    with atomic_file(folder / LAST) as unfinished:
        network.save(unfinished)
        if (folder / LAST).exists():
            os.replace(folder / LAST, folder / PREVIOUS)


def load_checkpoint(folder: Path, network: keras.Model, *, remove_damaged: bool = True) -> bool:
    """Put `network` and its optimizer, which is built, back to the last checkpoint in `folder` that is whole.

    A damaged one is told in a line.

    Args:
        remove_damaged: remove it, too.

    Returns:
        Whether there was one; else nothing has changed, and the run begins again.
    """
    files = [folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    whole = next((file for file in files if _is_whole(file)), None)
    for damaged in files[: None if whole is None else files.index(whole)]:
        print(f"note: {damaged} is damaged: training goes on from {whole.name if whole else 'the beginning'}")
        if remove_damaged:
            damaged.unlink(missing_ok=True)
    if whole is not None:
        network.load_weights(whole)
    return whole is not None


def _is_whole(file: Path) -> bool:
    """Whether a `.keras` file, which is a zip archive, holds what its checksums say."""
    with open(file, "rb") as opened:  # a file that may not be read is no damaged one
        try:
            return zipfile.ZipFile(opened).testzip() is None
        except Exception:  # damage shows in many ways: BadZipFile, zlib.error, EOFError, ...
            return False
