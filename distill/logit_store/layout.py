"""The bytes of a logit store: HDF5 datasets in blocks of rows, a checksum for each block and the header; written.

A finished store and a part of an unfinished one are the same kind of file; the attribute `kind` says
which it is. docs/logit_format.md describes both for other readers.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np

from distill.data.columns import TEXT, encoded
from distill.logit_store.header import LogitHeader
from distill.logit_store.interrupts import uninterrupted
from distill.logit_store.patient_file import PatientFile

STORE, PART = "logit store", "part of a logit store"
COMMAND = "python -m distill.teacher_logits"
HASH_BYTES = 16
UNKNOWN_PIXELS = np.zeros(HASH_BYTES, np.uint8)
"""The content hash of a sample whose image was not available when its logits were stored."""

CHECKSUM_BYTES = 16
# With this version HDF5 keeps checksums of its own structures too, and every HDF5 since 1.10 reads it.
_HDF5_VERSION = h5py.h5f.LIBVER_V110

COLUMN_NAMES = ("sample_id", "content_hash", "label", "logits")
Columns = Mapping[str, np.ndarray]
"""The rows of a store by dataset name: sample_id (UTF-8 bytes, dtype S), content_hash, label, logits; and features,
as they are stored, by `feature_names`."""

Types = Mapping[str, tuple[np.dtype, tuple[int, ...]]]
"""The dtype and the shape of a row for each column."""


@dataclass(frozen=True)
class Extent:
    """Which rows of the finished store a file holds, and how they are cut into blocks.

    Raises:
        ValueError: no such rows can be.
    """

    first_row: int
    rows: int
    rows_per_block: int
    store_rows: int | None = None
    """Rows of the finished store. None in a part that an earlier version wrote."""

    def __post_init__(self):
        for name, least in (("first_row", 0), ("rows", 1), ("rows_per_block", 1), ("store_rows", 1)):
            value = getattr(self, name)
            if not (type(value) is int and least <= value < 2**63 or name == "store_rows" and value is None):
                raise ValueError(f"{name} is {value}, expected a whole number from {least} on")
        if self.store_rows is not None and self.first_row + self.rows > self.store_rows:
            raise ValueError(f"rows {self.first_row} to {self.first_row + self.rows - 1} of {self.store_rows}")


def encode_ids(ids: np.ndarray, id_bytes: int | None = None) -> np.ndarray:
    """Return text [N] as UTF-8 bytes [N] (dtype S, marked as UTF-8 for HDF5), by default as wide as the longest."""
    column = encoded(ids, id_bytes)
    return column.view(h5py.string_dtype("utf-8", column.dtype.itemsize))


def decode_ids(ids: np.ndarray) -> np.ndarray:
    """Return UTF-8 bytes [N] (dtype S), which are known to be that, as a column of text [N]."""
    return ids.astype(TEXT)


def feature_names(number: int) -> tuple[str, str]:
    """Return the names of two datasets: the values of the feature of this number, and their checksums.

    Features are numbered, because the name of a layer may be a path or worse to HDF5.
    """
    return f"feature_{number:02d}", f"feature_{number:02d}_checksum"


def feature_types(header: LogitHeader) -> Types:
    """Return the types of the features' values."""
    return {
        feature_names(number)[0]: (each.stored_as, (header.views, *each.shape))
        for number, each in enumerate(header.features)
    }


def column_types(header: LogitHeader, id_bytes: int) -> Types:
    """Return the types of the columns that have a checksum for each block: all but the features' values.

    Of these it covers the checksums, one for each view of each row.
    """
    of_features = {
        feature_names(number)[1]: (np.dtype("u1"), (header.views, CHECKSUM_BYTES))
        for number in range(len(header.features))
    }
    return {
        "sample_id": (h5py.string_dtype("utf-8", id_bytes), ()),
        "content_hash": (np.dtype("u1"), (HASH_BYTES,)),
        "label": (np.dtype("<i8"), ()),
        "logits": (np.dtype(header.logits_dtype).newbyteorder("<"), (header.views, len(header.class_names))),
        **of_features,
    }


def feature_checksums(values: np.ndarray) -> np.ndarray:
    """Return uint8 [..., 16]: the checksum of each piece of bytes in uint8 [..., bytes]."""
    pieces = values.reshape(-1, values.shape[-1])
    digests = [hashlib.blake2b(piece.data, digest_size=CHECKSUM_BYTES).digest() for piece in pieces]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(*values.shape[:-1], CHECKSUM_BYTES)


def block_checksum(block: Columns, names: Iterable[str] = COLUMN_NAMES) -> np.ndarray:
    """Return uint8 [16]: the checksum of a block of rows, over the columns `names`."""
    digest = hashlib.blake2b(digest_size=CHECKSUM_BYTES)
    for name in names:
        column = block[name]
        digest.update(column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def header_checksum(text: bytes) -> bytes:
    """Return the checksum of the header's JSON text, in hexadecimal."""
    return hashlib.blake2b(text, digest_size=CHECKSUM_BYTES).hexdigest().encode()


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
        blocks: `extent.rows_per_block` rows each, the last one what is left; features without their checksums.
        kind: `STORE` or `PART`.
        id_bytes: length of the longest sample id.

    Raises:
        OSError: there is no room for it, or no permission.
        KeyboardInterrupt: Ctrl-C, between two blocks or at the end.
    """
    with uninterrupted() as let_through, _created(path) as file:
        _write_header(file, {"kind": kind, **asdict(extent), **header.to_dict()}, version=header.format_version)
        datasets = _datasets(file, extent, column_types(header, id_bytes), feature_types(header))
        _write_blocks(file, blocks, extent, datasets, features=feature_types(header), after_each=let_through)


def _datasets(file: h5py.File, extent: Extent, columns: Types, features: Types) -> dict[str, h5py.Dataset]:
    """Make the empty datasets; columns in blocks, and what is read by its place in one piece."""
    chunk = min(extent.rows, extent.rows_per_block)
    in_one_piece = {*features, *(columns.keys() - set(COLUMN_NAMES))}
    return {
        name: file.create_dataset(
            name, (extent.rows, *shape), dtype, chunks=None if name in in_one_piece else (chunk, *shape)
        )
        for name, (dtype, shape) in {**columns, **features}.items()
    }


def _write_blocks(
    file: h5py.File,
    blocks: Iterable[Columns],
    extent: Extent,
    datasets: Mapping[str, h5py.Dataset],
    *,
    features: Iterable[str],
    after_each: Callable[[], None],
) -> None:
    names = [name for name in datasets if name not in features]
    checksums = []
    for number, block in enumerate(blocks):
        start = number * extent.rows_per_block
        block = {**block, **_checksums_of_features(block, features)}
        for name, dataset in datasets.items():
            dataset[start : start + len(block[name])] = block[name]
        checksums.append(block_checksum(block, names))
        after_each()
    file["checksum"] = np.stack(checksums)


def _checksums_of_features(block: Columns, features: Iterable[str]) -> Columns:
    found = {}
    for number, name in enumerate(features):
        values = np.ascontiguousarray(block[name])
        found[feature_names(number)[1]] = feature_checksums(values.view(np.uint8).reshape(*values.shape[:2], -1))
    return found


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


def _write_header(file: h5py.File, header: Mapping, *, version: int) -> None:
    text = json.dumps(header).encode()
    file.attrs["format_version"] = version
    file.attrs["header"] = np.bytes_(text)
    file.attrs["header_checksum"] = np.bytes_(header_checksum(text))
