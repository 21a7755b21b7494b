import numpy as np
import pytest

from distill.data.dataset import ArrayImages, Dataset


@pytest.fixture
def faces(rng):
    return Dataset(
        name="faces",
        ids=np.array([f"face-{row}" for row in range(18)]),
        labels=rng.integers(0, 3, 18),
        class_names=("angry", "happy", "neutral"),
        images=ArrayImages(rng.integers(0, 256, (18, 8, 8, 1), np.uint8)),
        splits=np.repeat(["train", "validation"], 9),
    )
