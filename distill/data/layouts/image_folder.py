"""A folder of images that nobody has labelled."""

from pathlib import Path

import numpy as np

from distill.data.class_labels import FLAG, ClassList
from distill.data.dataset import UNLABELLED, Dataset
from distill.data.image_files import image_names, left_out, open_image_files
from distill.data.split_names import splits_in_file_names
from distill.errors import InputError


def recognise(path: Path) -> bool:
    """Whether `path` is a folder that holds an image."""
    return path.is_dir() and bool(image_names(path))


def read(path: Path, classes: ClassList | None = None) -> Dataset:
    """Read the images in a folder, not those below it; they are decoded when `Dataset.read` needs them.

    There are no labels and no class names: a teacher scores these images in its own classes. Ids are
    the files' names, sorted. Splits are those that the names begin with, if they do.

    Raises:
        InputError: a file that is not an image, or classes are named.
    """
    if classes is not None:
        raise InputError(f"{path} has no class folders, so its images have no labels: omit {FLAG}")
    names = sorted(image_names(path))
    images, notes = open_image_files([path / name for name in names])
    splits, split_notes = splits_in_file_names(names, str(path))
    return Dataset(
        name=str(path),
        ids=np.array(names),
        labels=np.full(len(names), UNLABELLED),
        class_names=(),
        images=images,
        splits=np.array(splits, "U10"),
        notes=("there are no class folders: these images have no labels", *split_notes, *left_out([path]), *notes),
    )
