"""Class folders: ROOT/CLASS/*.png, or ROOT/train/CLASS/*.png beside validation and test."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill.data.dataset import Dataset
from distill.data.expressions import canonical_name, class_order
from distill.data.image_files import IMAGE_SUFFIXES, image_names, is_visible, open_image_files
from distill.data.layouts.ckplus_names import ckplus_subjects, subject_folds
from distill.errors import InputError

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


class _Sample(NamedTuple):
    id: str
    class_name: str
    split: str


def recognise(path: Path) -> bool:
    """Whether `path` is a folder of which a subfolder, or a split's subfolder, holds an image."""
    return path.is_dir() and any(image_names(folder) for folder, _ in _class_folders(path))


def read(path: Path) -> Dataset:
    """Read class folders; images are decoded when asked for.

    Class names are the folders' names in the project's spelling and `class_order`. Ids are paths relative
    to `path`, sorted. Where all files have CK+ names, `subjects` and ten subject-independent `folds` are
    set. Hidden files and files that are no images are ignored.

    Raises:
        InputError: a class folder without images, fewer than two classes, or a file that is no image.
    """
    folders = _class_folders(path)
    samples = sorted(sample for folder, split in folders for sample in _samples(path, folder, split))
    class_names = class_order(sample.class_name for sample in samples)
    if len(class_names) < 2:
        raise InputError(f"{path} has the class folder {class_names[0]} only: expected one folder per class")
    images, notes = open_image_files([path / sample.id for sample in samples])
    subjects = ckplus_subjects(Path(sample.id).name for sample in samples)
    return Dataset(
        name=str(path),
        ids=np.array([sample.id for sample in samples]),
        labels=np.array([class_names.index(sample.class_name) for sample in samples], np.int64),
        class_names=class_names,
        images=images,
        splits=np.array([sample.split for sample in samples], "U10"),
        folds=None if subjects is None else subject_folds(subjects),
        subjects=subjects,
        notes=_ignored(path, folders) + notes,
    )


def _class_folders(root: Path) -> list[tuple[Path, str]]:
    """Return (class folder, split), the split "" where `root` has no split folders."""
    splits = [folder for folder in _folders(root) if folder.name.lower() in SPLIT_FOLDERS]
    if not splits:
        return [(folder, "") for folder in _folders(root)]
    return [(folder, SPLIT_FOLDERS[split.name.lower()]) for split in splits for folder in _folders(split)]


def _samples(root: Path, folder: Path, split: str) -> list[_Sample]:
    names = image_names(folder)
    if not names:
        raise InputError(
            f"class folder {folder} has no images: put {', '.join(IMAGE_SUFFIXES)} files there or remove it"
        )
    class_name, prefix = canonical_name(folder.name), folder.relative_to(root).as_posix()
    return [_Sample(f"{prefix}/{name}", class_name, split) for name in names]


def _ignored(root: Path, folders: Sequence[tuple[Path, str]]) -> tuple[str, ...]:
    used = {folder.relative_to(root).parts[0] for folder, _ in folders}
    ignored = [folder.name for folder in _folders(root) if folder.name not in used]
    return (f"folders beside the splits are ignored: {', '.join(ignored)}",) if ignored else ()


def _folders(root: Path) -> list[Path]:
    with os.scandir(root) as entries:
        return sorted(Path(entry) for entry in entries if entry.is_dir() and is_visible(entry.name))
