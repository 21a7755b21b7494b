"""FER+ votes (`ferplus.csv`, `fer2013new.csv`): what ten annotators saw in each face of fer2013.csv."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from distill.data.class_labels import ClassList
from distill.data.dataset import Dataset, with_class_names
from distill.data.expressions import CLASS_ORDERS, SPELLINGS
from distill.data.layouts import fer2013_csv
from distill.data.layouts.csv_table import csv_header, csv_rows, find_columns
from distill.data.packed_csv import PACKINGS, is_csv
from distill.data.split_names import split_named
from distill.errors import InputError

IMAGES_FILES = ("fer2013.csv", "icml_face_data.csv")
CLASS_NAMES = CLASS_ORDERS["ferplus"]
_MOST_VOTES = 1_000_000
_COLUMNS = (*CLASS_NAMES, "unknown", "NF")
_NAME_COLUMN = "Image name"
_SPELLINGS = {name: (name.lower(), *SPELLINGS.get(name, ())) for name in ("Usage", _NAME_COLUMN, *_COLUMNS)}
_IMAGE_NAME = re.compile(r"fer(\d{1,15})\.png")  # as published: numbers rise; rows without a face have no name


def recognise(path: Path) -> bool:
    """Whether `path` is a .csv file with the columns of FER+."""
    if not is_csv(path):
        return False
    return {"usage", "unknown", "nf"} <= {name.lower() for name in csv_header(path)}


def read(path: Path, classes: ClassList | None = None) -> Dataset:
    """Join FER+ votes to the images of the fer2013.csv in the same folder, row by row.

    `label_probs` are the votes for the eight expressions, normalised; the label is the plurality, of equal
    counts the first in the order of `class_names`. Ids are those of fer2013.csv. Rows without votes, and rows
    whose plurality is "unknown" or "NF" (no face), are left out and counted in `notes`.

    Raises:
        InputError: no fer2013.csv in the same folder, another number of rows or another Usage than there, rows in
            another order, a missing column, or a vote that is not an integer of 0 or more. The message names the file
            and the line.
    """
    usages, votes = _votes(path)
    faces = fer2013_csv.read(_images_file(path))
    _check_rows(path, usages, faces)
    winner, voted = votes.argmax(axis=1), votes.any(axis=1)
    kept = np.flatnonzero(voted & (winner < len(CLASS_NAMES)))
    if not len(kept):
        raise InputError(f"{path}: no row has a plurality of votes for an expression")
    votes_kept = votes[kept, : len(CLASS_NAMES)].astype(np.float32)
    dataset = replace(
        faces.subset(kept),
        name=str(path),
        labels=winner[kept].astype(np.int64),
        class_names=CLASS_NAMES,
        label_probs=votes_kept / votes_kept.sum(axis=1, keepdims=True),
        notes=_left_out(winner[voted], rows=len(votes)),
    )
    return dataset if classes is None else with_class_names(dataset, classes.names)


def _votes(path: Path) -> tuple[list[str], np.ndarray]:
    """Return the Usage of each row, and the votes, int64 [N, 10], in the order of `_COLUMNS`."""
    usages, votes, last_image = [], [], -1
    found = find_columns(path, _SPELLINGS)
    missing = [name for name in ("Usage", *_COLUMNS) if name not in found]
    if missing:
        raise InputError(f"{path} has no column {', '.join(missing)}: expected Usage,Image name,{','.join(_COLUMNS)}")
    for line, cells in csv_rows(path):
        try:
            counts = [int(cells[found[name]]) for name in _COLUMNS]
        except ValueError:
            counts = [-1]
        if not 0 <= min(counts) <= max(counts) <= _MOST_VOTES:
            raise InputError(f"{path} line {line}: expected {len(_COLUMNS)} numbers of votes, 0..{_MOST_VOTES:,}")
        image = _IMAGE_NAME.fullmatch(cells[found[_NAME_COLUMN]].strip()) if _NAME_COLUMN in found else None
        if image and int(image[1]) <= last_image:
            raise InputError(
                f"{path} line {line}: {image[0]} stands behind number {last_image}: its rows are not those of "
                f"{IMAGES_FILES[0]}, give the file in its published order"
            )
        last_image = int(image[1]) if image else last_image
        usages.append(cells[found["Usage"]])
        votes.append(counts)
    return usages, np.array(votes, np.int64).reshape(-1, len(_COLUMNS))


def _images_file(path: Path) -> Path:
    for name in (name + packing for name in IMAGES_FILES for packing in PACKINGS):
        if path.with_name(name).is_file():
            return path.with_name(name)
    raise InputError(f"{path} holds votes without images: put {IMAGES_FILES[0]} into {path.parent}, too")


def _check_rows(path: Path, usages: list[str], faces: Dataset) -> None:
    if len(usages) != len(faces):
        raise InputError(
            f"{path} has {len(usages)} rows, {faces.name} has {len(faces)}: expected row for row the same"
        )
    for row, (usage, split) in enumerate(zip(usages, faces.splits, strict=True)):
        if split_named(usage) != split:
            raise InputError(
                f'{path} row {row}: Usage is "{usage}", but that row of {faces.name} is in the {split} split'
            )


def _left_out(winner: np.ndarray, *, rows: int) -> tuple[str, ...]:
    unknown, no_face = (int((winner == _COLUMNS.index(name)).sum()) for name in ("unknown", "NF"))
    unvoted = rows - len(winner)
    if not unknown + no_face + unvoted:
        return ()
    return (
        f"{unknown + no_face + unvoted} of {rows} rows left out: "
        f"{unvoted} without votes, {unknown} unknown, {no_face} no face",
    )
