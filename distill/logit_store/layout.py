"""The bytes of a logit store: HDF5 datasets in blocks of rows, a checksum for each block and the header.

A finished store and a part of an unfinished one are the same kind of file; the attribute `kind` tells
them apart. docs/logit_format.md describes both for other readers.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import h5py
import numpy as np

from distill.errors import InputError
from distill.logit_store.header import LogitHeader
from distill.logit_store.patient_file import PatientFile

STORE, PART = "logit store", "part of a logit store"
COMMAND = "python -m distill.teacher_logits"
HASH_BYTES = 16
UNKNOWN_PIXELS = np.zeros(HASH_BYTES, np.uint8)
"""The content hash of a sample whose image was not at hand when its logits were stored."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_CHECKSUM_BYTES = 16
# With this version HDF5 keeps checksums of its own structures too, and every HDF5 since 1.10 reads it.
_HDF5_VERSION = h5py.h5f.LIBVER_V110
_ROWS_AT_ONCE = 65536  # small blocks are read together
_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError)

_COLUMNS = ("sample_id", "content_hash", "label", "logits")
Columns = Mapping[str, np.ndarray]
"""The rows of a store by dataset name: sample_id (UTF-8 bytes, dtype S), content_hash, label, logits."""


class DamagedError(InputError):
    """The file is not, or no longer, a whole logit store: something else, truncated, or changed."""


@dataclass(frozen=True)
class Extent:
    """Which rows of the finished store a file holds, and how they are cut into blocks."""

    first_row: int
    rows: int
    rows_per_block: int
    store_rows: int | None
    """Rows of the finished store. None in a part that an earlier version wrote."""


@dataclass(frozen=True, eq=False)
class Content:
    """One file, checked; its rows but for the logits."""

    path: Path
    kind: str
    header: LogitHeader
    extent: Extent
    columns: Columns
    """Without "logits"."""


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
    extent: Extent,
    id_bytes: int,
) -> None:
    """Write one file, block by block, holding one block at a time.

    Args:
        blocks: `extent.rows_per_block` rows each, the last one what is left.
        kind: `STORE` or `PART`.
        id_bytes: length of the longest sample id.

    Raises:
        OSError: there is no room for it, or no permission.
    """
    rows = extent.rows
    with _created(path) as file:
        _write_header(file, {"kind": kind, **asdict(extent), **header.to_dict()})
        chunk = min(rows, extent.rows_per_block)
        datasets = {
            name: file.create_dataset(name, (rows, *shape), dtype, chunks=(chunk, *shape))
            for name, (dtype, shape) in _columns(header, id_bytes).items()
        }
        checksums = []
        for number, block in enumerate(blocks):
            start = number * extent.rows_per_block
            for name, dataset in datasets.items():
                dataset[start : start + len(block[name])] = block[name]
            checksums.append(_block_checksum(block))
        file["checksum"] = np.stack(checksums)


def read_content(path: Path, *, kind: str) -> Content:
    """Read one file and check all of it against its checksums, holding a few blocks of logits at a time.

    Raises:
        DamagedError: it is something else, or was truncated or changed, or holds logits that are not finite.
        InputError: it is missing, of another kind or of another format version.
    """
    with _opened(path, kind) as (file, header, extent):
        columns = {
            name: np.empty((extent.rows, *shape), dtype)
            for name, (dtype, shape) in _columns(header, file["sample_id"].dtype.itemsize).items()
            if name != "logits"
        }
        for start, span in _checked_spans(file, header, extent):
            for name, column in columns.items():
                column[start : start + len(span[name])] = span[name]
        return Content(Path(path), kind, header, extent, columns)


def read_logits(content: Content) -> np.ndarray:
    """Return float32 [rows, views, classes], checked again.

    Raises:
        DamagedError: the file has changed since it was opened.
    """
    header, rows = content.header, content.extent.rows
    logits = np.empty((rows, header.views, len(header.class_names)), np.float32)
    for start, span in _read_spans(content):
        logits[start : start + len(span["logits"])] = span["logits"]
    return logits


