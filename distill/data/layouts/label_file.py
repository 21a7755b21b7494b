"""A label file: one `PATH LABEL` line per image, as MicroExpNet reads them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill.data.dataset import Dataset
from distill.data.expressions import CLASS_ORDERS, MAX_CLASSES, canonical_name, class_order, numbered_classes
from distill.data.image_files import IMAGE_SUFFIXES, open_image_files
from distill.data.layouts.ckplus_names import ckplus_subjects, subject_folds
from distill.data.layouts.class_folders import SPLIT_FOLDERS
from distill.errors import InputError

NAME_IN_FOLDER, CLASSES_FILE = "labels.txt", "classes.txt"
_FOLD = re.compile(r"(?:^|/)fold[ _-]?(\d+)/", re.IGNORECASE)


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


def read(path: Path) -> Dataset:
    """Read `PATH LABEL` lines; images are decoded when asked for.

    PATH is relative to the file and may contain spaces; it is the sample's id. LABEL is a number, or the
    name of a class. `classes.txt` beside the file, one name per line, says what the numbers mean; without
    it 8 classes have the MicroExpNet order, 7 with CK+ file names the CK+ order, other counts that of
    `numbered_classes`. `foldK/` in every path gives `folds`, a leading train/, validation/ or test/ the
    split. Blank lines and lines that begin with # are skipped.

    Raises:
        InputError: a line without a label, a label outside the classes, a path that is missing or stands
            there twice, or a file that is no image. The message names the file and the line.
    """
    if path.is_dir():
        path = path / NAME_IN_FOLDER
    lines = _lines(path)
    if not lines:
        raise InputError(f"{path} holds no images: expected lines PATH LABEL")
    subjects = ckplus_subjects(Path(line.path).name for line in lines)
    class_names, notes = _class_names(path, lines, ckplus=subjects is not None)
    images, image_notes = open_image_files([path.parent / line.path for line in lines])
    return Dataset(
        name=str(path),
        ids=np.array([line.path for line in lines]),
        labels=np.array([_label(line, class_names, path) for line in lines], np.int64),
        class_names=class_names,
        images=images,
        splits=np.array([_split(line.path) for line in lines], "U10"),
        folds=_folds(lines, subjects),
        subjects=subjects,
        notes=notes + image_notes,
    )


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
            if image in lines:
                raise InputError(
                    f"{path} line {number}: {image} stands there twice, first in line {lines[image].number}"
                )
            if not (path.parent / image).is_file():
                raise InputError(f"{path} line {number}: {image} does not exist: paths are relative to {path.parent}")
            lines[image] = _Line(number, image, label)
    return list(lines.values())


def _class_names(path: Path, lines: Sequence[_Line], *, ckplus: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the class names, and a note where they are a guess."""
    file = path.with_name(CLASSES_FILE)
    if file.is_file():
        names = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        return tuple(canonical_name(name) for name in names if name.strip()), ()
    labels = {line.label for line in lines}
    if not all(label.isdecimal() for label in labels):
        return class_order(labels), ()
    count = max(2, 1 + max(map(int, labels)))
    if count > MAX_CLASSES:
        raise InputError(f"{path} has the label {count - 1}, expected 0..{MAX_CLASSES - 1}")
    if count == len(CLASS_ORDERS["ckplus"]) and ckplus:
        names = CLASS_ORDERS["ckplus"]
    else:
        names = numbered_classes(count, known=("fer2013", "microexpnet"))
    note = f"no {CLASSES_FILE} beside {path.name}: labels are taken to mean {', '.join(names)}"
    return names, (note,)


def _label(line: _Line, class_names: tuple[str, ...], path: Path) -> int:
    if line.label.isdecimal() and int(line.label) < len(class_names):
        return int(line.label)
    if canonical_name(line.label) in class_names:
        return class_names.index(canonical_name(line.label))
    raise InputError(
        f'{path} line {line.number}: label "{line.label}", '
        f"expected 0..{len(class_names) - 1} or one of {', '.join(class_names)}"
    )


def _split(path: str) -> str:
    return SPLIT_FOLDERS.get(path.partition("/")[0].lower(), "")


def _folds(lines: Sequence[_Line], subjects: np.ndarray | None) -> np.ndarray | None:
    matches = [_FOLD.search(line.path) for line in lines]
    if None not in matches:
        return np.array([int(match[1]) for match in matches], np.int64)
    return None if subjects is None else subject_folds(subjects)
