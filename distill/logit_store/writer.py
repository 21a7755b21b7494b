"""`LogitWriter`: logits into parts, parts into one store; a run that was cut off goes on where it stopped."""

import os
import shutil
from pathlib import Path

import numpy as np

from distill.errors import InputError
from distill.files import written_beside
from distill.logit_store.header import LogitHeader, differences
from distill.logit_store.layout import (
    HASH_BYTES,
    PART,
    STORE,
    Columns,
    DamagedError,
    encode_ids,
    read_content,
    write_content,
)


class LogitWriter:
    """Writes the logits of known samples, in parts that each appear whole or not at all.

        writer = LogitWriter("teacher.h5", header, sample_ids=..., content_hashes=..., labels=...)
        for rows in writer.missing():
            writer.write(rows, logits_of(rows))
        writer.finish()

    Parts lie in the folder `<path>.parts` until `finish` merges them, so a run that is killed loses at
    most the part in flight, and the same lines run again compute only what is missing.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        header: LogitHeader,
        *,
        sample_ids: np.ndarray,
        content_hashes: np.ndarray,
        labels: np.ndarray,
        rows_per_part: int = 1024,
    ):
        """Look at what is there already; nothing is written yet.

        Args:
            sample_ids: str [N], unique.
            content_hashes: uint8 [N, 16].
            labels: int64 [N].
            rows_per_part: rows that a kill may cost.

        Raises:
            InputError: `path` is something else than a store of these very logits, or there is no sample.
        """
        self.path, self.header, self.rows_per_part = Path(path), header, rows_per_part
        self._samples = _checked_samples(sample_ids, content_hashes, labels)
        count = len(self._samples["label"])
        self._parts = [slice(start, min(start + rows_per_part, count)) for start in range(0, count, rows_per_part)]
        self._folder = Path(f"{self.path}.parts")
        if self._folder.exists() and not self._folder.is_dir():
            raise InputError(f"{self._folder} must be a folder, for parts: move it or choose another --out")
        self.complete = self._is_written()
        """Whether `path` holds these very logits: there is nothing to compute."""

    def missing(self) -> list[slice]:
        """Return the rows still to be written, part by part.

        Parts that are there are read and checked; a damaged one counts as missing.

        Raises:
            InputError: the parts are those of other settings or other samples.
        """
        return [] if self.complete else [rows for rows in self._parts if self._read_part(rows) is None]

    def write(self, rows: slice, logits: np.ndarray) -> None:
        """Write one part.

        Args:
            rows: one of the slices that `missing` returned.
            logits: float32 or float16 [rows, views, classes], raw, at temperature 1.

        Raises:
            InputError: another shape or dtype than the header says, or a value that is not finite.
            ValueError: `rows` are not those of one part.
        """
        if rows not in self._parts:
            raise ValueError(f"rows must be a slice that missing() returned. Received: {rows}")
        block = {**self._block(rows), "logits": self._checked_logits(rows, np.asarray(logits))}
        with written_beside(self._part_path(rows)) as temporary:
            self._write(temporary, [block], kind=PART, first_row=rows.start, rows=rows.stop - rows.start)

    def finish(self) -> Path:
        """Merge the parts into the store, remove them, and return the store's path.

        Raises:
            InputError: a part is missing or damaged.
        """
        if not self.complete:
            self._merge()
            self.complete = True
        if self._folder.is_dir():
            shutil.rmtree(self._folder)
        return self.path

    def _merge(self) -> None:
        absent = sum(not self._part_path(rows).exists() for rows in self._parts)
        if absent:
            raise InputError(
                f"{self.path} lacks {absent} of its {len(self._parts)} parts: run again to write the rest"
            )
        # Inside the folder of the parts, so that a kill leaves nothing beside the store.
        merged = self._folder / f"merged{self.path.suffix}"
        with written_beside(merged) as temporary:
            blocks = (self._finished_part(rows) for rows in self._parts)
            self._write(temporary, blocks, kind=STORE, rows=len(self._samples["label"]))
        os.replace(merged, self.path)

    def _finished_part(self, rows: slice) -> Columns:
        block = self._read_part(rows)
        if block is None:
            raise InputError(f"{self._part_path(rows)} is damaged: run again to write it anew")
        return block

    def _write(self, path, blocks, **extent) -> None:
        id_bytes = self._samples["sample_id"].dtype.itemsize
        write_content(path, self.header, blocks, rows_per_block=self.rows_per_part, id_bytes=id_bytes, **extent)

    def _part_path(self, rows: slice) -> Path:
        return self._folder / f"part-{rows.start // self.rows_per_part:05d}.h5"

    def _block(self, rows: slice) -> Columns:
        return {name: column[rows] for name, column in self._samples.items()}

    def _read_part(self, rows: slice) -> Columns | None:
        """Return the columns of a part, or None where it is missing or damaged."""
        path = self._part_path(rows)
        if not path.exists():
            return None
        try:
            part = read_content(path, kind=PART)
        except DamagedError:
            return None
        found = differences(part.header, self.header)
        if part.rows_per_block != self.rows_per_part:
            found.append(f"rows_per_part: stored {part.rows_per_block}, expected {self.rows_per_part}")
        found = found or _row_differences(part.columns, self._block(rows))
        if found:
            raise InputError(
                f"{self._folder} holds parts of another run ({'; '.join(found)}): "
                "choose another --out, or delete the folder to begin anew"
            )
        return part.columns

    def _is_written(self) -> bool:
        if not self.path.exists():
            return False
        try:
            stored = read_content(self.path, kind=STORE)
        except InputError as error:
            raise InputError(f"{error} (or choose another --out)") from error
        found = differences(stored.header, self.header)
        found = found or _row_differences(_by_id(stored.columns), _by_id(self._samples))
        if found:
            raise InputError(
                f"{self.path} already holds other logits ({'; '.join(found)}): "
                "choose another --out, or delete the file to write it anew"
            )
        return True

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
        bad = np.flatnonzero(~np.isfinite(stored).all((1, 2)))
        if len(bad):
            sample_id = self._samples["sample_id"][rows][bad[0]].decode()
            raise InputError(
                f"{header.teacher_name} gave logits that are not finite in {header.logits_dtype} for "
                f"{len(bad)} samples, the first {sample_id}: check its weights, or try float32"
            )
        return stored


def _checked_samples(sample_ids, content_hashes, labels) -> Columns:
    ids = encode_ids(sample_ids)
    hashes, labels = np.asarray(content_hashes), np.asarray(labels)
    if not len(ids):
        raise InputError("there is no sample to write logits of: expected one or more")
    if hashes.shape != (len(ids), HASH_BYTES) or hashes.dtype != np.uint8 or labels.shape != (len(ids),):
        raise ValueError(
            f"{len(ids)} ids need content hashes uint8 [{len(ids)}, {HASH_BYTES}] and as many labels. "
            f"Received: {hashes.dtype} {list(hashes.shape)}, labels {list(labels.shape)}"
        )
    different = len(set(ids.tolist()))
    if different != len(ids):
        raise InputError(f"sample ids must be unique: received {len(ids)}, of which {different} differ")
    return {"sample_id": ids, "content_hash": hashes, "label": labels.astype(np.int64)}


def _by_id(columns: Columns) -> Columns:
    order = np.argsort(columns["sample_id"], kind="stable")
    return {name: column[order] for name, column in columns.items() if name != "logits"}


def _row_differences(stored: Columns, expected: Columns) -> list[str]:
    """Return a text where the samples differ: how many they are, or the first difference."""
    if len(stored["label"]) != len(expected["label"]):
        return [f"samples: stored {len(stored['label'])}, expected {len(expected['label'])}"]
    for name, column in expected.items():
        differs = (stored[name] != column).reshape(len(column), -1).any(1)
        if differs.any():
            row = np.argmax(differs)
            return [f"{name}: stored {_shown(stored[name][row])}, expected {_shown(column[row])}"]
    return []


def _shown(value: np.ndarray | np.generic) -> str:
    """Return an id as text, a hash in hexadecimal, a label as a number."""
    if isinstance(value, bytes):
        return value.decode()
    return value.tobytes().hex() if value.shape else str(value)
