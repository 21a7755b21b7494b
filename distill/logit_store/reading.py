"""Read the files of a logit store: nothing is given out before it is checked, and little is held at a time."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from distill.errors import InputError
from distill.files.busy_files import cannot_read_now, reading
from distill.files.documents import Document, parse_json, parsed
from distill.files.hdf5_objects import plain_dataset
from distill.files.regular_files import check_regular
from distill.logit_store.file_stamp import file_stamp
from distill.logit_store.header import LogitHeader
from distill.logit_store.interrupts import uninterrupted
from distill.logit_store.layout import (
    CHECKSUM_BYTES,
    COMMAND,
    Columns,
    Extent,
    Types,
    block_checksum,
    column_types,
    feature_names,
    feature_types,
    header_checksum,
)
from distill.logit_store.samples import SAMPLE_COLUMNS, are_known, check_labels
from distill.logit_store.stored_features import DamagedError, FeaturePlace
from distill.logit_store.unlocked_file import UnlockedFile

_BYTES_AT_ONCE = 2**21  # small blocks are read together
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_ITSELF, _WHAT = "its header", "header of a logit store"
_DAMAGE = (OSError, RuntimeError, ValueError, LookupError, TypeError, ArithmeticError)


@dataclass(frozen=True, eq=False)
class Content:
    """One file, checked."""

    path: Path
    kind: str
    header: LogitHeader
    extent: Extent
    id_bytes: int
    """Length of its ids, UTF-8."""
    unknown_pixels: int
    """How many of its samples lack the content hash of their image."""
    checksums: np.ndarray
    """uint8 [blocks, 16]: of all columns, by which another file in its place is noticed."""
    sample_checksums: np.ndarray
    """uint8 [blocks, 16]: of the samples alone, so that they can be read and checked without the logits."""
    columns: Columns
    """Those that were requested."""
    features: Sequence[FeaturePlace]
    """Where its features lie, in the order of the header. They are checked when they are read."""


def read_content(path: Path, *, kind: str, columns: Collection[str] = ()) -> Content:
    """Read one file and check all of it against its checksums, holding a few blocks at a time, and the `columns`.

    Raises:
        DamagedError: it is something else, or was truncated or changed, or holds logits that are not finite.
        InputError: it is missing, of another kind or of another format version.
    """
    with uninterrupted() as let_through, _opened(path, kind) as file:
        rows, types = file.extent.rows, file.types
        kept = {name: np.empty((rows, *types[name][1]), types[name][0]) for name in columns}
        checksums, unknown_pixels = [], 0
        for start, span in _checked_spans(file):
            for name, column in kept.items():
                column[start : start + len(span[name])] = span[name]
            checksums += [block_checksum(block, SAMPLE_COLUMNS) for block in _blocks(span, file.extent)]
            unknown_pixels += int((~are_known(span["content_hash"])).sum())
            let_through()
        return Content(
            Path(path),
            kind,
            file.header,
            file.extent,
            id_bytes=types["sample_id"][0].itemsize,
            unknown_pixels=unknown_pixels,
            checksums=file.checksums,
            sample_checksums=np.stack(checksums),
            columns=kept,
            features=file.features,
        )


def visit_samples(contents: Iterable[Content], visit: Callable[[slice, Columns], object]) -> None:
    """Call `visit` with all samples of some files, many at a time, checked again: (their rows in the store, columns).

    Logits are not read.

    Raises:
        InputError: a file was written anew since it was opened.
        DamagedError: it has been damaged since.
    """
    for content in contents:
        with uninterrupted() as let_through, _reopened(content) as file:
            types = {name: file.types[name] for name in SAMPLE_COLUMNS}
            for start, span in _checked_spans(replace(file, types=types, checksums=content.sample_checksums)):
                first = content.extent.first_row + start
                visit(slice(first, first + len(span["label"])), span)
                let_through()


def read_header(path: Path, *, kind: str) -> LogitHeader:
    """Read what one file says of itself, without its rows.

    Raises:
        DamagedError, InputError: as `read_content`.
    """
    with uninterrupted(), _opened(path, kind) as file:
        return file.header


def read_logits(contents: Sequence[Content], rows: np.ndarray) -> np.ndarray:
    """Return float32 [len(rows), views, classes], checked again; only the blocks of these rows are read.

    Args:
        contents: files of one store, in the order of their rows.
        rows: int64, rows of the finished store in any order.

    Raises:
        InputError: a file was written anew since it was opened.
        DamagedError: it has been damaged since.
    """
    header = contents[0].header
    logits = np.empty((len(rows), header.views, len(header.class_names)), np.float32)
    order = None if (rows[1:] >= rows[:-1]).all() else np.argsort(rows, kind="stable")
    ascending = rows if order is None else rows[order]
    for content in contents:
        first_row = content.extent.first_row
        with uninterrupted() as let_through:
            for start, span in _read_spans(content, _blocks_of(ascending, content.extent)):
                first = first_row + start
                found = _between(ascending, first, first + len(span["label"]))
                logits[found if order is None else order[found]] = span["logits"][ascending[found] - first]
                let_through()
    return logits


def _blocks_of(ascending: np.ndarray, extent: Extent) -> np.ndarray:
    """Return the blocks of a file that hold any of these rows of the store."""
    starts = np.arange(0, extent.rows + extent.rows_per_block, extent.rows_per_block).clip(max=extent.rows)
    return np.flatnonzero(np.diff(np.searchsorted(ascending, extent.first_row + starts)))


def read_blocks(content: Content) -> Iterator[Columns]:
    """Yield the rows of a file block by block, checked again; to be used where it is `uninterrupted`.

    Raises:
        InputError: the file was written anew since it was opened.
        DamagedError: it has been damaged since.
    """
    for first, span in _read_spans(content):
        for block in _blocks(span, content.extent):
            rows = len(block["label"])
            yield {**block, **feature_columns(content, slice(first, first + rows))}
            first += rows


def feature_columns(content: Content, rows: slice | None = None) -> Columns:
    """Return the features of neighbouring rows of a file as they are stored, checked; by default of all.

    Raises:
        DamagedError: one does not match its checksum.
    """
    rows = rows or slice(0, content.extent.rows)
    return {
        feature_names(number)[0]: place.read_span(rows.start, rows.stop)
        for number, place in enumerate(content.features)
    }


def _read_spans(content: Content, blocks: np.ndarray | None = None) -> Iterator[tuple[int, Columns]]:
    with _reopened(content) as file:
        yield from _checked_spans(file, blocks)


@contextmanager
def _reopened(content: Content) -> "Iterator[_OpenFile]":
    with _opened(content.path, content.kind) as file:
        same = (file.header, file.extent) == (content.header, content.extent)
        if not (same and np.array_equal(file.checksums, content.checksums)):
            raise InputError(f"{content.path} was written anew since it was opened: open it again")
        yield file


@dataclass(frozen=True, eq=False)
class _OpenFile:
    """What a file says of itself, checked, and its datasets, not yet read."""

    header: LogitHeader
    extent: Extent
    types: Types
    datasets: Mapping[str, h5py.Dataset]
    checksums: np.ndarray
    features: Sequence[FeaturePlace]


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[_OpenFile]:
    """Open a file of this format; whatever its bytes make HDF5 or the reader say is one kind of error.

    One that another program has open is read all the same: its checksums say whether it is whole.
    """
    _check_signature(path)
    content: UnlockedFile | None = None
    try:
        stamp = file_stamp(path)  # before it is opened, so that a file in its place is noticed
        with UnlockedFile(path) as content, h5py.File(path, "r", driver="fileobj", fileobj=content) as file:
            values = _checked_header(path, file, kind)
            header = _as_damage(lambda: LogitHeader.from_dict(values, source=_ITSELF))
            if header.format_version != file.attrs["format_version"]:
                raise ValueError(f"its header is of format version {header.format_version}")
            extent = _as_damage(lambda: parsed(values, Extent, source=_ITSELF, what=_WHAT))
            types = column_types(header, plain_dataset(file, "sample_id").dtype.itemsize)
            datasets = {
                name: _checked_dataset(file, name, dtype, (extent.rows, *shape))
                for name, (dtype, shape) in types.items()
            }
            blocks = -(-extent.rows // extent.rows_per_block)
            checksums = _checked_dataset(file, "checksum", np.dtype("u1"), (blocks, CHECKSUM_BYTES))[()]
            features = _feature_places(path, file, header, extent, stamp)
            yield _OpenFile(header, extent, types, datasets, checksums, features)
    except InputError:
        raise
    except _DAMAGE as error:
        busy = cannot_read_now(content and content.failure or error, path)
        raise busy or DamagedError(_damage(path, error, content)) from error


def _feature_places(
    path: Path, file: h5py.File, header: LogitHeader, extent: Extent, stamp: tuple[int, ...]
) -> list[FeaturePlace]:
    for name, (dtype, shape) in feature_types(header).items():
        _checked_dataset(file, name, dtype, (extent.rows, *shape))
    return [
        FeaturePlace.of(file, feature_names(number), each, path=Path(path), stamp=stamp)
        for number, each in enumerate(header.features)
    ]


def _damage(path: Path, error: Exception, content: UnlockedFile | None) -> str:
    reason = str(error).partition("\n")[0]
    open_elsewhere = content is not None and content.opened_for_writing
    first = "close the program that has it open for writing, and if it is damaged still, " if open_elsewhere else ""
    return f"{path} is damaged ({reason}): {first}delete it and write it again with {COMMAND}"


def _checked_dataset(file: h5py.File, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> h5py.Dataset:
    dataset = plain_dataset(file, name)
    if dataset.dtype != dtype or dataset.shape != shape:
        raise ValueError(f"{name} is {dataset.dtype}{dataset.shape}, expected {dtype}{shape}")
    return dataset


def _check_signature(path: Path) -> None:
    expected = f"expected a file that {COMMAND} wrote"
    check_regular(path)
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder, not a logit store: {expected}")
    try:
        with reading(path), open(path, "rb") as file:
            signature = file.read(len(_SIGNATURE))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: {expected}") from None
    if signature != _SIGNATURE:
        raise DamagedError(f"{path} is not a logit store: {expected}")


def _as_damage(read: Callable[[], Document]) -> Document:
    """Return what `read` gives; what it refuses is damage, although a checksum says otherwise."""
    try:
        return read()
    except InputError as error:
        raise ValueError(str(error)) from error


def _checked_header(path: Path, file: h5py.File, kind: str) -> dict:
    if not {"format_version", "header", "header_checksum"} <= set(file.attrs):
        raise InputError(f"{path} is HDF5, but not a logit store: expected a file that {COMMAND} wrote")
    version = file.attrs["format_version"]
    if version not in LogitHeader.format_versions:
        known = " and ".join(map(str, LogitHeader.format_versions))
        raise InputError(
            f"{path} has logit format version {version}, this program reads versions {known}: "
            f"use the program that wrote it, or delete it and write it again with {COMMAND}"
        )
    text = file.attrs["header"]
    if not isinstance(text, bytes) or file.attrs["header_checksum"] != header_checksum(text):
        raise ValueError("the header does not match its checksum")
    header = _as_damage(lambda: parse_json(text, source=_ITSELF, what=_WHAT))
    found = _as_damage(lambda: parsed(header, _Kind, source=_ITSELF, what=_WHAT)).kind
    if found != kind:
        raise InputError(f"{path} is a {found}, expected a {kind}: run {COMMAND} again to finish what it began")
    return header


@dataclass
class _Kind:
    kind: str


def _checked_spans(file: _OpenFile, blocks: np.ndarray | None = None) -> Iterator[tuple[int, Columns]]:
    """Yield the rows, several blocks at a time, each checked, with the position of the first.

    Args:
        blocks: numbers of some blocks, ascending; by default all are read.
    """
    rows_per_block = file.extent.rows_per_block
    bytes_per_block = rows_per_block * sum(dtype.itemsize * math.prod(shape) for dtype, shape in file.types.values())
    if blocks is None:
        blocks = np.arange(-(-file.extent.rows // rows_per_block))
    for first, stop in _runs(blocks, at_most=max(_BYTES_AT_ONCE // bytes_per_block, 1)):
        start = first * rows_per_block
        span = {name: file.datasets[name][start : stop * rows_per_block] for name in file.types}
        _check_span(span, start, file.extent, file.checksums[first:stop])
        yield start, span


def _runs(ascending: np.ndarray, *, at_most: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the end of neighbouring numbers, `at_most` so many together."""
    for run in np.split(ascending, np.flatnonzero(np.diff(ascending) > 1) + 1):
        for start in range(0, len(run), at_most):
            part = run[start : start + at_most]
            yield int(part[0]), int(part[-1]) + 1


