"""Logits in a CSV file: a line for each view of a sample, a column for each class."""

import csv
import math
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from distill.data.dataset import UNLABELLED
from distill.data.expressions import canonical_name
from distill.errors import InputError
from distill.files.whole_files import atomic_file, write_json
from distill.logit_store.exchange.exported_header import MAX_HEADER_BYTES, header_document, parse_document
from distill.logit_store.exchange.logit_table import LogitTable, check_no_index, checked_ids
from distill.logit_store.layout import HASH_BYTES, UNKNOWN_PIXELS
from distill.logit_store.store import LogitStore

_OTHER_COLUMNS = ("sample_id", "view", "label", "content_hash")
_ROWS_AT_ONCE = 1024
_SHOWN = 40  # letters of a cell in an error


def header_path(path: str | os.PathLike) -> Path:
    """Return where the header of an exported CSV file lies."""
    return Path(path).with_suffix(".header.json")


def write_csv_logits(store: LogitStore, path: str | os.PathLike) -> None:
    """Write a line per view, and the header next to it; nine digits give every float32 back bit for bit.

    Raises:
        InputError: a class whose name cannot be that of a column.
    """
    bad = [name for name in store.class_names if not _is_class(name)]
    if bad:
        raise InputError(f"a class named {_shown(bad[0])} cannot be a column: export to .npz")
    with atomic_file(path) as unfinished, open(unfinished, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*_OTHER_COLUMNS, *store.class_names])
        with tqdm(total=len(store.sample_ids), desc=str(path), unit="image", leave=False, disable=None) as bar:
            for start in range(0, len(store.sample_ids), _ROWS_AT_ONCE):
                rows = slice(start, start + _ROWS_AT_ONCE)
                writer.writerows(_lines(store, rows))
                bar.update(len(store.sample_ids[rows]))
    # Last: next to other rows than its own it is refused.
    write_json(header_path(path), header_document(store))


def _lines(store: LogitStore, rows: slice) -> Iterator[list[str | int]]:
    columns = (store.sample_ids, store.labels, store.content_hashes, store.logits)
    for sample_id, label, content_hash, logits in zip(*(column[rows] for column in columns), strict=True):
        name = "" if label == UNLABELLED else store.class_names[label]
        for view, values in enumerate(logits.tolist()):
            yield [sample_id, view, name, content_hash.tobytes().hex(), *(f"{value:.9g}" for value in values)]


