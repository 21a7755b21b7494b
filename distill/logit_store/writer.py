"""`LogitWriter`: logits into parts, parts into one store; a run that was cut off goes on where it stopped."""

import errno
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

import numpy as np

from distill.errors import InputError
from distill.files.busy_files import is_there
from distill.files.whole_files import atomic_file
from distill.logit_store.feature import joined_features
from distill.logit_store.header import (
    LogitHeader,
    differences,
    feature_differences,
    has_all_of,
    has_more_than,
    training_differences,
    with_what_is_known,
)
from distill.logit_store.layout import PART, STORE, Columns, Extent, feature_names, write_content
from distill.logit_store.parts import MERGE, Shard, part_path, parts_folder, remove_merged_parts, write_store
from distill.logit_store.reading import Content, DamagedError, feature_columns, read_content, read_header
from distill.logit_store.samples import SAMPLE_COLUMNS, Samples, sample_differences
from distill.logit_store.stored_samples import stored_differences
from distill.logit_store.writer_lock import WriterLock

_USUAL_ROWS, _NUMBERS_PER_PART = 512, 2**24
_NONE: Mapping[str, np.ndarray] = MappingProxyType({})


class LogitWriter:
    """Writes the logits of known samples, in parts that each appear whole or not at all.

        with LogitWriter("teacher.h5", header, sample_ids=..., content_hashes=..., labels=...) as writer:
            for rows in writer.missing():
                writer.write(rows, logits_of(rows))
            writer.finish()

    Parts lie in the folder `<path>.parts` until `finish` merges them, so a run that is killed loses at
    most the part in flight, and the same lines run again compute only what is missing. One writer at a time:
    it is locked on entry, or by the first `write`.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        header: LogitHeader,
        *,
        sample_ids: np.ndarray,
        content_hashes: np.ndarray,
        labels: np.ndarray,
        rows_per_part: int | None = 1024,
        shard: Shard | None = None,
    ):
        """Look at what is there already; nothing is written yet.

        Args:
            sample_ids: text [N], unique.
            content_hashes: uint8 [N, 16].
            labels: int [N].
            rows_per_part: rows that a kill may cost; None: 512, or fewer where their features are large.
            shard: which parts to write, where others write the rest; None writes all of them.

        Raises:
            InputError: `path` is something else than a store of these very logits, or of their first views,
                or there is no sample.
        """
        self.path, self.header = Path(path), header
        self._samples = Samples(sample_ids, content_hashes, labels, classes=len(header.class_names))
        self._shard = shard
        self._folder = parts_folder(self.path)
        if self._folder.exists() and not self._folder.is_dir():
            raise InputError(f"{self._folder} must be a folder, for parts: move it or choose another --out")
        self._lock = WriterLock(self._folder, shard)
        self._stored: LogitHeader | None = None
        self._look_at_store()
        self.rows_per_part = _usual_rows(self.header) if rows_per_part is None else rows_per_part
        self._parts = _cut(len(self._samples), self.rows_per_part, shard)

    @property
    def views_present(self) -> int:
        """Views that a finished store in `path` holds already, which the parts must repeat; 0 without one."""
        return 0 if self._stored is None else self._stored.views

    @property
    def features_present(self) -> tuple[str, ...]:
        """Names of the features that a finished store in `path` holds already, which the parts must repeat."""
        return () if self._stored is None else tuple(each.name for each in self._stored.features)

    def __enter__(self) -> "LogitWriter":
        if not self.complete:
            with self._refused_when_not_writable():
                self._lock.acquire()
            self._look_at_store()  # another writer may have finished in between
        return self

    def __exit__(self, *_) -> None:
        self._lock.release()

    @property
    def complete(self) -> bool:
        """Whether `path` holds these very logits: there is nothing to compute."""
        return self._stored is not None and has_all_of(self._stored, self.header)

    @property
    def rows(self) -> int:
        """Number of rows that this writer writes, or has written."""
        return sum(rows.stop - rows.start for rows in self._parts)

    def missing(self) -> list[slice]:
        """Return the rows still to be written, part by part.

        Parts that are there are read and checked; a damaged one counts as missing.

        Raises:
            InputError: the parts are those of other settings or other samples, or one cannot be read now.
        """
        return [] if self.complete else [rows for rows in self._parts if self._read_part(rows) is None]

    def write(self, rows: slice, logits: np.ndarray, features: Mapping[str, np.ndarray] = _NONE) -> None:
        """Write one part.

        Args:
            rows: one of the slices that `missing` returned.
            logits: float32 or float16 [rows, views, classes], raw, at temperature 1.
            features: float [rows, views, ...] of each that `header` names.

        Raises:
            InputError: another shape or dtype than the header says, or a value that is not finite.
            ValueError: `rows` are not those of one part.
        """
        if rows not in self._parts:
            raise ValueError(f"rows must be a slice that missing() returned. Received: {rows}")
        block = {**self._samples.columns(rows), "logits": self._checked_logits(rows, np.asarray(logits))}
        block |= self._checked_features(rows, features)
        with self._refused_when_not_writable():
            self._lock.acquire()
            with atomic_file(self._part_path(rows)) as temporary:
                write_content(
                    temporary,
                    self.header,
                    [block],
                    kind=PART,
                    extent=self._extent(rows),
                    id_bytes=self._samples.id_bytes,
                )

    def finish(self) -> Path:
        """Merge the parts into the store, remove them, and return the store's path; a shard only checks its parts.

        Raises:
            InputError: a part is missing or damaged, or there is no room.
        """
        if not self.complete:
            self._check_all_there()
            if self._shard is not None:
                self._lock.release()
                return self._folder
            with self._refused_when_not_writable():
                self._merge()
            self._stored = self.header
        if self._shard is None and self._folder.is_dir():
            self._remove_parts()
        self._lock.release()
        return self.path

    def _remove_parts(self) -> None:
        # The store is complete without that: where others write, or nobody can, the folder stays.
        with suppress(InputError, OSError):
            self._lock.acquire()
            remove_merged_parts(self._folder, self.header)

    def _check_all_there(self) -> None:
        absent = sum(not is_there(self._part_path(rows)) for rows in self._parts)
        if absent:
            raise InputError(
                f"{self.path} lacks {absent} of its {len(self._parts)} parts: run again to write the rest"
            )

    def _merge(self) -> None:
        # Inside the folder of the parts, so that a kill leaves nothing next to the store.
        merged = self._folder / f"merged{self.path.suffix}"
        self.header = with_what_is_known(self.header, *self._part_headers())
        with atomic_file(merged) as temporary:
            blocks = (self._finished_part(rows) for rows in self._parts)
            extent, id_bytes = self._extent(self._parts[0]), self._samples.id_bytes
            write_store(temporary, self.header, blocks, extent=extent, id_bytes=id_bytes)
        os.replace(merged, self.path)

    def _part_headers(self) -> Iterator[LogitHeader]:
        for rows in self._parts:
            with suppress(DamagedError):  # refused when it is read as a whole
                yield read_header(self._part_path(rows), kind=PART)

    def _finished_part(self, rows: slice) -> Columns:
        part = self._read_part(rows, whole=True)
        if part is None:
            raise InputError(f"{self._part_path(rows)} is damaged: run again to write it anew")
        return part.columns

    @contextmanager
    def _refused_when_not_writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = errno.errorcode.get(error.errno or 0, "") in ("ENOSPC", "EDQUOT", "EFBIG")
            mend = "make room" if full else "make it writable, or choose another --out"
            raise InputError(
                f"{self._folder} cannot be written ({error.strerror or error}): what is finished is kept; "
                f"{mend}, and give the same command again"
            ) from error

    def _extent(self, rows: slice) -> Extent:
        return Extent(
            first_row=rows.start,
            rows=rows.stop - rows.start,
            rows_per_block=self.rows_per_part,
            store_rows=len(self._samples),
        )

    def _part_path(self, rows: slice) -> Path:
        return part_path(self._folder, rows, self.rows_per_part)

    def _read_part(self, rows: slice, *, whole: bool = False) -> Content | None:
        """Return a part, with logits and features where `whole`, or None where it is missing, damaged, or merged.

        Raises:
            BusyError: it cannot be read now: it may be whole, so it is not written anew.
        """
        path = self._part_path(rows)
        if not is_there(path):
            return None
        try:
            part = read_content(path, kind=PART, columns=(*SAMPLE_COLUMNS, *["logits"] * whole))
            features = feature_columns(part)  # checked, so that a damaged one is written anew
        except DamagedError:
            return None
        if self._stored is not None and has_all_of(self._stored, part.header):
            return None  # left by the merge of the store that is to get more now
        headers = part.header, self.header
        found = differences(*headers) + training_differences(*headers) + feature_differences(*headers)
        if part.extent.rows_per_block != self.rows_per_part:
            found.append(f"rows_per_part: stored {part.extent.rows_per_block}, expected {self.rows_per_part}")
        found = found or sample_differences(part.columns, self._samples.columns(rows))
        if found:
            self._refuse_parts(part.header, found)
        return replace(part, columns={**part.columns, **features}) if whole else part

    def _refuse_parts(self, stored: LogitHeader, found: list[str]) -> NoReturn:
        mends = "choose another --out, or delete the folder to begin anew"
        if has_more_than(self.header, stored):
            mends = f"finish and merge them first ({MERGE} {self._folder} --out {self.path}), {mends}"
        raise InputError(f"{self._folder} holds parts of another run ({'; '.join(found)}): {mends}")

    def _look_at_store(self) -> None:
        """See which views and features a store in `path` has, and what it knows of the teacher that made them."""
        if not is_there(self.path):
            self._stored = None
            return
        try:
            stored = read_content(self.path, kind=STORE)
        except InputError as error:
            raise InputError(f"{error} (or choose another --out)") from error
        views, wanted = stored.header.views, self.header.views
        found = differences(stored.header, self.header, but=("views",))
        header = replace(self.header, features=joined_features(stored.header.features, self.header.features))
        if has_more_than(header, stored.header):
            found += training_differences(stored.header, self.header)
        found = found or stored_differences(stored, self._samples)
        if found:
            raise InputError(
                f"{self.path} already holds other logits ({'; '.join(found)}): "
                "choose another --out, or delete the file to write it anew"
            )
        if views > wanted:
            raise InputError(
                f"{self.path} already holds these views, and others (views: stored {views}, expected "
                f"{wanted}): use it as it is, give --views {views}, or choose another --out"
            )
        self._stored, self.header = stored.header, with_what_is_known(header, stored.header)

    def _checked_logits(self, rows: slice, logits: np.ndarray) -> np.ndarray:
        header = self.header
        shape = (rows.stop - rows.start, header.views, len(header.class_names))
        if logits.shape != shape or logits.dtype not in (np.float32, np.float16):
            raise InputError(
                f"logits of {header.teacher_name} must be float32 or float16 {list(shape)} "
                f"(rows, views, classes), received {logits.dtype} {list(logits.shape)}"
            )
        with np.errstate(over="ignore"):
            stored = logits.astype(header.logits_dtype, copy=False)
        self._check_finite(rows, stored, what="logits", dtype=header.logits_dtype)
        return stored

    def _checked_features(self, rows: slice, given: Mapping[str, np.ndarray]) -> Columns:
        """Return features as they are stored, by the names of their datasets."""
        header, columns = self.header, {}
        if given.keys() != {each.name for each in header.features}:
            named = ", ".join(each.name for each in header.features) or "none"
            raise InputError(f"features must be those of the header, {named}; received {', '.join(given) or 'none'}")
        for number, each in enumerate(header.features):
            values, shape = np.asarray(given[each.name]), (rows.stop - rows.start, header.views, *each.shape)
            if values.shape != shape or values.dtype.kind != "f":
                raise InputError(
                    f"the feature {each.name} of {header.teacher_name} must be float {list(shape)} (rows, views, "
                    f"then itself), received {values.dtype} {list(values.shape)}"
                )
            stored = each.encode(values)
            self._check_finite(rows, each.decode(stored), what=f"the feature {each.name}, numbers", dtype=each.dtype)
            columns[feature_names(number)[0]] = stored
        return columns

    def _check_finite(self, rows: slice, values: np.ndarray, *, what: str, dtype: str) -> None:
        bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
        if len(bad):
            sample_id = self._samples.ids[rows][bad[0]]
            raise InputError(
                f"{self.header.teacher_name} gave {what} that are not finite in {dtype} for {len(bad)} samples, the "
                f"first {sample_id}: check its weights, or try float32"
            )


def _usual_rows(header: LogitHeader) -> int:
    """Return how many rows a part holds: features of so many, as float32, fit into memory beside each other."""
    numbers = header.views * sum(math.prod(each.shape) for each in header.features)
    return max(1, min(_USUAL_ROWS, _NUMBERS_PER_PART // max(numbers, 1)))


def _cut(count: int, rows_per_part: int, shard: Shard | None) -> list[slice]:
    parts = [slice(start, min(start + rows_per_part, count)) for start in range(0, count, rows_per_part)]
    return parts if shard is None else parts[shard.number - 1 :: shard.of]
