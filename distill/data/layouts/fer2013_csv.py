"""`fer2013.csv`: one face per row, its pixels written as numbers."""

import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill.data.class_labels import ClassList, Labels, read_labels
from distill.data.dataset import UNLABELLED, ArrayImages, Dataset
from distill.data.layouts.csv_table import csv_header, csv_rows, find_columns, listed
from distill.data.packed_csv import is_csv
from distill.data.split_names import split_named, what_works
from distill.errors import InputError

COLUMNS = {
    "emotion": ("emotion", "emotions", "label", "labels", "class", "expression", "target"),
    "pixels": ("pixels", "pixel"),
    "Usage": ("usage", "split", "set", "subset", "partition", "phase"),
}
"""How the columns are spelt, in any case."""

_FORM = ",".join(COLUMNS)


class _Row(NamedTuple):
    line: int
    label: str
    """ "" where there is no column of labels."""
    split: str
    pixels: np.ndarray


def recognise(path: Path) -> bool:
    """Whether `path` is a .csv file with one of the columns of FER2013, or an empty one."""
    if not is_csv(path):
        return False
    columns = {name.lower() for name in csv_header(path)}
    return not columns or any(wanted <= columns for wanted in ({"pixels"}, {"pixel"}, {"emotion", "usage"}))


def read(path: Path, classes: ClassList | None = None) -> Dataset:
    """Read the rows `emotion,pixels,Usage`, in any order of columns, into memory.

    Images are uint8 [N, side, side, 1], the side taken from the first row. Ids are split and row, such
    as "train/00000", the row counted over the whole file from 0. Without a column `Usage` the splits are
    "" and the ids "row/00000"; without a column `emotion`, as in Kaggle's test.csv, all is unlabelled. Numbers mean
    the classes of `classes`; where nobody named any those of FER2013, and up to 7 those of CK+ in this form.

    Raises:
        InputError: the file is empty or has no column `pixels`, or two columns of one meaning; a row has another
            number of pixels than the first, a value that is not an integer of 0..255, a label of no class, or an
            unknown Usage. The message names the file and the line.
    """
    columns = _columns(path)
    pixels, written, splits = bytearray(), [], []
    lines: dict[str, int] = {}
    count = 0
    for row in _rows(path, columns):
        count = count or _square(row, path)
        if len(row.pixels) != count:
            raise InputError(f"{path} line {row.line}: {len(row.pixels)} pixels, the first row has {count}")
        pixels += row.pixels.astype(np.uint8).tobytes()
        lines.setdefault(row.label, row.line)
        written.append(row.label)
        splits.append(row.split)
    if not written:
        raise InputError(f"{path} holds no images: expected rows below the header {_FORM}")
    side = math.isqrt(count)
    meaning = _meaning(path, columns, lines, classes)
    return Dataset(
        name=str(path),
        ids=np.array([f"{split or 'row'}/{row:05d}" for row, split in enumerate(splits)]),
        labels=np.array([meaning.positions.get(label, UNLABELLED) for label in written], np.int64),
        class_names=meaning.class_names,
        images=ArrayImages(np.frombuffer(pixels, np.uint8).reshape(-1, side, side, 1)),
        splits=np.array(splits, "U10"),
        notes=_unread(path, columns) + meaning.notes,
    )


def _columns(path: Path) -> dict[str, int]:
    header, columns = csv_header(path), find_columns(path, COLUMNS)
    if "pixels" not in columns:
        found = f"its columns are {listed(header)}" if header else "it is empty"
        raise InputError(f"{path} has no column pixels, {found}: expected {_FORM}, the pixels of a face in one cell")
    return columns


def _rows(path: Path, columns: Mapping[str, int]) -> Iterator[_Row]:
    header = csv_header(path)
    unread = [column for column in range(len(header)) if column not in columns.values()]
    for line, cells in csv_rows(path):
        where = f"{path} line {line}"
        if "Usage" not in columns:
            _refuse_split_in(unread, header, cells, where)
        label = cells[columns["emotion"]] if "emotion" in columns else ""
        split = _split(cells[columns["Usage"]], where) if "Usage" in columns else ""
        yield _Row(line, label, split, _pixels(cells[columns["pixels"]], where))


def _split(usage: str, where: str) -> str:
    split = split_named(usage)
    if split is None:
        raise InputError(f'{where}: Usage is "{usage}", expected a split: {what_works()}')
    return split


def _refuse_split_in(unread: list[int], header: list[str], cells: list[str], where: str) -> None:
    for column in unread:
        if split_named(cells[column]):
            raise InputError(
                f'{where}: the column {header[column]} holds "{cells[column]}", a split, but is not called one: '
                "call the column Usage"
            )


def _meaning(path: Path, columns: Mapping[str, int], lines: Mapping[str, int], classes: ClassList | None) -> Labels:
    """Return what the labels mean, which stand first in `lines`."""
    if "emotion" not in columns:
        return Labels(() if classes is None else classes.names, {}, ("there is no column of labels",))
    name = csv_header(path)[columns["emotion"]]
    if name.lower() == "emotion":
        known = {"fer2013": "", "ckextended": f"{name} goes to 7, as in CK+ in this form"}
    else:
        known = {"fer2013": f"the column {name} does not say what its numbers mean"}
    return read_labels(lines, classes, source=path, where=lambda label: f"{path} line {lines[label]}", known=known)


def _unread(path: Path, columns: Mapping[str, int]) -> tuple[str, ...]:
    unread = [name for column, name in enumerate(csv_header(path)) if column not in columns.values()]
    return (f"columns that are not read: {listed(unread)}",) if unread else ()


def _pixels(text: str, where: str) -> np.ndarray:
    # NumPy's text parser takes a third of the time of a dictionary of the 256 tokens, a sixth of int().
    # Older releases of NumPy only warn of text that is not a number.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            values = np.fromstring(text, np.int64, sep=" ")
    except (ValueError, DeprecationWarning):
        values = None
    if values is None or (len(values) and not 0 <= values.min() <= values.max() <= 255):
        bad = next((t for t in text.split() if not (len(t) <= 3 and t.isdecimal() and int(t) <= 255)), text)
        raise InputError(f'{where}: pixel value "{bad:.20}", expected integers of 0..255 separated by spaces')
    return values


def _square(row: _Row, path: Path) -> int:
    count = len(row.pixels)
    if not count or math.isqrt(count) ** 2 != count:
        raise InputError(f"{path} line {row.line}: {count} pixels, expected a square such as 48 x 48 = 2304")
    return count