def read_csv_logits(path: str | os.PathLike) -> LogitTable:
    """Read what `write_csv_logits` wrote, or a stranger's file: `sample_id` and the classes are enough.

    Every other column but `view`, `label` (a class, or empty) and `content_hash` (in hexadecimal, or empty) is a
    class. Without `view` every line is view 0 of another sample.

    Raises:
        InputError: it is not a CSV, or a line is not what it should be, repeats another or is missing.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, strict=True)
            rows = _Rows(_columns(next(lines, []), path))
            for cells in tqdm(lines, desc=str(path), unit="line", leave=False, disable=None):
                if cells:
                    rows.add(cells, f"{path}, line {lines.line_num}")
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8 ({error})") from error
    return rows.table(path)


@dataclass(frozen=True)
class _Columns:
    """Where each column stands."""

    others: dict[str, int]
    classes: dict[str, int]

    def __len__(self) -> int:
        return len(self.others) + len(self.classes)


def _columns(names: Sequence[str], path: str | os.PathLike) -> _Columns:
    others: dict[str, int] = {}
    classes: dict[str, int] = {}
    check_no_index((name for name in names if not name.strip()), path)  # with a name it may be an exported class
    for position, name in enumerate(names):
        columns, name = (classes, name) if _is_class(name) else (others, name.strip().lower())
        if name in columns or (columns is others and name not in _OTHER_COLUMNS):
            raise InputError(f"{path} has the column {_shown(name)} twice, or unprintable: expected every name once")
        columns[name] = position
    if "sample_id" not in others or not classes:
        listed = ", ".join(map(_shown, names[:10])) or "none"
        raise InputError(f"{path} has the columns {listed}: expected sample_id and one for each class")
    return _Columns(others, classes)


def _is_class(name: str) -> bool:
    """Whether a column of this name is one of a class."""
    return bool(name.strip()) and name.isprintable() and name.strip().lower() not in _OTHER_COLUMNS


@dataclass
class _Sample:
    """What the lines of one sample say."""

    position: int
    facts: tuple[int, bytes]  # its label and content hash
    views: set[int] = field(default_factory=set)


class _Rows:
    """The lines read so far, in any order."""

    def __init__(self, columns: _Columns):
        self._columns = columns
        self._samples: dict[str, _Sample] = {}
        self._positions, self._views, self._logits = array("q"), array("q"), array("d")
        names = list(columns.classes)
        self._labels = {canonical_name(name): label for label, name in enumerate(names)}
        self._labels |= {name: label for label, name in enumerate(names)} | {"": UNLABELLED}

    def add(self, cells: Sequence[str], where: str) -> None:
        """Take one line; `where` is what errors call it."""
        if len(cells) != len(self._columns):
            raise InputError(f"{where} has {len(cells)} cells, the first line has {len(self._columns)}")
        others = {name: cells[position] for name, position in self._columns.others.items()}
        sample_id, view = others["sample_id"], _view(others.get("view", "0"), where)
        facts = (self._label(others.get("label", ""), where), _content_hash(others.get("content_hash", ""), where))
        sample = self._samples.setdefault(sample_id, _Sample(len(self._samples), facts))
        if view in sample.views:
            raise InputError(f"{where} gives view {view} of {_shown(sample_id)} again: expected one line for each")
        if facts != sample.facts:
            raise InputError(f"{where} gives {_shown(sample_id)} another label or content hash than a line before")
        sample.views.add(view)
        self._positions.append(sample.position)
        self._views.append(view)
        self._logits.extend(_numbers({name: cells[i] for name, i in self._columns.classes.items()}, where))

    def table(self, path: str | os.PathLike) -> LogitTable:
        """Return all lines; `path` is where they came from."""
        ids = checked_ids(list(self._samples), path)
        shape = (len(ids), self._checked_views(path), len(self._columns.classes))
        logits = np.empty(shape)
        logits[np.array(self._positions), np.array(self._views)] = np.array(self._logits).reshape(-1, shape[-1])
        facts = [sample.facts for sample in self._samples.values()]
        return LogitTable(
            sample_ids=ids,
            logits=logits,
            labels=np.array([label for label, _ in facts]),
            content_hashes=np.frombuffer(b"".join(content for _, content in facts), np.uint8).reshape(-1, HASH_BYTES),
            class_names=tuple(self._columns.classes),
            header=_document(path),
        )

    def _checked_views(self, path: str | os.PathLike) -> int:
        """Return how many views there are; nothing is allocated for one that is not."""
        views = max(self._views) + 1
        for sample_id, sample in self._samples.items():
            if len(sample.views) < views:
                absent = next(view for view in range(views) if view not in sample.views)
                raise InputError(f"{path} lacks view {absent} of {_shown(sample_id)}: others have a view {views - 1}")
        return views

    def _label(self, cell: str, where: str) -> int:
        label = self._labels.get(cell, self._labels.get(canonical_name(cell)))
        if label is None:
            raise InputError(
                f"{where} has the label {_shown(cell)}: expected {', '.join(self._columns.classes)}, or nothing"
            )
        return label


def _document(path: str | os.PathLike) -> dict | None:
    """Return the header next to a CSV file, None where there is none."""
    header = header_path(path)
    if not header.is_file():
        return None
    if header.stat().st_size > MAX_HEADER_BYTES:
        raise InputError(f"{header} is larger than {MAX_HEADER_BYTES:,} bytes: expected the header of an export")
    document = parse_document(header.read_text(encoding="utf-8", errors="replace"), str(header))
    if "format_version" not in document:
        raise InputError(
            f"{header}, next to {path}, is not the header of an export: remove or rename it to import logits of an "
            "unknown teacher"
        )
    return document


def _view(cell: str, where: str) -> int:
    if not (cell.isascii() and cell.isdigit() and len(cell) < 10):
        raise InputError(f"{where} has the view {_shown(cell)}: expected 0, 1, 2, ...")
    return int(cell)


def _content_hash(cell: str, where: str) -> bytes:
    try:
        content_hash = bytes.fromhex(cell) or UNKNOWN_PIXELS.tobytes()
    except ValueError:
        content_hash = b""
    if len(content_hash) != HASH_BYTES:
        raise InputError(f"{where} has the content hash {_shown(cell)}: expected {2 * HASH_BYTES} hexadecimal digits")
    return content_hash


def _numbers(cells: dict[str, str], where: str) -> list[float]:
    numbers = list(map(_number, cells.values()))
    if not all(map(math.isfinite, numbers)):
        name, cell = next((name, cell) for name, cell in cells.items() if not math.isfinite(_number(cell)))
        raise InputError(
            f"{where} has {_shown(cell)} for {_shown(name)}: expected a finite number, "
            f"for every column but {', '.join(_OTHER_COLUMNS)} is a class"
        )
    return numbers


def _number(cell: str) -> float:
    try:
        return math.nan if "_" in cell else float(cell)  # Python reads 1_0 as 10, a CSV has no such numbers
    except ValueError:
        return math.nan


def _shown(text: str) -> str:
    return repr(text[:_SHOWN])