def read_blocks(content: Content) -> Iterator[Columns]:
    """Yield the rows of a file block by block, checked again.

    Raises:
        DamagedError: the file has changed since it was opened.
    """
    rows_per_block = content.extent.rows_per_block
    for _, span in _read_spans(content):
        for start in range(0, len(span["label"]), rows_per_block):
            yield {name: column[start : start + rows_per_block] for name, column in span.items()}


def _read_spans(content: Content) -> Iterator[tuple[int, Columns]]:
    with _opened(content.path, content.kind) as (file, header, extent):
        if (header, extent) != (content.header, content.extent):
            raise ValueError("it has changed since it was opened")
        yield from _checked_spans(file, header, extent)


def _columns(header: LogitHeader, id_bytes: int) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Return the dtype and the shape of a row for each column."""
    return {
        "sample_id": (h5py.string_dtype("utf-8", id_bytes), ()),
        "content_hash": (np.dtype("u1"), (HASH_BYTES,)),
        "label": (np.dtype("<i8"), ()),
        "logits": (np.dtype(header.logits_dtype).newbyteorder("<"), (header.views, len(header.class_names))),
    }


@contextmanager
def _created(path: Path) -> Iterator[h5py.File]:
    with closing(PatientFile(path)) as file, h5py.File(_create_in(file, path)) as hdf5:
        yield hdf5


def _create_in(file: PatientFile, path: Path) -> h5py.h5f.FileID:
    # A function of its own, so that no traceback keeps the property lists: they must not outlive h5py.
    creation, access = (h5py.h5p.create(kind) for kind in (h5py.h5p.FILE_CREATE, h5py.h5p.FILE_ACCESS))
    creation.set_obj_track_times(False)  # so that the same logits give the same bytes
    access.set_libver_bounds(_HDF5_VERSION, _HDF5_VERSION)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, file)
    return h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, creation, access)


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[tuple[h5py.File, LogitHeader, Extent]]:
    """Open a file of this format; whatever its bytes make HDF5 or the reader say is one kind of error."""
    _check_signature(path)
    try:
        with h5py.File(path, "r") as file:
            header = _checked_header(path, file, kind)
            extent = Extent(**{field.name: header.get(field.name) for field in fields(Extent)})
            yield file, LogitHeader.from_dict(header), extent
    except InputError:
        raise
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0]
        raise DamagedError(f"{path} is damaged ({reason}): delete it and write it again with {COMMAND}") from error


def _block_checksum(block: Columns) -> np.ndarray:
    digest = hashlib.blake2b(digest_size=_CHECKSUM_BYTES)
    for name in _COLUMNS:
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


def _checked_spans(file: h5py.File, header: LogitHeader, extent: Extent) -> Iterator[tuple[int, Columns]]:
    """Yield the rows, several blocks at a time, each checked, with the position of the first."""
    for name, (dtype, shape) in _columns(header, file["sample_id"].dtype.itemsize).items():
        dataset = file[name]
        if dataset.dtype != dtype or dataset.shape != (extent.rows, *shape):
            raise ValueError(f"{name} is {dataset.dtype}{dataset.shape}, expected {dtype}{(extent.rows, *shape)}")
    checksums = file["checksum"][()]
    rows_per_block = extent.rows_per_block
    step = max(_ROWS_AT_ONCE // rows_per_block, 1) * rows_per_block
    for start in range(0, extent.rows, step):
        span = {name: file[name][start : start + step] for name in _COLUMNS}
        _check_span(span, start, rows_per_block, checksums[start // rows_per_block :])
        yield start, span


def _check_span(span: Columns, start: int, rows_per_block: int, checksums: np.ndarray) -> None:
    for number, first in enumerate(range(0, len(span["label"]), rows_per_block)):
        block = {name: column[first : first + rows_per_block] for name, column in span.items()}
        if not np.array_equal(_block_checksum(block), checksums[number]):
            last = start + first + len(block["label"]) - 1
            raise ValueError(f"rows {start + first} to {last} do not match their checksum")
    bad = int((~np.isfinite(span["logits"])).sum())
    if bad:
        raise ValueError(f"it holds {bad} logits that are NaN or infinite")
