"""Copies are found although two datasets are served at different shapes."""

from dataclasses import replace

import numpy as np
import pytest

from distill.data.dataset import Dataset
from distill.data.duplicates import copies_of
from distill.data.image_files import open_image_files
from distill.data.same_shape import in_shape

FACES = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)


@pytest.fixture
def of_files(write_image):
    """Return a function that makes a dataset of picture files."""

    def make(name, pictures, mode="L"):
        paths = [write_image(f"{name}/{row}.png", picture) for row, picture in enumerate(pictures)]
        whole = Dataset.from_arrays(np.zeros((len(paths), 1, 1), np.uint8), name=name)
        return replace(whole, images=open_image_files(paths)[0])

    return make


COLOUR = np.full((8, 8, 3), (255, 0, 0), np.uint8)
LARGE = np.full((12, 12), 7, np.uint8)


@pytest.mark.parametrize("others", [[COLOUR], [LARGE] * 7, [COLOUR, *[LARGE] * 7]], ids=["colour", "size", "both"])
@pytest.mark.parametrize("known", ["files", "arrays"])
def test_other_pictures_of_a_dataset_hide_no_copies(of_files, known, others):
    evaluated = of_files("known", FACES) if known == "files" else Dataset.from_arrays(FACES)
    extra = of_files("extra", [*others, *FACES[:2], FACES[2][:, ::-1]])
    assert extra.image_shape != evaluated.image_shape
    assert copies_of(extra, evaluated).tolist() == [False] * len(others) + [True] * 3
    assert copies_of(evaluated, extra).tolist() == [True] * 3 + [False] * 3
    part = extra.subset(np.arange(len(extra))[::-1])
    assert copies_of(part, evaluated).tolist() == [True] * 3 + [False] * len(others)


def test_grey_arrays_are_compared_with_rgb_arrays():
    in_colour = Dataset.from_arrays(np.repeat(FACES[..., None], 3, axis=-1)[1:3])
    assert copies_of(in_colour, Dataset.from_arrays(FACES)).all()


def test_arrays_of_different_sizes_share_no_image():
    small = Dataset.from_arrays(FACES[:, :4, :4])
    assert in_shape(small, (8, 8, 1)) is None
    assert not copies_of(small, Dataset.from_arrays(FACES)).any()
