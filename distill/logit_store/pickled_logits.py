"""Logits that someone pickled, such as MicroExpNet's teacher logits, become a logit store."""

import difflib
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.dataset import UNLABELLED
from distill.data.expressions import CLASS_ORDERS
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.logit_store.header import UNKNOWN, LogitHeader
from distill.logit_store.layout import UNKNOWN_PIXELS
from distill.logit_store.plain_pickle import read_plain_pickle
from distill.logit_store.store import LogitStore, open_logits
from distill.logit_store.writer import LogitWriter

MAX_ID_LENGTH = 4096  # the ids of a store are all as wide as its longest one

_MAX_ID_CHARACTERS = 250_000_000
_EXPECTED = "expected a dictionary of path -> list of floats, one raw logit for each class"


def import_pickled_logits(
    path: str | os.PathLike,
    out: str | os.PathLike,
    *,
    classes: str = "microexpnet",
    teacher_name: str | None = None,
    teacher_input_shape: tuple[int, int, int] = (224, 224, 3),
) -> LogitStore:
    """Write the logits that someone pickled as a logit store of one view, the untouched image.

    The paths become the sample ids as they stand. Labels and pixels are unknown; `LogitStore.join` tells how
    such a store meets a data set. A finished store of the same pickle is opened as it is.

    Args:
        path: a pickled dictionary of path -> list of C floats: raw logits at temperature 1.
        out: path of the `.h5` file.
        classes: a row of `CLASS_ORDERS` of C names: the order of the logits.
        teacher_name: by default the name of the pickle, without its suffix.
        teacher_input_shape: height, width and channels of what the teacher saw.

    Raises:
        InputError: no such class order, a pickle of something else, or of another number of classes, logits
            that are probabilities or not finite; or `out` holds something else.
    """
    class_names = _class_names(classes)
    if min(teacher_input_shape) < 1:
        raise InputError(f"teacher-input-shape must be height, width and channels, received {teacher_input_shape}")
    ids, logits = _checked(read_plain_pickle(path), path, class_names)
    header = LogitHeader(
        class_names=class_names,
        views=1,
        view_spec=ViewSpec().to_dict(),
        teacher_name=teacher_name or Path(path).stem,
        teacher_sha256=hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        teacher_input_shape=teacher_input_shape,
        numeric_policy=UNKNOWN,
        dataset_fingerprint=UNKNOWN,
        dataset_name=str(path),
    )
    writer = LogitWriter(
        out,
        header,
        sample_ids=ids,
        content_hashes=np.tile(UNKNOWN_PIXELS, (len(ids), 1)),
        labels=np.full(len(ids), UNLABELLED),
    )
    for rows in writer.missing():
        writer.write(rows, logits[rows, None])
    return open_logits(writer.finish())


def _class_names(classes: str) -> tuple[str, ...]:
    if classes not in CLASS_ORDERS:
        near = difflib.get_close_matches(classes, CLASS_ORDERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(CLASS_ORDERS)}"
        raise InputError(f'unknown class order "{classes}": {hint}')
    return CLASS_ORDERS[classes]


def _checked(value: Any, path: str | os.PathLike, class_names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return ids, str [N], and logits, float32 [N, C], of a dictionary that came out of `path`."""
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}: {_EXPECTED}")
    if not value:
        raise InputError(f"{path} holds an empty dictionary: {_EXPECTED}")
    for sample_id, row in value.items():
        _check_entry(sample_id, row, path, class_names)
    if len(value) * max(map(len, value)) > _MAX_ID_CHARACTERS:  # an array of texts is as wide as the longest
        raise InputError(f"{path} holds {len(value):,} keys, some of them very long: give shorter paths")
    ids = np.array(list(value))
    with np.errstate(over="ignore"):
        logits = np.array(list(value.values()), np.float64).astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(logits).all(1))
    if len(bad):
        first = str(ids[bad[0]])
        raise InputError(f"{path} holds logits that are NaN or too large for {len(bad)} ids, the first {first!r}")
    if (logits >= 0).all() and np.allclose(logits.sum(1), 1, atol=1e-3):
        raise InputError(f"{path} holds probabilities: expected raw logits, as they enter the softmax")
    return ids, logits


def _check_entry(sample_id: Any, row: Any, path: str | os.PathLike, class_names: tuple[str, ...]) -> None:
    if not isinstance(sample_id, str) or not 0 < len(sample_id) <= MAX_ID_LENGTH or not _is_storable(sample_id):
        shown = repr(sample_id[:80]) if isinstance(sample_id, str) else f"of type {type(sample_id).__name__}"
        raise InputError(
            f"{path} holds the key {shown}: expected paths, texts of up to {MAX_ID_LENGTH} characters without NUL"
        )
    if not isinstance(row, (list, tuple)) or not all(type(number) is float for number in row):
        raise InputError(f"{path} holds something else than a list of floats for {sample_id!r}: {_EXPECTED}")
    if len(row) != len(class_names):
        raise InputError(
            f"{path} holds {len(row)} logits for {sample_id!r}, expected {len(class_names)} "
            f"({', '.join(class_names)}): name another order of classes with --classes ({', '.join(CLASS_ORDERS)})"
        )


def _is_storable(sample_id: str) -> bool:
    """Whether fixed-length UTF-8, padded with NUL, gives it back: a lone surrogate and a NUL do not come back."""
    return "\0" not in sample_id and not any("\ud800" <= character <= "\udfff" for character in sample_id)
