"""A folder of images that nobody has labelled."""

from pathlib import Path

import numpy as np

from distill.data.dataset import UNLABELLED, Dataset
from distill.data.image_files import image_names, open_image_files


def recognise(path: Path) -> bool:
    """Whether `path` is a folder that holds an image."""
    return path.is_dir() and bool(image_names(path))


def read(path: Path) -> Dataset:
    """Read the images in a folder, not those below it; they are decoded when asked for.

    There are no labels and no class names: what a teacher says of these images is said in its own classes. Ids are
    the files' names, sorted.

    Raises:
        InputError: a file that is no image.
    """
    names = sorted(image_names(path))
    images, notes = open_image_files([path / name for name in names])
    return Dataset(
        name=str(path),
        ids=np.array(names),
        labels=np.full(len(names), UNLABELLED),
        class_names=(),
        images=images,
        splits=np.full(len(names), ""),
        notes=("there are no class folders: these images have no labels", *notes),
    )
