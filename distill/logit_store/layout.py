"""The bytes of a logit store: HDF5 datasets in blocks of rows, a checksum for each block and the header.

A finished store and a part of an unfinished one are the same kind of file; the attribute `kind` tells
them apart. docs/logit_format.md describes both for other readers.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from distill.errors import InputError
from distill.logit_store.header import LogitHeader

STORE, PART = "logit store", "part of a logit store"
COMMAND = "python -m distill.teacher_logits"
HASH_BYTES = 16
UNKNOWN_PIXELS = np.zeros(HASH_BYTES, np.uint8)
"""The content hash of a sample whose image was not at hand when its logits were stored."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_CHECKSUM_BYTES = 16
# With this version HDF5 keeps checksums of its own structures too, and every HDF5 since 1.10 reads it.
_HDF5_VERSION = h5py.h5f.LIBVER_V110
_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError)

Columns = Mapping[str, np.ndarray]
"""The rows of a store by dataset name: sample_id (UTF-8 bytes, dtype S), content_hash, label, logits."""


class DamagedError(InputError):
    """The file is not, or no longer, a whole logit store: something else, truncated, or changed."""


@dataclass(frozen=True, eq=False)
class Content:
    """One file, read and checked."""

    header: LogitHeader
    rows_per_block: int
    columns: Columns


def encode_ids(ids: np.ndarray) -> np.ndarray:
    """Return str [N] as UTF-8 bytes [N] (dtype S, marked as UTF-8 for HDF5)."""
    ids = np.asarray(ids, dtype=str)
    try:
        encoded = ids.astype("S")  # only ASCII, but three times as fast
    except UnicodeEncodeError:
        encoded = np.char.encode(ids, "utf-8")
    return encoded.view(h5py.string_dtype("utf-8", encoded.dtype.itemsize))


def decode_ids(ids: np.ndarray) -> np.ndarray:
    """Return UTF-8 bytes [N] (dtype S) as str [N]."""
    try:
        return ids.astype("U")
    except UnicodeDecodeError:
        return np.char.decode(ids, "utf-8")


def write_content(
    path: Path,
    header: LogitHeader,
    blocks: Iterable[Columns],
    *,
    kind: str,
    rows: int,
    rows_per_block: int,
    id_bytes: int,
    first_row: int = 0,
) -> None:
    """Write one file, block by block, holding one block at a time.

    Args:
        blocks: `rows_per_block` rows each, the last one what is left of `rows`.
        kind: `STORE` or `PART`.
        id_bytes: length of the longest sample id.
        first_row: where the rows stand in the finished store.
    """
    extent = {"kind": kind, "first_row": first_row, "rows": rows, "rows_per_block": rows_per_block}
    with _created(path) as file:
        _write_header(file, {**extent, **header.to_dict()})
        chunk = min(rows, rows_per_block)
        datasets = {
            name: file.create_dataset(name, (rows, *shape), dtype, chunks=(chunk, *shape))
            for name, (dtype, shape) in _columns(header, id_bytes).items()
        }
        checksums = []
        for number, block in enumerate(blocks):
            start = number * rows_per_block
            for name, dataset in datasets.items():
                dataset[start : start + len(block[name])] = block[name]
            checksums.append(_block_checksum(block))
        file["checksum"] = np.stack(checksums)


def read_content(path: Path, *, kind: str) -> Content:
    """Read one file whole and check it against its checksums.

    Raises:
        DamagedError: it is something else, or was truncated or changed.
        InputError: it is missing, of another kind or of another format version.
    """
    _check_signature(path)
    try:
        with h5py.File(path, "r") as file:
            header = _checked_header(path, file, kind)
            logit_header = LogitHeader.from_dict(header)
            columns = _checked_columns(file, logit_header, header["rows"], header["rows_per_block"])
            return Content(logit_header, header["rows_per_block"], columns)
    except InputError:
        raise
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0]
        raise DamagedError(f"{path} is damaged ({reason}): delete it and write it again with {COMMAND}") from error


def _columns(header: LogitHeader, id_bytes: int) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Return the dtype and the shape of a row for each column."""
    return {
        "sample_id": (h5py.string_dtype("utf-8", id_bytes), ()),
        "content_hash": (np.dtype("u1"), (HASH_BYTES,)),
        "label": (np.dtype("<i8"), ()),
        "logits": (np.dtype(header.logits_dtype).newbyteorder("<"), (header.views, len(header.class_names))),
    }


def _created(path: Path) -> h5py.File:
    creation, access = (h5py.h5p.create(kind) for kind in (h5py.h5p.FILE_CREATE, h5py.h5p.FILE_ACCESS))
    creation.set_obj_track_times(False)  # so that the same logits give the same bytes
    access.set_libver_bounds(_HDF5_VERSION, _HDF5_VERSION)
    return h5py.File(h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, creation, access))


def _block_checksum(block: Columns) -> np.ndarray:
    digest = hashlib.blake2b(digest_size=_CHECKSUM_BYTES)
    for name in ("sample_id", "content_hash", "label", "logits"):
        column = block[name]
        digest.update(column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def _write_header(file: h5py.File, header: Mapping) -> None:
    text = json.dumps(header).encode()
    file.attrs["format_version"] = LogitHeader.format_version
    file.attrs["header"] = np.bytes_(text)
    file.attrs["header_checksum"] = np.bytes_(_header_checksum(text))


def _header_checksum(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_CHECKSUM_BYTES).hexdigest().encode()


def _check_signature(path: Path) -> None:
    expected = f"expected a file that {COMMAND} wrote"
    try:
        with open(path, "rb") as file:
            signature = file.read(len(_SIGNATURE))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: {expected}") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder, not a logit store: {expected}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {expected}") from error
    if signature != _SIGNATURE:
        raise DamagedError(f"{path} is not a logit store: {expected}")


def _checked_header(path: Path, file: h5py.File, kind: str) -> dict:
    if not {"format_version", "header", "header_checksum"} <= set(file.attrs):
        raise InputError(f"{path} is HDF5, but not a logit store: expected a file that {COMMAND} wrote")
    version, known = file.attrs["format_version"], LogitHeader.format_version
    if version != known:
        raise InputError(
            f"{path} has logit format version {version}, this program reads version {known}: "
            f"use the program that wrote it, or delete it and write it again with {COMMAND}"
        )
    if file.attrs["header_checksum"] != _header_checksum(file.attrs["header"]):
        raise ValueError("the header does not match its checksum")
    header = json.loads(file.attrs["header"])
    if header["kind"] != kind:
        raise InputError(
            f"{path} is a {header['kind']}, expected a {kind}: run {COMMAND} again to finish what it began"
        )
    return header


def _checked_columns(file: h5py.File, header: LogitHeader, rows: int, rows_per_block: int) -> Columns:
    columns = {}
    for name, (dtype, shape) in _columns(header, file["sample_id"].dtype.itemsize).items():
        dataset = file[name]
        if dataset.dtype != dtype or dataset.shape != (rows, *shape):
            raise ValueError(f"{name} is {dataset.dtype}{dataset.shape}, expected {dtype}{(rows, *shape)}")
        columns[name] = dataset[()]
    checksums = file["checksum"][()]
    for number, start in enumerate(range(0, rows, rows_per_block)):
        block = {name: column[start : start + rows_per_block] for name, column in columns.items()}
        if not np.array_equal(_block_checksum(block), checksums[number]):
            raise ValueError(f"rows {start} to {start + len(block['label']) - 1} do not match their checksum")
    return columns
