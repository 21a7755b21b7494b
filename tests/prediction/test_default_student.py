"""The student that comes with the package is what its card says."""

import json

import numpy as np

from distill.prediction.exported_model import DEFAULT_STUDENT, EXPORTS, open_exported


def test_it_is_small_and_has_a_card():
    model = open_exported(DEFAULT_STUDENT)
    assert model.path.stat().st_size < 1_000_000
    card = (DEFAULT_STUDENT / "README.md").read_text(encoding="utf-8")
    assert model.path.name in card
    assert "## Limits and fair use" in card
    assert model.description.class_names == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def test_its_accuracy_on_publictest_is_that_of_its_card(shared):
    data = np.load(shared / "data" / "fer2013.npz")
    public_test = data["usage"] == "PublicTest"
    pixels, labels = data["images"][public_test][..., None], data["labels"][public_test]
    accuracy = (open_exported(DEFAULT_STUDENT).probabilities(pixels).argmax(1) == labels).mean()
    facts = json.loads((DEFAULT_STUDENT / EXPORTS).read_text(encoding="utf-8"))
    (said,) = [row["accuracy"] for row in facts["exports"] if row["file"] == facts["recommended"]]
    assert abs(accuracy - said) < 0.003  # another processor rounds differently
