"""Logits that come from a file of another format: what they must be, and how they become a store."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from distill.data.dataset import UNLABELLED
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.logit_store.header import UNKNOWN, LogitHeader
from distill.logit_store.layout import UNKNOWN_PIXELS
from distill.logit_store.store import LogitStore, open_logits
from distill.logit_store.writer import LogitWriter

MAX_ID_LENGTH = 4096  # the ids of a store are all as wide as its longest one
UNKNOWN_SHAPE = (0, 0, 0)
"""Of a teacher's input, where nobody said what it saw."""

_MAX_ID_CHARACTERS = 250_000_000
_READ_BYTES = 1 << 20
_SIDE_LIMIT = 2**31
_INDEX = re.compile(r"(Unnamed: \d+(\.\d+)?)?")  # as it is written, and as it is called when that is read again
_ROUNDED = 0.05
"""How far the sum of probabilities of several classes may lie from 1 when each is rounded to a whole percent."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LogitTable:
    """What a file says. Labels that it does not give are `UNLABELLED`, content hashes `UNKNOWN_PIXELS`."""

    sample_ids: np.ndarray
    """str [N]."""
    logits: np.ndarray
    """float [N, views, classes]."""
    content_hashes: np.ndarray = None  # type: ignore[assignment]  # filled in after construction
    """uint8 [N, 16]."""
    labels: np.ndarray = None  # type: ignore[assignment]  # likewise
    """int [N], 0..classes-1 or `UNLABELLED`."""
    class_names: tuple[str, ...] | None = None
    """As they are spelled there."""
    header: Mapping[str, Any] | None = None
    """What `exported_header.header_document` gave; only a file that was exported has one."""

    def __post_init__(self):
        count = len(self.sample_ids)
        if self.content_hashes is None:
            object.__setattr__(self, "content_hashes", np.tile(UNKNOWN_PIXELS, (count, 1)))
        if self.labels is None:
            object.__setattr__(self, "labels", np.full(count, UNLABELLED))


def check_no_index(names: Iterable[str], path: str | os.PathLike) -> None:
    """Check that none of `names`, of columns or classes, is what pandas calls the column of its index.

    Raises:
        InputError: one is: its numbers are no logits.
    """
    index = [name for name in names if _INDEX.fullmatch(name.strip())]
    if index:
        raise InputError(
            f"{path} has a column {index[0]!r}, which looks like an index of pandas: remove it (index=False), "
            "or where it holds the ids call it sample_id"
        )


def checked_ids(ids: Sequence[str], path: str | os.PathLike) -> np.ndarray:
    """Return str [N] of the ids that `path` gave.

    Raises:
        InputError: none, one that a store cannot hold, two that are the same, or more text than fits.
    """
    if not len(ids):
        raise InputError(f"{path} holds no sample: expected one or more")
    for sample_id in ids:
        if not _is_storable(sample_id):
            limit = f"texts of up to {MAX_ID_LENGTH} characters without NUL"
            raise InputError(f"{path} holds the sample id {sample_id[:80]!r}: expected {limit}")
    repeated, times = Counter(ids).most_common(1)[0]
    if times > 1:
        raise InputError(f"{path} holds the sample id {repeated!r} {times} times: every id must be unique")
    if len(ids) * max(map(len, ids)) > _MAX_ID_CHARACTERS:  # an array of texts is as wide as the longest
        raise InputError(f"{path} holds {len(ids):,} ids, some of them very long: give shorter ones")
    return np.array(ids)


def checked_raw_logits(logits: np.ndarray, sample_ids: np.ndarray, path: str | os.PathLike) -> np.ndarray:
    """Return float32 [N, V, C] of the float [N, V, C] that `path` gave for `sample_ids`.

    Raises:
        InputError: a value that is not finite in float32; or every row holds probabilities, rounded or in percent, or
            every value lies in 0..1.
    """
    with np.errstate(over="ignore"):
        logits = logits.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(logits).all((1, 2)))
    if len(bad):
        first = str(sample_ids[bad[0]])
        raise InputError(f"{path} holds logits that are NaN or too large for {len(bad)} ids, the first {first!r}")
    found = _kind_of_probabilities(logits)
    if found:
        raise InputError(
            f"{path} holds {found}: expected raw logits, as they enter the softmax, or logarithms of "
            "probabilities above 0; if these are logits, subtract 100 from each, which no softmax notices"
        )
    return logits


def _kind_of_probabilities(logits: np.ndarray) -> str | None:
    """Return what float [N, V, C] are if a softmax or a sigmoid has been applied to them, as far as they show it."""
    if logits.min() < 0:
        return None
    sums = logits.sum(-1, dtype=np.float64)
    if np.allclose(sums, 1, rtol=_ROUNDED, atol=0):
        return "probabilities"
    if np.allclose(sums, 100, rtol=_ROUNDED, atol=0):
        return "probabilities in percent"
    if logits.max() <= 1:
        return "numbers in 0..1 that do not sum to 1, which looks like a sigmoid"
    return None


def header_of_unknown(
    path: str | os.PathLike,
    *,
    class_names: tuple[str, ...],
    class_order: str,
    teacher_name: str | None = None,
    teacher_input_shape: tuple[int, int, int] | None = None,
    logits_dtype: str = "float32",
) -> LogitHeader:
    """Return the header of one view, the untouched image, that a teacher of whom only the file `path` is known gave.

    Args:
        class_order: how the order of `class_names` is known, "given", "known" or "assumed".
        teacher_name: by default the name of the file, without its suffix.
        teacher_input_shape: by default `UNKNOWN_SHAPE`.

    Raises:
        InputError: a side of the input that no image has.
    """
    if teacher_input_shape is not None and not all(1 <= side < _SIDE_LIMIT for side in teacher_input_shape):
        raise InputError(
            f"teacher-input-shape must be height, width and channels, each 1 or more and below {_SIDE_LIMIT}, "
            f"received {teacher_input_shape}"
        )
    return LogitHeader(
        class_names=class_names,
        class_order=class_order,
        views=1,
        view_spec=ViewSpec().to_dict(),
        teacher_name=teacher_name or Path(path).stem,
        teacher_sha256=_file_sha256(path),
        teacher_input_shape=teacher_input_shape or UNKNOWN_SHAPE,
        numeric_policy=UNKNOWN,
        dataset_fingerprint=UNKNOWN,
        dataset_name=str(path),
        logits_dtype=logits_dtype,
    )


def write_table(table: LogitTable, header: LogitHeader, out: str | os.PathLike) -> LogitStore:
    """Write the rows of `table` as a store at `out` and open it; a finished store of the same rows stays as it is.

    Raises:
        InputError: `out` holds something else.
    """
    samples = {name: getattr(table, name) for name in ("sample_ids", "content_hashes", "labels")}
    with LogitWriter(out, header, **samples) as writer:
        for rows in tqdm(writer.missing(), desc=str(out), unit="part", leave=False, disable=None):
            writer.write(rows, table.logits[rows].astype(np.float32))
        return open_logits(writer.finish())


def _is_storable(sample_id: str) -> bool:
    """Whether fixed-length UTF-8, padded with NUL, gives it back: a lone surrogate and a NUL do not come back."""
    try:
        sample_id.encode()
    except UnicodeEncodeError:
        return False
    return 0 < len(sample_id) <= MAX_ID_LENGTH and "\0" not in sample_id


def _file_sha256(path: str | os.PathLike) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()
