"""Logits in a `.npz` file of NumPy: plain arrays, nothing pickled."""

import json
import os
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np

from distill.data.dataset import UNLABELLED
from distill.errors import InputError
from distill.files.busy_files import cannot_read_now
from distill.files.numpy_files import read_array, read_header
from distill.files.whole_files import atomic_file
from distill.logit_store.exchange.exported_header import MAX_HEADER_BYTES, header_document, parse_document
from distill.logit_store.exchange.logit_table import LogitTable, checked_ids
from distill.logit_store.layout import HASH_BYTES
from distill.logit_store.store import LogitStore
from distill.refusals import reason

MAX_BYTES = 4_000_000_000
"""Of all arrays together, unpacked: a small file can claim to hold any number of zeros."""

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)


class _Kind(NamedTuple):
    """What an array must be."""

    dtypes: tuple[str, ...]  # NumPy's letters, of any size or with a number of bytes
    dimensions: tuple[int, ...]
    words: str


_KINDS = {
    "logits": _Kind(("f2", "f4", "f8"), (2, 3), "float16, float32 or float64 [N, C] or [N, V, C]"),
    "sample_id": _Kind(("U", "S"), (1,), "text [N]"),
    "content_hash": _Kind(("u1",), (2,), f"uint8 [N, {HASH_BYTES}]"),
    "label": _Kind(("i", "u"), (1,), f"integers [N], 0..C-1 or {UNLABELLED}"),
    "class_names": _Kind(("U", "S"), (1,), "text [C]"),
    "header": _Kind(("U", "S"), (0,), "text"),
}
_REQUIRED = ("logits", "sample_id")
_OPTIONAL = {"content_hashes": "content_hash", "labels": "label"}
_TEXTS = ("sample_id", "class_names", "header")


def write_npz_logits(store: LogitStore, path: str | os.PathLike) -> None:
    """Write the arrays logits, sample_id, content_hash, label, class_names and header (JSON text), whole or not."""
    arrays: dict[str, Any] = {
        "logits": np.asarray(store.logits),
        "sample_id": np.array(store.sample_ids.tolist()),  # of fixed width: NumPy would pickle its `StringDType`
        "content_hash": store.content_hashes,
        "label": store.labels,
        "class_names": np.array(store.class_names),
        "header": np.array(json.dumps(header_document(store))),
    }
    with atomic_file(path) as unfinished, open(unfinished, "wb") as file:
        np.savez(file, **arrays)


def read_npz_logits(path: str | os.PathLike) -> LogitTable:
    """Read what `write_npz_logits` wrote, or a stranger's file: `logits` and `sample_id` are enough.

    Raises:
        InputError: it is something else or damaged, lacks an array, unpacks to more than `MAX_BYTES`, or holds
            arrays of another kind, or such that do not fit together.
    """
    arrays = _read_arrays(path)
    _check_shapes(arrays, path)
    texts = {name: _texts(arrays[name], name, path) for name in _TEXTS if name in arrays}
    logits = arrays["logits"]
    table = LogitTable(
        sample_ids=checked_ids(texts["sample_id"], path),
        logits=logits[:, None] if logits.ndim == 2 else logits,
        class_names=tuple(texts["class_names"]) if "class_names" in texts else None,
        header=parse_document(texts["header"], f"the header in {path}") if "header" in texts else None,
        **{field: arrays[name] for field, name in _OPTIONAL.items() if name in arrays},
    )
    _check_labels(table, path)
    return table


def _read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            files = {info.filename: info for info in archive.infolist()}
            members = {name: files[f"{name}.npy"] for name in _KINDS if f"{name}.npy" in files}
            _check_members(members, path)
            return {name: _read_array(archive, name, info, path) for name, info in members.items()}
    except InputError:
        raise
    except _DAMAGE as error:
        damaged = InputError(f"{path} is not a .npz file of NumPy, or damaged ({reason(error)})")
        raise cannot_read_now(error, path) or damaged from error


def _check_members(members: dict[str, zipfile.ZipInfo], path: str | os.PathLike) -> None:
    absent = [name for name in _REQUIRED if name not in members]
    if absent:
        raise InputError(f"{path} lacks {', '.join(f'{name}, {_KINDS[name].words}' for name in absent)}")
    unpacked = sum(info.file_size for info in members.values())
    if unpacked > MAX_BYTES:
        raise InputError(f"{path} unpacks to {unpacked:,} bytes: expected {MAX_BYTES:,} or less, in several files")


def _read_array(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo, path: str | os.PathLike) -> np.ndarray:
    """Read an array after a look at its own header: nothing is allocated for what is not there, or not wanted."""
    with archive.open(info) as member:
        try:
            found = read_header(member, size=info.file_size)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    _check_kind(name, found.shape, found.dtype, path)
    if not found.bytes:
        raise ValueError(f"{name} is empty")
    if name == "header" and info.file_size > MAX_HEADER_BYTES * 4:  # NumPy's text has four bytes a letter
        raise InputError(f"{path} has a header of {info.file_size:,} bytes: expected less than {MAX_HEADER_BYTES:,}")
    with archive.open(info) as member:
        return read_array(member, size=info.file_size)


def _check_kind(name: str, shape: tuple[int, ...], dtype: np.dtype, path: str | os.PathLike) -> None:
    kind = _KINDS[name]
    if not {dtype.kind, dtype.str[1:]} & set(kind.dtypes) or len(shape) not in kind.dimensions:
        raise InputError(f"{path} holds {name} as {dtype} {list(shape)}: expected {kind.words}")


def _check_shapes(arrays: dict[str, np.ndarray], path: str | os.PathLike) -> None:
    samples, *_, classes = arrays["logits"].shape
    expected = {
        "sample_id": (samples,),
        "content_hash": (samples, HASH_BYTES),
        "label": (samples,),
        "class_names": (classes,),
    }
    for name, shape in expected.items():
        if name in arrays and arrays[name].shape != shape:
            found = f"{list(arrays[name].shape)} with logits {list(arrays['logits'].shape)}"
            raise InputError(f"{path} holds {name} {found}: expected {_KINDS[name].words}")


def _texts(array: np.ndarray, name: str, path: str | os.PathLike) -> Any:
    """Return a text, or a list of texts, as `tolist` does."""
    try:
        return (array if array.dtype.kind == "U" else np.char.decode(array, "utf-8")).tolist()
    except (ValueError, SystemError) as error:  # bytes that are no UTF-8; numbers that are no letter
        raise InputError(f"{path} holds {name} that is not text: expected {_KINDS[name].words}, in UTF-8") from error


def _check_labels(table: LogitTable, path: str | os.PathLike) -> None:
    bad = np.flatnonzero((table.labels < UNLABELLED) | (table.labels >= table.logits.shape[-1]))
    if len(bad):
        label, sample_id = table.labels[bad[0]], str(table.sample_ids[bad[0]])
        raise InputError(f"{path} holds the label {label} for {sample_id!r}: expected {_KINDS['label'].words}")
