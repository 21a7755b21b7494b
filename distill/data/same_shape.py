"""A dataset served at the shape of another one, so that the same picture has the same pixels in both."""

from dataclasses import replace

import numpy as np

from distill.data.columns import blocks
from distill.data.dataset import Dataset, ImageSource, Subset
from distill.data.image_files import decoded

_ROWS = 32


def in_shape(dataset: Dataset, shape: tuple[int, int, int]) -> Dataset | None:
    """Return `dataset` with its images served at `shape`.

    Returns:
        None where that cannot be done without a loss: pictures are decoded again, and grey arrays become RGB, but
        arrays are not resized.
    """
    images = _in_shape(dataset.images, shape)
    return None if images is None else replace(dataset, images=images)


def in_one_shape(first: Dataset, second: Dataset) -> tuple[Dataset, Dataset] | None:
    """Return two datasets with one of them served as the other is; None where neither can be."""
    if first.image_shape == second.image_shape:
        return first, second
    if (other := in_shape(first, second.image_shape)) is not None:
        return other, second
    if (other := in_shape(second, first.image_shape)) is not None:
        return first, other
    return None


def _in_shape(images: ImageSource, shape: tuple[int, int, int]) -> ImageSource | None:
    if images.shape == shape:
        return images
    if isinstance(images, Subset):
        source = _in_shape(images.source, shape)
        return None if source is None else Subset(source, images.indices)
    if hasattr(images, "encoded"):
        return _DecodedAgain(images, shape)
    if (*images.shape[:2], 3) == shape:
        return _GreyAsRGB(images)
    return None


class _DecodedAgain:
    """Pictures of another source, decoded at another shape."""

    def __init__(self, source: ImageSource, shape: tuple[int, int, int]):
        self._source, self.shape = source, shape

    def __len__(self) -> int:
        return len(self._source)

    def read(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), *self.shape), np.uint8)
        for rows in blocks(len(indices), _ROWS):  # of large photos, few are in memory at a time
            images[rows] = decoded(self._source.encoded(indices[rows]), self.shape)  # type: ignore[attr-defined]
        return images


class _GreyAsRGB:
    """Grey images of another source as colour ones, as a grey picture is served among those in colour."""

    def __init__(self, source: ImageSource):
        self._source, self.shape = source, (*source.shape[:2], 3)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, indices: np.ndarray) -> np.ndarray:
        return self._source.read(indices).repeat(3, axis=-1)
