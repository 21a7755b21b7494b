"""Every student that comes with the package is what its card says."""

import json

import numpy as np
import pytest

from distill.data.rendering import render_numpy
from distill.data.views import IDENTITY
from distill.prediction.exported_model import DEFAULT_STUDENT, EXPORTS, is_exported, open_exported, trained_students

LARGEST = {  # bytes
    "fer2013_slim_resnet_wide": 1_000_000,
    "fer2013_slim_mobilenet": 100_000,
    "fer2013_microexpnet": 300_000,
}


def test_each_has_a_bound_and_one_is_the_default():
    assert set(trained_students()) == set(LARGEST)
    assert DEFAULT_STUDENT in LARGEST


@pytest.mark.parametrize("name", LARGEST)
def test_it_is_small_and_has_a_card(name):
    assert is_exported(name)
    model = open_exported(name)
    assert model.path.stat().st_size < LARGEST[name]
    card = (trained_students()[name] / "README.md").read_text(encoding="utf-8")
    assert model.path.name in card
    assert "## Limits and fair use" in card
    assert model.description.class_names == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.mark.parametrize("name", LARGEST)
def test_its_accuracy_on_publictest_is_that_of_its_card(name, shared):
    data = np.load(shared / "data" / "fer2013.npz")
    public_test = data["usage"] == "PublicTest"
    pixels, labels = data["images"][public_test][..., None], data["labels"][public_test]
    model = open_exported(name)
    pixels = render_numpy(pixels, np.tile(IDENTITY, (len(pixels), 1)), image_shape=model.description.input_shape)
    accuracy = (model.probabilities(pixels).argmax(1) == labels).mean()
    facts = json.loads((trained_students()[name] / EXPORTS).read_text(encoding="utf-8"))
    (said,) = [row["accuracy"] for row in facts["exports"] if row["file"] == facts["recommended"]]
    assert abs(accuracy - said) < 0.003  # another processor rounds differently
