"""Read the features in a store, some views of some rows at a time: each is found by its place, and checked.

A training batch takes one view of a few rows from anywhere in a file that is larger than memory. So every view of
every row has a checksum of its own, and features lie in the file row after row, where plain reads find them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import h5py
import numpy as np

from distill.errors import InputError
from distill.files.busy_files import reading
from distill.files.hdf5_objects import plain_dataset
from distill.logit_store.feature import Feature
from distill.logit_store.file_stamp import file_stamp
from distill.logit_store.layout import CHECKSUM_BYTES, COMMAND, feature_checksums

_BYTES_AT_ONCE = 2**23


class DamagedError(InputError):
    """The file is not, or no longer, a whole logit store: something else, truncated, or changed."""


@dataclass(frozen=True)
class FeaturePlace:
    """Where the values of a feature lie in a file, and their checksums."""

    path: Path
    feature: Feature
    rows: int
    views: int
    offset: int
    checksum_offset: int
    stamp: tuple[int, ...]
    """Of the file as it was opened, see `file_stamp`."""

    @classmethod
    def of(
        cls, file: h5py.File, names: tuple[str, str], feature: Feature, *, path: Path, stamp: tuple[int, ...]
    ) -> "FeaturePlace":
        """Return the place of the datasets called `names`, of the values and of their checksums.

        Raises:
            ValueError: they do not lie in the file in one piece.
        """
        values, checksums = (plain_dataset(file, name) for name in names)
        for dataset in (values, checksums):
            if dataset.chunks is not None or dataset.id.get_offset() is None:
                raise ValueError(f"{dataset.name.lstrip('/')} does not lie in the file in one piece")
        rows, views = values.shape[:2]
        return cls(path, feature, rows, views, values.id.get_offset(), checksums.id.get_offset(), stamp)

    def read(self, rows: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Return float32 [n, *shape]: the view `views[i]` of the row `rows[i]`, int [n] each, in any order.

        Raises:
            DamagedError: one does not match its checksum, or is not finite.
            InputError: the file was written anew since it was opened.
            BusyError: it cannot be read now.
        """
        positions = np.asarray(rows) * self.views + np.asarray(views)
        with self._opened() as file:
            values = _pieces(file, self.offset, self.feature.bytes_per_view, positions)
            checksums = _pieces(file, self.checksum_offset, CHECKSUM_BYTES, positions)
        return self._finite(self._checked(values, checksums, positions))

    def read_span(self, start: int, stop: int) -> np.ndarray:
        """Return all views of neighbouring rows as stored, [stop - start, views, *shape]; errors of `read`."""
        first, positions = start * self.views, np.arange(start * self.views, stop * self.views)
        pieces = []
        with self._opened() as file:
            for offset, size in ((self.offset, self.feature.bytes_per_view), (self.checksum_offset, CHECKSUM_BYTES)):
                content = np.empty((len(positions), size), np.uint8)
                _read_at(file, offset + first * size, content)
                pieces.append(content)
        checked = self._checked(pieces[0], pieces[1], positions)
        self._finite(checked)
        return checked.reshape(stop - start, self.views, *self.feature.shape)

    def check(self) -> None:
        """Read all of it, little at a time; errors of `read`."""
        at_once = max(_BYTES_AT_ONCE // (self.views * self.feature.bytes_per_view), 1)
        for start in range(0, self.rows, at_once):
            self.read_span(start, min(start + at_once, self.rows))

    def _checked(self, values: np.ndarray, checksums: np.ndarray, positions: np.ndarray) -> np.ndarray:
        differ = np.flatnonzero((feature_checksums(values) != checksums).any(axis=1))
        stored = values.view(self.feature.stored_as).reshape(len(values), *self.feature.shape)
        if len(differ):
            row, view = divmod(int(positions[differ[0]]), self.views)
            self._damaged(f"feature {self.feature.name} of row {row}, view {view} does not match its checksum")
        return stored

    def _finite(self, stored: np.ndarray) -> np.ndarray:
        """Return stored numbers as float32, which all of them must be."""
        values = self.feature.decode(stored)
        if not np.isfinite(values).all():
            self._damaged(f"feature {self.feature.name} holds numbers that are NaN or infinite")
        return values

    def _damaged(self, reason: str) -> None:
        raise DamagedError(f"{self.path} is damaged ({reason}): delete it and write it again with {COMMAND}")

    @contextmanager
    def _opened(self) -> Iterator[FileIO]:
        with reading(self.path), open(self.path, "rb", buffering=0) as file:
            if file_stamp(file.fileno()) != self.stamp:
                raise InputError(f"{self.path} was written anew since it was opened: open it again")
            try:
                yield file
            except EOFError:
                self._damaged(f"it ends before the feature {self.feature.name} does")


def read_features(places: Sequence[tuple[int, FeaturePlace]], rows: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Return float32 [n, *shape] of a feature that lies in several files.

    Args:
        places: the first row of each file, ascending, and the place in it.
        rows: int [n], of the finished store.
        views: int [n], of each of them.
    """
    rows, views = np.asarray(rows), np.asarray(views)
    first_rows = np.array([first for first, _ in places])
    of_file = np.searchsorted(first_rows, rows, side="right") - 1
    values = np.empty((len(rows), *places[0][1].feature.shape), np.float32)
    for number in np.unique(of_file):
        here = of_file == number
        values[here] = places[number][1].read(rows[here] - first_rows[number], views[here])
    return values


def _pieces(file: FileIO, offset: int, size: int, positions: np.ndarray) -> np.ndarray:
    """Return uint8 [n, size]: what lies at the positions, counted in pieces of this size."""
    content = np.empty((len(positions), size), np.uint8)
    for piece, position in zip(content, positions.tolist(), strict=True):
        _read_at(file, offset + position * size, piece)
    return content


def _read_at(file: FileIO, offset: int, content: np.ndarray) -> None:
    """Fill an array from a position on.

    Raises:
        EOFError: the file ends before.
    """
    file.seek(offset)
    rest = content.data.cast("B") if content.size else memoryview(b"")
    while len(rest):
        read = file.readinto(rest)
        if not read:
            raise EOFError
        rest = rest[read:]
