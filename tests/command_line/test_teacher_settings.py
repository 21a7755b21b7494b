"""Which teacher the flags mean, and the flags that it would ignore."""

import inspect

import keras
import numpy as np
import pytest

from distill.cache import ImportSettings
from distill.command_line.data_settings import DataClasses
from distill.command_line.teacher_settings import TeacherSettings
from distill.data.dataset import ArrayImages, Dataset
from distill.data.expressions import CLASS_ORDERS
from distill.errors import InputError
from distill.runtimes.foreign_network import ForeignNetwork
from distill.runtimes.image_model import BEFORE_SOFTMAX, LOGITS
from distill.runtimes.input_format import InputFormat


@pytest.fixture
def faces():
    count = 3
    return Dataset(
        "faces",
        np.array([f"f{row}" for row in range(count)]),
        np.arange(count),
        CLASS_ORDERS["fer2013"],
        ArrayImages(np.zeros((count, 8, 8, 1), np.uint8)),
        np.full(count, "train"),
    )


@pytest.fixture
def saved(tmp_path):
    """A function that saves a network of some classes and gives its path."""

    def save(classes=7):
        inputs = keras.Input((8, 8, 1))
        outputs = keras.layers.Dense(classes, activation="softmax")(keras.layers.Flatten()(inputs))
        keras.Model(inputs, outputs).save(tmp_path / f"theirs-{classes}.keras")
        return str(tmp_path / f"theirs-{classes}.keras")

    return save


def test_a_name_with_weights_is_a_network_of_this_project(faces, tmp_path):
    from teachers import PlainResNetTiny

    network = PlainResNetTiny(classes=7)
    network.save_weights(tmp_path / "tiny.weights.h5")
    model = TeacherSettings(teacher="plain_resnet_tiny", weights=str(tmp_path / "tiny.weights.h5")).open(faces)
    assert (model.name, model.logits_from, model.input_format) == ("plain_resnet_tiny", LOGITS, {})
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *network.input_shape[1:])).astype(np.float32)
    np.testing.assert_allclose(model.predict(pixels), network(pixels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", [DataClasses, ForeignNetwork, ImportSettings])
def test_help_names_every_order_of_classes(settings):
    help_text = inspect.getsource(settings)
    assert [order for order in CLASS_ORDERS if f'"{order}"' not in help_text] == []


def test_a_file_is_a_teacher_from_elsewhere(faces, saved):
    model = TeacherSettings(teacher=saved(), input=InputFormat(range=(-1, 1))).open(faces)
    assert (model.name, model.logits_from) == ("theirs-7", BEFORE_SOFTMAX)
    assert model.input_format["range"] == [-1, 1]


def test_a_description_takes_its_weights_from_another_file(faces, saved, tmp_path):
    network = keras.saving.load_model(saved())
    (tmp_path / "theirs.json").write_text(network.to_json())
    network.save_weights(tmp_path / "elsewhere.weights.h5")
    settings = {"teacher": str(tmp_path / "theirs.json"), "weights": str(tmp_path / "elsewhere.weights.h5")}
    model = TeacherSettings(**settings, input=InputFormat(range=(0, 1))).open(faces)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 1)).astype(np.float32)
    powers = np.exp(model.predict(pixels))
    expected = network.predict_on_batch(pixels / 255)
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), expected, rtol=1e-4)


def test_what_a_teacher_from_elsewhere_gives_can_be_said(faces, saved):
    assert TeacherSettings(teacher=saved(), output_type="probabilities").open(faces).logits_from == BEFORE_SOFTMAX
    with pytest.raises(InputError, match="ends in a softmax, so it does not give logits"):
        TeacherSettings(teacher=saved(), output_type="logits").open(faces)


def test_a_teacher_of_more_classes_names_them(faces, saved):
    settings = TeacherSettings(teacher=saved(8), classes="affectnet")
    model = settings.open(faces)
    assert (model.class_names, model.class_order) == (CLASS_ORDERS["affectnet"], "given")
    assert model.classes == 8
    with pytest.raises(
        InputError, match=r"theirs-8 gives 8 logits, the classes are 7 .*name the teacher's own classes"
    ):
        TeacherSettings(teacher=saved(8)).open(faces)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"teacher": "facenet"}, "--teacher facenet needs what it learned: give --weights"),
        ({"teacher": "facnet"}, 'unknown network "facnet": did you mean facenet'),
        ({"teacher": "fer2013_resnet1"}, "did you mean fer2013_resnet10"),
        (
            {"teacher": "facenet", "weights": "run", "input": InputFormat(size=48)},
            "--input is not for --teacher facenet",
        ),
        (
            {"teacher": "facenet", "weights": "run", "output_type": "logits"},
            "--output-type is not for --teacher facenet",
        ),
        ({"teacher": "theirs.keras", "weights": "run"}, "--weights is not for --teacher theirs.keras"),
        ({"teacher": "theirs.onnx", "image_size": 64}, "--image-size is not for --teacher theirs.onnx"),
        ({"teacher": "nothing.keras"}, "nothing.keras does not exist"),
    ],
)
def test_flags_that_do_not_belong_together(faces, flags, message):
    with pytest.raises(InputError, match=message):
        TeacherSettings(**flags).open(faces)
