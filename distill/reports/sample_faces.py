"""A picture of some images of every class."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from distill.data.dataset import Dataset
from distill.data.duplicates import present_classes
from distill.errors import InputError
from distill.reports.plots import save_figure

_INCHES = 0.9
_MOST_ROWS = 100


def sample_faces(dataset: Dataset, *, per_class: int = 8, seed: int = 0) -> Figure:
    """Draw `per_class` images of every class, one class a row; `seed` says which.

    A class with fewer images shows them all. Of more than a hundred classes the first hundred are shown: no format
    holds a picture of any height.
    """
    classes = list(present_classes(dataset))[:_MOST_ROWS]
    figure = Figure(figsize=(_INCHES * (per_class + 1.5), _INCHES * len(classes)), layout="compressed")
    axes = figure.subplots(len(classes), per_class, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    for row, (name, label) in enumerate(classes):
        axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center")
        for axis, image in zip(axes[row], _sample(dataset, label, per_class, seed), strict=False):
            axis.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
    return figure


def save_sample_faces(dataset: Dataset, path: str | Path) -> None:
    """Write the picture of `sample_faces`, in the format of the suffix of `path`."""
    figure = sample_faces(dataset)
    save_figure(figure, path)


def check_picture_format(path: str | Path) -> None:
    """Raise an `InputError` if the suffix of `path` is none that Matplotlib writes."""
    formats = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.lower().removeprefix(".") not in formats:
        raise InputError(f"{path} cannot be drawn: its suffix must be one of .{', .'.join(sorted(formats))}")


def _sample(dataset: Dataset, label: int, count: int, seed: int) -> np.ndarray:
    positions = np.flatnonzero(dataset.labels == label)
    chosen = np.random.default_rng(seed).permutation(positions)[:count]
    return dataset.read(np.sort(chosen))