def _between(ascending: np.ndarray, start: int, stop: int) -> slice:
    """Return where the values from `start` up to `stop` stand."""
    return slice(*np.searchsorted(ascending, (start, stop)))


def _blocks(span: Columns, extent: Extent) -> Iterator[Columns]:
    for start in range(0, len(span["label"]), extent.rows_per_block):
        yield {name: column[start : start + extent.rows_per_block] for name, column in span.items()}


def _check_span(span: Columns, start: int, extent: Extent, checksums: np.ndarray) -> None:
    for block, checksum in zip(_blocks(span, extent), checksums, strict=True):
        last = start + len(block["label"]) - 1
        if not np.array_equal(block_checksum(block, block), checksum):
            raise ValueError(f"rows {start} to {last} do not match their checksum")
        start = last + 1
    if "logits" not in span:
        return
    _check_samples(span, classes=span["logits"].shape[-1])
    bad = int((~np.isfinite(span["logits"])).sum())
    if bad:
        raise ValueError(f"it holds {bad} logits that are NaN or infinite")


def _check_samples(span: Columns, *, classes: int) -> None:
    """Check what a checksum cannot: whoever wrote the file may have meant anything."""
    _as_damage(lambda: check_labels(span["label"], classes=classes))
    ids = span["sample_id"]
    if not ids.all():
        raise ValueError("it holds a sample without an id")
    if (np.frombuffer(ids.tobytes(), np.uint8) >= 0x80).any():  # anything else is UTF-8 as it is
        b"\n".join(ids.tolist()).decode()
