"""Class folders: ROOT/CLASS/*.png, or in splits, ROOT/train/CLASS/*.png or ROOT/CLASS/train/*.png."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill.data.class_labels import CLASSES_FILE, ClassList, Labels, read_labels, with_classes_file
from distill.data.dataset import UNLABELLED, Dataset
from distill.data.expressions import SPELLINGS, canonical_name
from distill.data.image_files import IMAGE_SUFFIXES, image_names, is_visible, left_out, open_image_files
from distill.data.layouts.ckplus_names import ckplus_subjects, subject_folds
from distill.data.split_names import refuse_doubtful, split_named, splits_in_file_names, what_works
from distill.errors import InputError


class _Folder(NamedTuple):
    """A folder of images."""

    path: Path
    class_name: str | None
    """As the folder is called; none where it is a split's own, whose images have no label."""
    split: str
    """ "" where the folders name no splits."""


class _Sample(NamedTuple):
    id: str
    class_name: str | None
    split: str


def recognise(path: Path) -> bool:
    """Whether `path` is a folder with an image in a class folder, which may lie in a split's or hold some."""
    if not path.is_dir():
        return False
    folders = _image_folders(path)
    classes = [folder.path for folder in folders if folder.class_name] + _misplaced(path, folders)
    return any(map(image_names, classes))


def read(path: Path, classes: ClassList | None = None) -> Dataset:
    """Read class folders; images are decoded when `Dataset.read` needs them.

    Classes are the folders' names in the project's spelling and `class_order`, or in the order of `classes` or of
    `classes.txt` in `path`; these also say what folders mean that are called by numbers. Splits are the folders
    above or below the classes that are called so, or else what all file names begin with. Ids are paths relative
    to `path`, sorted. Images in a split's folder, but in no class', are unlabelled. Where all files have CK+ names,
    `subjects` and ten subject-independent `folds` are set. Hidden files and files that are no images are ignored.

    Raises:
        InputError: a class folder without images, fewer than two classes, folders named by numbers that nobody
            explains, a folder that may be a split or a class, or a file that is not an image.
    """
    folders, classes = _image_folders(path), with_classes_file(classes, path)
    _check_folders(path, folders, () if classes is None else classes.names)
    samples = sorted((sample for folder in folders for sample in _samples(path, folder)), key=lambda each: each.id)
    meaning = _meaning(path, folders, classes)
    if len(meaning.class_names) < 2:
        raise InputError(f"{path} has the class folder {meaning.class_names[0]} only: expected one folder per class")
    names = [Path(sample.id).name for sample in samples]
    splits = [sample.split for sample in samples]
    split_notes: tuple[str, ...] = ()
    if not any(splits):
        splits, split_notes = splits_in_file_names(names, str(path))
    images, image_notes = open_image_files([path / sample.id for sample in samples])
    subjects, subject_notes = ckplus_subjects(names)
    return Dataset(
        name=str(path),
        ids=np.array([sample.id for sample in samples]),
        labels=np.array([meaning.positions.get(sample.class_name or "", UNLABELLED) for sample in samples], np.int64),
        class_names=meaning.class_names,
        images=images,
        splits=np.array(splits, "U10"),
        folds=None if subjects is None else subject_folds(subjects),
        subjects=subjects,
        notes=meaning.notes + split_notes + subject_notes + _left_out(path, folders) + image_notes,
    )


def _image_folders(root: Path) -> list[_Folder]:
    """Return the class folders; where `root` has folders of splits, those in them, and splits that hold images."""
    splits = [(folder, split) for folder in _folders(root) if (split := split_named(folder.name))]
    if splits:
        return [found for folder, split in splits for found in _in_split(folder, split)]
    return [found for folder in _folders(root) for found in _in_class(folder)]


def _in_split(folder: Path, split: str) -> list[_Folder]:
    found = [_Folder(folder, None, split)] if image_names(folder) else []
    for inner in _folders(folder):
        unpacked_twice = split_named(inner.name) == split and not image_names(inner)  # train/train/CLASS
        found += _in_split(inner, split) if unpacked_twice else [_Folder(inner, inner.name, split)]
    return found


def _in_class(folder: Path) -> list[_Folder]:
    splits = [(inner, split) for inner in _folders(folder) if (split := split_named(inner.name))]
    own = [_Folder(folder, folder.name, "")] if image_names(folder) or not splits else []
    return own + [_Folder(inner, folder.name, split) for inner, split in splits]


def _check_folders(root: Path, folders: Sequence[_Folder], classes: Sequence[str]) -> None:
    """Refuse what could be a class as well as a split: taken for the wrong one, a test split is learned from.

    Folders that `classes` names are classes.
    """
    for folder in _folders(root):
        for name in (folder.name, *(inner.name for inner in _folders(folder))):
            if canonical_name(name) not in classes:
                refuse_doubtful(name, str(root))
    for found in folders:
        if found.class_name and split_named(found.class_name) and canonical_name(found.class_name) not in classes:
            raise InputError(
                f"{found.path} is called as a split, inside one: move it, rename it, or name the classes"
            )
    for folder in _misplaced(root, folders):
        raise InputError(
            f"class folder {folder} lies next to folders of splits: move it into one of them, such as {root}/train"
        )
    outside = [folder.path for folder in folders if not folder.split]
    if outside and len(outside) < len(folders):
        raise InputError(f"{outside[0]} has images outside the folders of splits, which others have: {what_works()}")


def _samples(root: Path, folder: _Folder) -> list[_Sample]:
    names = image_names(folder.path)
    if not names:
        raise InputError(
            f"class folder {folder.path} has no images: put {', '.join(IMAGE_SUFFIXES)} files there or remove it"
        )
    prefix = folder.path.relative_to(root).as_posix()
    return [_Sample(f"{prefix}/{name}", folder.class_name, folder.split) for name in names]


def _meaning(root: Path, folders: Sequence[_Folder], classes: ClassList | None) -> Labels:
    named = {folder.class_name: folder.path for folder in folders if folder.class_name}
    return read_labels(
        sorted(named),
        classes,
        source=root,
        where=lambda name: f"class folder {named[name]}",
        classes_file=root / CLASSES_FILE,
    )


def _left_out(root: Path, folders: Sequence[_Folder]) -> tuple[str, ...]:
    """Return notes on images that are not read, or read without a label."""
    ignored, notes = _next_to_splits(root, folders), []
    if ignored:
        notes.append(f"folders next to the splits are ignored: {', '.join(folder.name for folder in ignored)}")
    notes += [
        f"the images in {folder.path} itself lie in no class folder: they have no label"
        for folder in folders
        if folder.class_name is None
    ]
    read = [folder.path for folder in folders]
    return (*notes, *left_out(read, around={root, *(folder.parent for folder in read)}))


def _next_to_splits(root: Path, folders: Sequence[_Folder]) -> list[Path]:
    """Return the folders of `root` that are neither a class nor a split."""
    used = {folder.path.relative_to(root).parts[0] for folder in folders}
    return [folder for folder in _folders(root) if folder.name not in used]


def _misplaced(root: Path, folders: Sequence[_Folder]) -> list[Path]:
    """Return the folders that are called as a class, next to folders of splits."""
    classes = {*SPELLINGS, *(canonical_name(folder.class_name) for folder in folders if folder.class_name)}
    return [folder for folder in _next_to_splits(root, folders) if canonical_name(folder.name) in classes]


def _folders(root: Path) -> list[Path]:
    with os.scandir(root) as entries:
        return sorted(Path(entry) for entry in entries if entry.is_dir() and is_visible(entry.name))
