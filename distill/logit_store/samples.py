"""The samples of a store: their ids, the hashes of their images, their labels, N of each, and where an id stands."""

from dataclasses import dataclass, field

import numpy as np

from distill.data.columns import count_distinct, encoded_bytes, text_column
from distill.data.dataset import UNLABELLED
from distill.errors import InputError
from distill.logit_store.layout import HASH_BYTES, UNKNOWN_PIXELS, Columns, encode_ids

SAMPLE_COLUMNS = ("sample_id", "content_hash", "label")


@dataclass(frozen=True, eq=False)
class Samples:
    """What is to be stored of N samples, besides their logits. It becomes columns of a store block by block.

    Raises:
        InputError: there is none, or two have one id; a label of none of the classes.
        ValueError: the arrays do not fit together.
    """

    ids: np.ndarray
    """Text [N]."""
    content_hashes: np.ndarray
    """uint8 [N, 16]."""
    labels: np.ndarray
    """int [N]."""
    classes: int
    id_bytes: int = field(init=False)
    """Length of the longest id as UTF-8."""

    def __post_init__(self):
        hashes, labels = np.asarray(self.content_hashes), np.asarray(self.labels)
        count = len(self.ids)
        if not count:
            raise InputError("there is no sample to write logits of: expected one or more")
        if hashes.shape != (count, HASH_BYTES) or hashes.dtype != np.uint8 or labels.shape != (count,):
            raise ValueError(
                f"{count} ids need content hashes uint8 [{count}, {HASH_BYTES}] and as many labels. "
                f"Received: {hashes.dtype} {list(hashes.shape)}, labels {list(labels.shape)}"
            )
        check_labels(labels, classes=self.classes)
        kept = {"ids": text_column(self.ids, what="sample id", of="the data"), "content_hashes": hashes}
        for name, column in {**kept, "labels": labels}.items():
            object.__setattr__(self, name, column)
        different = count_distinct(self.ids)
        if different != count:
            raise InputError(f"sample ids must be unique: received {count}, of which {different} differ")
        object.__setattr__(self, "id_bytes", encoded_bytes(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    def columns(self, rows: slice | np.ndarray) -> Columns:
        """Return some rows as a store has them."""
        return {
            "sample_id": encode_ids(self.ids[rows], self.id_bytes),
            "content_hash": self.content_hashes[rows],
            "label": self.labels[rows].astype(np.int64, copy=False),
        }


def are_known(content_hashes: np.ndarray) -> np.ndarray:
    """Return bool [N]: which of uint8 [N, 16] are hashes of an image, and not `UNKNOWN_PIXELS`."""
    return (content_hashes != UNKNOWN_PIXELS).any(1)


def check_labels(labels: np.ndarray, *, classes: int) -> None:
    """Check that labels, int [N], are those of `classes` classes, or unknown.

    Raises:
        InputError: one is not.
    """
    if len(labels) and (labels.min() < UNLABELLED or labels.max() >= classes):
        bad = labels[(labels < UNLABELLED) | (labels >= classes)]
        raise InputError(f"it holds the label {bad[0]}, expected 0..{classes - 1} or {UNLABELLED}")


def sample_differences(stored: Columns, expected: Columns) -> list[str]:
    """Return a text where the samples differ: how many they are, or the first difference."""
    if len(stored["label"]) != len(expected["label"]):
        return [f"samples: stored {len(stored['label'])}, expected {len(expected['label'])}"]
    for name, column in expected.items():
        differs = (stored[name] != column).reshape(len(column), -1).any(1)
        if differs.any():
            row = np.argmax(differs)
            return [f"{name}: stored {_shown(stored[name][row])}, expected {_shown(column[row])}"]
    return []


def _shown(value: np.ndarray | np.generic) -> str:
    """Return an id as text, a hash in hexadecimal, a label as a number."""
    if isinstance(value, bytes):
        return value.decode()
    return value.tobytes().hex() if value.shape else str(value)
