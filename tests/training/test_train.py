"""What `train` and `train_from_labels` make of a data set: who teaches, who chooses, what is recorded."""

import json

import keras
import numpy as np
import pytest

from distill.data.dataset import UNLABELLED, ArrayImages, Dataset
from distill.training.recipe import Recipe
from distill.training.run_directory import read_metrics
from distill.training.train import train, train_from_labels


@pytest.fixture
def faces(rng):
    """Thirty images to learn from and twenty to choose by; half of each have no label."""
    labels = rng.integers(0, 2, 50)
    images = (labels * 120 + 60)[:, None, None, None] + rng.integers(-50, 50, (50, 6, 6, 1))
    return Dataset(
        name="bright and dark",
        ids=np.array([f"face{i}" for i in range(50)]),
        labels=np.where(np.arange(50) % 2, UNLABELLED, labels),
        class_names=("dark", "bright"),
        images=ArrayImages(images.astype(np.uint8)),
        splits=np.array(["train"] * 30 + ["validation"] * 20),
    )


def small_network():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((6, 6, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(2)]
    return keras.Sequential(layers, name="small")


@pytest.mark.parametrize("trainer", [train, train_from_labels])
def test_images_without_a_label_neither_teach_from_labels_nor_choose(faces, tmp_path, trainer):
    trained = trainer(small_network(), faces, out=tmp_path / "all", recipe=Recipe(epochs=2), progress=False)
    labelled = faces.subset(faces.labels != UNLABELLED)
    alone = trainer(small_network(), labelled, out=tmp_path / "labelled", recipe=Recipe(epochs=2), progress=False)
    for a, b in zip(trained.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for row, other in zip(read_metrics(tmp_path / "all"), read_metrics(tmp_path / "labelled"), strict=True):
        for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
            assert row[name] == other[name], name


@pytest.mark.parametrize("trainer", [train, train_from_labels])
def test_the_record_names_the_whole_split_and_what_is_known_of_the_weights(faces, tmp_path, trainer):
    provenance = {"begins_with_sha256": "0123", "fold": None}
    recipe = Recipe(epochs=1)
    trainer(small_network(), faces, out=tmp_path / "run", recipe=recipe, provenance=provenance, progress=False)
    record = json.loads((tmp_path / "run" / "settings.json").read_text())
    expected = {"images": 30, "fingerprint": faces.split("train").fingerprint}
    assert record["data"]["train"] == expected
    assert record["provenance"] == {"begins_with_sha256": "0123"}
