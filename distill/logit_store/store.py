"""`LogitStore`: stored logits in memory, joined to a data set by sample id and content hash, or by file name."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from distill.data.dataset import Dataset
from distill.errors import InputError
from distill.logit_store.header import LogitHeader
from distill.logit_store.layout import COMMAND, STORE, UNKNOWN_PIXELS, decode_ids, read_content


@dataclass(frozen=True, eq=False)
class LogitStore:
    """The logits that a teacher gave, and what they were computed from. `open_logits` reads it."""

    path: Path
    header: LogitHeader
    sample_ids: np.ndarray
    """str [N]."""
    content_hashes: np.ndarray
    """uint8 [N, 16]: `Dataset.content_hashes` of the images that the teacher saw, or `UNKNOWN_PIXELS`."""
    labels: np.ndarray
    """int64 [N]."""
    logits: np.ndarray
    """float32 [N, views, classes], raw, at temperature 1."""

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the logits."""
        return self.header.class_names

    @property
    def view_spec(self) -> Mapping:
        """How the views were drawn."""
        return self.header.view_spec

    @property
    def pixels_known(self) -> bool:
        """Whether `join` can compare pixels; it cannot in a store of published logits, which came without images."""
        return bool((self.content_hashes != UNKNOWN_PIXELS).any())

    def join(self, dataset: Dataset) -> np.ndarray:
        """Return float32 [len(dataset), views, classes]: the logits of `dataset`, in its order.

        Samples are found by id and their pixels compared by content hash; where they stand does not
        matter. Labels are not compared: a corrected label leaves the image and its logits as they were.
        Where no pixels are known (`pixels_known`) none are compared, and a sample whose id the store does
        not have is found by its file name, the last part of an id.

        Raises:
            InputError: other class names or another order of them, a sample without logits, an image
                that is not the one the teacher saw, or a file name that two samples share.
        """
        if tuple(dataset.class_names) != self.class_names:
            raise InputError(
                f"class names of {self.path} and {dataset.name} differ: stored {_listed(self.class_names)}, "
                f"expected {_listed(dataset.class_names)}: give data of the stored classes in that order, "
                f"or write its logits with {COMMAND}"
            )
        rows = self._rows_of(dataset)
        if self.pixels_known:
            self._check_hashes(rows, dataset)
        return self.logits[rows]

    @cached_property
    def _row_by_id(self) -> dict[str, int]:
        return {sample_id: row for row, sample_id in enumerate(self.sample_ids.tolist())}

    def _rows_of(self, dataset: Dataset) -> np.ndarray:
        rows = np.array([self._row_by_id.get(i, -1) for i in dataset.ids.tolist()], np.int64)
        if not self.pixels_known and (rows < 0).any():
            rows = self._rows_by_file_name(rows, dataset)
        absent = dataset.ids[rows < 0].tolist()
        if absent:
            first = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
            raise InputError(
                f"{self.path} has no logits for {len(absent)} of {len(dataset)} samples of {dataset.name} "
                f"({first}): give the data that it was written for, {self.header.dataset_name}, "
                f"or write logits with {COMMAND}"
            )
        return rows

    def _rows_by_file_name(self, rows: np.ndarray, dataset: Dataset) -> np.ndarray:
        """Return `rows`, where those that are -1 are looked up by file name."""
        stored = _by_file_name(self.sample_ids, self.path)
        wanted = _by_file_name(dataset.ids, dataset.name)
        return np.array([row if row >= 0 else stored.get(name, -1) for name, row in zip(wanted, rows, strict=True)])

    def _check_hashes(self, rows: np.ndarray, dataset: Dataset) -> None:
        stored, expected = self.content_hashes[rows], dataset.content_hashes
        changed = np.flatnonzero((stored != expected).any(1))
        if len(changed):
            first = changed[0]
            raise InputError(
                f"{len(changed)} of {len(dataset)} images of {dataset.name} are not those that "
                f"{self.path} was written for, the first {dataset.ids[first]}: "
                f"stored {stored[first].tobytes().hex()}, expected {expected[first].tobytes().hex()}: "
                f"give the same images, or write their logits with {COMMAND}"
            )


def open_logits(path: str | os.PathLike) -> LogitStore:
    """Read a logit store into memory, checked against its checksums before anything is used.

    Raises:
        InputError: `path` is missing, something else, of another format version, or damaged, or it holds
            logits that are not finite.
    """
    path = Path(path)
    if not path.exists() and Path(f"{path}.parts").is_dir():
        raise InputError(f"{path} is not finished: run {COMMAND} again with the same settings to finish it")
    content = read_content(path, kind=STORE)
    columns = content.columns
    bad = int((~np.isfinite(columns["logits"])).sum())
    if bad:
        raise InputError(f"{path} holds {bad} logits that are NaN or infinite: delete it and write it with {COMMAND}")
    return LogitStore(
        path=path,
        header=content.header,
        sample_ids=decode_ids(columns["sample_id"]),
        content_hashes=columns["content_hash"],
        labels=columns["label"],
        logits=columns["logits"].astype(np.float32, copy=False),
    )


def _by_file_name(ids: np.ndarray, where: str | os.PathLike) -> dict[str, int]:
    """Return the position of each file name, in the order of `ids`; the paths may be those of any system."""
    positions = {}
    for position, sample_id in enumerate(ids.tolist()):
        name = re.split(r"[/\\]", sample_id)[-1]
        if name in positions:
            raise InputError(
                f"{where} has two samples of the file name {name} ({ids[positions[name]]}, {sample_id}): "
                "logits of unknown pixels are joined by file name, which must be unique on both sides"
            )
        positions[name] = position
    return positions


def _listed(names: tuple[str, ...]) -> str:
    return f"[{', '.join(names)}]"
