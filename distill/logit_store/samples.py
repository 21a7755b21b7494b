"""The samples of a store, as columns: their ids, the hashes of their images, their labels."""

import numpy as np

from distill.data.dataset import UNLABELLED, count_distinct
from distill.errors import InputError
from distill.logit_store.layout import HASH_BYTES, Columns, encode_ids

SAMPLE_COLUMNS = ("sample_id", "content_hash", "label")


def checked_samples(
    sample_ids: np.ndarray, content_hashes: np.ndarray, labels: np.ndarray, *, classes: int
) -> Columns:
    """Return str [N], uint8 [N, 16] and int [N] as the columns of a store.

    Raises:
        InputError: there is none, or two have one id; a label of none of the classes.
        ValueError: the arrays do not fit together.
    """
    ids = encode_ids(sample_ids)
    hashes, labels = np.asarray(content_hashes), np.asarray(labels)
    if not len(ids):
        raise InputError("there is no sample to write logits of: expected one or more")
    if hashes.shape != (len(ids), HASH_BYTES) or hashes.dtype != np.uint8 or labels.shape != (len(ids),):
        raise ValueError(
            f"{len(ids)} ids need content hashes uint8 [{len(ids)}, {HASH_BYTES}] and as many labels. "
            f"Received: {hashes.dtype} {list(hashes.shape)}, labels {list(labels.shape)}"
        )
    check_labels(labels, classes=classes)
    different = count_distinct(ids)
    if different != len(ids):
        raise InputError(f"sample ids must be unique: received {len(ids)}, of which {different} differ")
    return {"sample_id": ids, "content_hash": hashes, "label": labels.astype(np.int64, copy=False)}


def check_labels(labels: np.ndarray, *, classes: int) -> None:
    """Check that labels, int [N], are those of `classes` classes, or unknown.

    Raises:
        InputError: one is not.
    """
    bad = labels[(labels < UNLABELLED) | (labels >= classes)]
    if len(bad):
        raise InputError(f"it holds the label {bad[0]}, expected 0..{classes - 1} or {UNLABELLED}")


def by_id(columns: Columns) -> Columns:
    """Return the rows in the order of their ids, without the logits."""
    order = np.argsort(columns["sample_id"], kind="stable")
    return {name: columns[name][order] for name in SAMPLE_COLUMNS}


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
