"""`fer2013.csv`: one face per row, its pixels written as numbers."""

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill.data.dataset import UNLABELLED, ArrayImages, Dataset
from distill.data.expressions import CLASS_ORDERS
from distill.errors import InputError

USAGE_SPLITS = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
CLASS_NAMES = CLASS_ORDERS["fer2013"]
_COLUMNS = ("emotion", "pixels", "Usage")


class _Row(NamedTuple):
    line: int
    label: int
    split: str
    pixels: np.ndarray


def csv_header(path: Path) -> list[str]:
    """Return the column names in the first line of a file; an empty file has none."""
    with path.open("rb") as file:
        line = file.readline(10_000).decode("utf-8-sig", errors="replace")
    return [name.strip(' "\r\n') for name in line.split(",")] if line.strip() else []


def recognise(path: Path) -> bool:
    """Whether `path` is a .csv file with one of the columns of FER2013, or an empty one."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    header = csv_header(path)
    return not header or "pixels" in header or {"emotion", "Usage"} <= set(header)


def read(path: Path) -> Dataset:
    """Read the rows `emotion,pixels,Usage`, in any order of columns, into memory.

    Images are uint8 [N, side, side, 1], the side taken from the first row. Ids are split and row, such
    as "train/00000", the row counted over the whole file from 0. Without a column `Usage` the splits are
    "" and the ids "row/00000"; without a column `emotion`, as in Kaggle's test.csv, all is unlabelled.

    Raises:
        InputError: the file is empty or has no column `pixels`; a row has another number of pixels than
            the first, a value that is no integer of 0..255, an emotion that is no integer of 0..6, or an
            unknown Usage. The message names the file and the line.
    """
    pixels, labels, splits = bytearray(), [], []
    count = 0
    for row in _rows(path):
        count = count or _square(row, path)
        if len(row.pixels) != count:
            raise InputError(f"{path} line {row.line}: {len(row.pixels)} pixels, the first row has {count}")
        pixels += row.pixels.astype(np.uint8).tobytes()
        labels.append(row.label)
        splits.append(row.split)
    if not labels:
        raise InputError(f"{path} holds no images: expected rows below the header {','.join(_COLUMNS)}")
    side = math.isqrt(count)
    return Dataset(
        name=str(path),
        ids=np.array([f"{split or 'row'}/{row:05d}" for row, split in enumerate(splits)]),
        labels=np.array(labels, np.int64),
        class_names=CLASS_NAMES,
        images=ArrayImages(np.frombuffer(pixels, np.uint8).reshape(-1, side, side, 1)),
        splits=np.array(splits, "U10"),
    )


def _rows(path: Path) -> Iterator[_Row]:
    header = csv_header(path)
    if "pixels" not in header:
        found = f"its columns are {', '.join(header)}" if header else "it is empty"
        raise InputError(f"{path} has no column pixels, {found}: expected {','.join(_COLUMNS)}")
    at = {name: header.index(name) for name in _COLUMNS if name in header}
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        next(file)
        for line, text in enumerate(file, 2):
            if not text.strip():
                continue
            cells = text.split(",")
            if len(cells) != len(header):
                raise InputError(f"{path} line {line}: {len(cells)} columns, the header has {len(header)}")
            where = f"{path} line {line}"
            cell = {name: cells[column].strip(' "\r\n') for name, column in at.items()}
            yield _Row(line, _label(cell, where), _split(cell, where), _pixels(cell["pixels"], where))


def _label(cell: dict[str, str], where: str) -> int:
    if "emotion" not in cell:
        return UNLABELLED
    try:
        label = int(cell["emotion"])
    except ValueError:
        label = None
    if label is None or not 0 <= label < len(CLASS_NAMES):
        classes = ", ".join(f"{number} {name}" for number, name in enumerate(CLASS_NAMES))
        raise InputError(f'{where}: emotion is "{cell["emotion"]}", expected one of {classes}')
    return label


def _split(cell: dict[str, str], where: str) -> str:
    usage = cell.get("Usage")
    if usage is None:
        return ""
    if usage not in USAGE_SPLITS:
        raise InputError(f'{where}: Usage is "{usage}", expected one of {", ".join(USAGE_SPLITS)}')
    return USAGE_SPLITS[usage]


def _pixels(text: str, where: str) -> np.ndarray:
    # NumPy's text parser takes a third of the time of a dictionary of the 256 tokens, a sixth of int().
    # Older releases of NumPy only warn of text that is no number.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            values = np.fromstring(text, np.int64, sep=" ")
    except (ValueError, DeprecationWarning):
        values = None
    if values is None or (len(values) and not 0 <= values.min() <= values.max() <= 255):
        bad = next((t for t in text.split() if not (t.isdecimal() and int(t) <= 255)), text[:20])
        raise InputError(f'{where}: pixel value "{bad}", expected integers of 0..255 separated by spaces')
    return values


def _square(row: _Row, path: Path) -> int:
    count = len(row.pixels)
    if not count or math.isqrt(count) ** 2 != count:
        raise InputError(f"{path} line {row.line}: {count} pixels, expected a square such as 48 x 48 = 2304")
    return count
