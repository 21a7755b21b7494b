"""A label file: one `PATH LABEL` line per image, as MicroExpNet reads them."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill.data.class_labels import CLASSES_FILE, ClassList, Labels, read_labels, with_classes_file
from distill.data.dataset import Dataset
from distill.data.image_files import IMAGE_SUFFIXES, open_image_files
from distill.data.layouts.ckplus_names import ckplus_subjects, subject_folds
from distill.data.split_names import split_of_path, splits_in_file_names
from distill.errors import InputError

NAME_IN_FOLDER = "labels.txt"
_CKPLUS_ORDERS = {"6": "ckplus", "7": "microexpnet"}
"""How files of CK+ are numbered, by their largest label: 0..6 without neutral, 0..7 with it as 0."""
_FOLD = re.compile(r"(?:^|/)fold[ _-]?(\d{1,15})/", re.IGNORECASE)  # more digits number no fold


class _Line(NamedTuple):
    number: int
    path: str
    label: str


def recognise(path: Path) -> bool:
    """Whether `path` is a .txt file whose first entry names an image, or a folder with labels.txt."""
    if path.is_dir():
        path = path / NAME_IN_FOLDER
    if path.suffix.lower() != ".txt" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line for line in file if _entry(line)), "").strip()
    return any(word.lower().endswith(IMAGE_SUFFIXES) for word in first.split())


def read(path: Path, classes: ClassList | None = None) -> Dataset:
    """Read `PATH LABEL` lines; images are decoded when `Dataset.read` needs them.

    PATH is relative to the file and may contain spaces; it is the sample's id. LABEL is a number, or the
    name of a class. What numbers mean is said by `classes`, or by `classes.txt` in its folder; where nobody says
    it, only those of files with CK+ names are known. `foldK/` in every path gives `folds`, folders that are called
    as splits give these, or else file names that begin with one. Blank lines and lines that begin with # are skipped.

    Raises:
        InputError: a line without a label, a label outside the classes, numbers that nobody has named, a path that
            is missing or stands there twice, a folder that may be a split, or a file that is not an image. The
            message names the file and the line.
    """
    if path.is_dir():
        path = path / NAME_IN_FOLDER
    lines = _lines(path)
    if not lines:
        raise InputError(f"{path} holds no images: expected lines PATH LABEL")
    subjects, subject_notes = ckplus_subjects(Path(line.path).name for line in lines)
    meaning = _meaning(path, lines, classes, ckplus=subjects is not None)
    splits, split_notes = _splits(path, lines)
    folds, fold_notes = _folds(lines, subjects)
    images, image_notes = open_image_files([path.parent / line.path for line in lines])
    return Dataset(
        name=str(path),
        ids=np.array([line.path for line in lines]),
        labels=np.array([meaning.positions[line.label] for line in lines], np.int64),
        class_names=meaning.class_names,
        images=images,
        splits=np.array(splits, "U10"),
        folds=folds,
        subjects=subjects,
        notes=meaning.notes + split_notes + subject_notes + fold_notes + image_notes,
    )


def read_lines(path: Path) -> dict[str, str]:
    """Return path -> label of each image, as they stand in a label file.

    Raises:
        InputError: a line without a label, or whose image is missing or stands there twice.
    """
    return {line.path: line.label for line in _lines(path)}


def _entry(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _lines(path: Path) -> list[_Line]:
    lines: dict[str, _Line] = {}
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, text in enumerate(file, 1):
            if not _entry(text):
                continue
            image, _, label = text.strip().replace("\t", " ").rpartition(" ")
            image = image.rstrip()
            if not image:
                raise InputError(f'{path} line {number}: "{text.strip()}", expected PATH LABEL')
            place = os.path.normpath(image)
            if place in lines:
                raise InputError(
                    f"{path} line {number}: {image} stands there twice, first in line {lines[place].number}"
                )
            if not (path.parent / image).is_file():
                raise InputError(f"{path} line {number}: {image} does not exist: paths are relative to {path.parent}")
            lines[place] = _Line(number, image, label)
    return list(lines.values())


def _meaning(path: Path, lines: Sequence[_Line], classes: ClassList | None, *, ckplus: bool) -> Labels:
    first = {line.label: line.number for line in reversed(lines)}
    order = _CKPLUS_ORDERS.get(max(first)) if ckplus else None
    return read_labels(
        [line.label for line in lines],
        with_classes_file(classes, path.parent),
        source=path,
        where=lambda label: f"{path} line {first[label]}",
        known={order: f"no {CLASSES_FILE} next to {path.name}, but file names of CK+"} if order else None,
        classes_file=path.with_name(CLASSES_FILE),
    )


def _splits(path: Path, lines: Sequence[_Line]) -> tuple[list[str], tuple[str, ...]]:
    """Return the split of each line, and notes on them."""
    shared = os.path.commonpath([Path(line.path).parent for line in lines]) if _all_absolute(lines) else ""
    splits = [split_of_path(line.path.removeprefix(shared), f"{path} line {line.number}") for line in lines]
    if not any(splits):
        return splits_in_file_names([Path(line.path).name for line in lines], str(path))
    if "" not in splits:
        return splits, ()
    outside = lines[splits.index("")].path
    return splits, (f"{splits.count('')} of {len(lines)} images lie in no folder of a split, such as {outside}",)


def _all_absolute(lines: Sequence[_Line]) -> bool:
    """Whether the paths say where the images lie on this machine, so that what they share says nothing of them."""
    return all(Path(line.path).is_absolute() for line in lines)


def _folds(lines: Sequence[_Line], subjects: np.ndarray | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return the fold of each line, as its path names it or else by its subject, and notes."""
    matches = [_FOLD.search(line.path) for line in lines]
    numbers = [int(match[1]) for match in matches if match]
    if len(numbers) == len(lines):
        return np.array(numbers, np.int64), ()
    notes: tuple[str, ...] = ()
    if numbers:
        outside = lines[matches.index(None)].path
        notes = (
            f"{len(lines) - len(numbers)} of {len(lines)} paths name no fold, such as {outside}: the folds of the "
            "others are not used",
        )
    return None if subjects is None else subject_folds(subjects), notes
