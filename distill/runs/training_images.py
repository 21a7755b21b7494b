"""Which images a run has learned from, so that nobody is shown an accuracy on them as one on unseen images.

RUN/training_images.npy    uint64 [N, 2]: of every image 8 bytes of its content hash, and of a hash of id and content
"""

import hashlib
from pathlib import Path

import numpy as np

from distill.data.columns import blocks
from distill.data.dataset import Dataset
from distill.errors import InputError
from distill.files.busy_files import is_there
from distill.files.numpy_files import load_array
from distill.files.whole_files import atomic_file

TRAINING_IMAGES = "training_images.npy"


class TrainingImages:
    """The images that a run learns from.

    Args:
        keys: of `image_keys`.
    """

    def __init__(self, keys: np.ndarray):
        self.keys = keys

    @classmethod
    def of(cls, *datasets: Dataset) -> "TrainingImages":
        """Return all images of some datasets."""
        first, *others = map(image_keys, datasets)
        return cls(np.concatenate([first, *others]) if others else first)

    @classmethod
    def read(cls, run: str | Path) -> "TrainingImages | None":
        """Return those of the run in a folder; None where it does not say.

        Raises:
            InputError: the file is damaged.
        """
        file = Path(run) / TRAINING_IMAGES
        if not is_there(file):
            return None
        try:
            keys = load_array(file)
        except ValueError as error:
            raise InputError(f"{file} is damaged ({error}): train again") from error
        if keys.dtype != np.uint64 or keys.ndim != 2 or keys.shape[1] != 2:
            raise InputError(f"{file} holds {keys.dtype} {keys.shape}, expected uint64 [N, 2]: train again")
        return cls(keys)

    def write(self, run: Path) -> None:
        """Write them into the folder of a run."""
        with atomic_file(run / TRAINING_IMAGES) as unfinished, open(unfinished, "wb") as file:
            np.save(file, self.keys)

    def holds(self, dataset: Dataset) -> np.ndarray:
        """Return which images of `dataset` are among them, under the same id and with the same pixels: bool [N]."""
        return np.isin(image_keys(dataset)[:, 1], self.keys[:, 1])


def image_keys(dataset: Dataset) -> np.ndarray:
    """Return uint64 [N, 2]: of every image the content, and id and content together."""
    hashes, keys = dataset.content_hashes, np.empty((len(dataset), 2), np.uint64)
    for rows in blocks(len(dataset)):
        named = [
            hashlib.blake2b(f"{sample_id}\n".encode() + content.tobytes(), digest_size=8).digest()
            for sample_id, content in zip(dataset.ids[rows].tolist(), hashes[rows], strict=True)
        ]
        keys[rows, 0] = np.ascontiguousarray(hashes[rows, :8]).view("<u8")[:, 0]
        keys[rows, 1] = np.frombuffer(b"".join(named), "<u8")
    return keys
