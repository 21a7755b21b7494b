"""NumPy's `.npy` format, read strictly: NumPy's own reader believes a header, and evaluates what it says."""

import ast
import io
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from distill.errors import InputError
from distill.files.busy_files import reading
from distill.files.regular_files import check_regular

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
_LONGEST = 10_000  # bytes of a header, as in NumPy
_DIMENSIONS, _KEYS = 32, {"descr", "fortran_order", "shape"}
_PLAIN = "biufcSU"  # kinds of values that are no objects


@dataclass(frozen=True)
class NpyHeader:
    """What a `.npy` file says of its array; the values are exactly as long as that."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool
    start: int
    """Where in the file the values begin, bytes."""

    @property
    def bytes(self) -> int:
        """Of all values together."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes], *, size: int) -> NpyHeader:
    """Read the header at the beginning of a `.npy` file.

    Args:
        size: of the file, bytes.

    Raises:
        ValueError: it is none; objects, which are pickles; or other values than there are.
    """
    start = file.read(len(_MAGIC) + 2)
    if len(start) < len(_MAGIC) + 2 or not start.startswith(_MAGIC):
        raise ValueError("it does not begin as a file of NumPy")
    version = tuple(start[-2:])
    if version not in _LENGTH_BYTES:
        raise ValueError(f"it is of the format version {version[0]}.{version[1]}, known are 1.0, 2.0 and 3.0")
    length_bytes = file.read(_LENGTH_BYTES[version])
    length = int.from_bytes(length_bytes, "little")
    if not 0 < length <= _LONGEST:
        raise ValueError(f"its header has {length:,} bytes")
    text = file.read(length)
    values = _dictionary(text.decode("utf-8" if version == (3, 0) else "latin1"))
    begins = len(start) + len(length_bytes) + len(text)
    header = NpyHeader(_shape(values["shape"]), _dtype(values["descr"]), values["fortran_order"], begins)
    if header.bytes != size - begins:
        raise ValueError(f"it holds {size - begins:,} bytes of values, its header says {header.bytes:,}")
    return header


def read_array(file: IO[bytes], *, size: int) -> np.ndarray:
    """Return the array in a `.npy` file.

    Raises:
        ValueError: as `read_header`; or it became shorter.
    """
    header = read_header(file, size=size)
    content = bytearray(file.read(header.bytes))
    if len(content) != header.bytes:
        raise ValueError("it ends before its last value")
    values = np.frombuffer(content, header.dtype)
    return values.reshape(header.shape, order="F" if header.fortran_order else "C")


def load_array(path: str | os.PathLike) -> np.ndarray:
    """Return the array in the `.npy` file at `path`.

    Raises:
        ValueError: as `read_array`.
        InputError: it is not a regular file, or cannot be read now.
    """
    check_regular(path)
    with reading(path), open(path, "rb") as file:
        return read_array(file, size=os.fstat(file.fileno()).st_size)


def open_rows(path: str | os.PathLike) -> "RowsOnDisk | np.ndarray":
    """Return the array in the `.npy` file at `path`, whose rows stay on disk, where they lie one behind the other.

    Raises:
        ValueError: as `read_header`.
        InputError: it is not a regular file, or cannot be read now.
    """
    check_regular(path)
    with reading(path):
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - as long as the rows are used
        try:
            header = read_header(file, size=os.fstat(file.fileno()).st_size)
        except (ValueError, OSError):
            file.close()
            raise
    if header.fortran_order or not header.shape:
        file.close()
        return load_array(path)
    return RowsOnDisk(path, file, header)


class RowsOnDisk:
    """An array of which rows are read when they are asked for. `open_rows` makes it.

    It is not mapped into memory: where a mapped file becomes shorter, the system ends the process without a word.
    """

    def __init__(self, path: str | os.PathLike, file: io.FileIO, header: NpyHeader):
        self._path, self._file, self._header = Path(path), file, header
        self._lock = threading.Lock()
        self.shape, self.dtype = header.shape, header.dtype

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._path, self._header)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def reshape(self, *shape: int) -> "RowsOnDisk":
        """Return the same rows, each in another shape."""
        return RowsOnDisk(self._path, self._file, replace(self._header, shape=shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return some rows, in any order.

        Args:
            rows: int [n], 0..N-1; those that lie side by side are read at once.

        Raises:
            InputError: the file has become shorter.
        """
        rows = np.asarray(rows)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        ends = np.flatnonzero(np.diff(rows) != 1) + 1
        for first, stop in zip((0, *ends), (*ends, len(rows)), strict=True):
            if stop > first:
                self._read_into(found[first:stop], int(rows[first]))
        return found

    def _read_into(self, found: np.ndarray, first: int) -> None:
        start = self._header.start + first * (self._header.bytes // len(self))
        content = found.reshape(-1).view(np.uint8).data
        with self._lock, reading(self._path):  # several threads may share it, and its position
            self._file.seek(start)
            while content:
                count = self._file.readinto(content)
                if not count:
                    raise InputError(f"{self._path} has become shorter since it was opened: give it whole")
                content = content[count:]


def _reopened(path: Path, header: NpyHeader) -> RowsOnDisk:
    """Return the rows that another process has opened.

    Raises:
        InputError: the file is gone, or cannot be read now.
    """
    with reading(path):
        try:
            return RowsOnDisk(path, open(path, "rb", buffering=0), header)
        except FileNotFoundError as error:
            raise InputError(f"{path} is gone: give it whole") from error


def _dictionary(text: str) -> Mapping[str, Any]:
    try:
        values = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("its header cannot be read") from error
    if not isinstance(values, dict) or values.keys() != _KEYS or type(values["fortran_order"]) is not bool:
        raise ValueError(f"its header does not say {', '.join(sorted(_KEYS))}")
    return values


def _shape(shape: Any) -> tuple[int, ...]:
    fits = isinstance(shape, tuple) and len(shape) <= _DIMENSIONS
    if not fits or not all(type(side) is int and 0 <= side < 2**48 for side in shape) or math.prod(shape) >= 2**60:
        raise ValueError(f"its shape is {str(shape)[:80]}")
    return shape


def _dtype(description: Any) -> np.dtype:
    """Return the type of the values, which are numbers or text, one each."""
    try:
        dtype = np.dtype(description) if isinstance(description, str) else None
    except (TypeError, ValueError, SyntaxError) as error:
        raise ValueError(f"its values are of an unknown type, {description[:80]!r}") from error
    if dtype is None or dtype.kind not in _PLAIN or dtype.fields or dtype.shape or not dtype.itemsize:
        received = f"its values are of the type {str(description)[:80]!r}"
        pickled = "; text that NumPy pickled is plain as np.array(text.tolist())" if description == "|O" else ""
        raise ValueError(f"{received}, expected plain numbers or text{pickled}")
    return dtype
