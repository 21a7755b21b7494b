"""A teacher that sees each view and its mirror image: the mean of both is what counts, wherever it scores."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from distill.command_line.teacher_settings import TeacherSettings
from distill.data.expressions import CLASS_ORDERS
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.runtimes.image_model import ImageModel
from distill.scoring.caching import as_image_model, cache_logits
from distill.scoring.online_teacher import OnlineTeacher
from distill.scoring.scorer import Scorer
from distill.scoring.spot_check import spot_check

VIEWS = ViewSpec(rotation=20, erase=0.5)


@pytest.fixture
def network(faces):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 1))
    hidden = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(hidden)), name="small")


def without_network(network) -> ImageModel:
    """Return the same teacher as one of another runtime."""
    return replace(as_image_model(network, ("angry", "happy", "neutral")), network=None)


def views_of(faces, indices, views) -> np.ndarray:
    """Return what a teacher sees: float32 [n * views, 8, 8, 1]."""
    shown = []

    def shows(pixels):
        shown.append(pixels.copy())
        return np.zeros((len(pixels), 3), np.float32)

    model = ImageModel(
        name="shows",
        input_shape=(8, 8, 1),
        classes=3,
        sha256="",
        numeric_policy="float32",
        logits_from="logits",
        input_format={},
        network=None,
        predict=shows,
    )
    Scorer(model, faces, view_spec=VIEWS).score(indices, range(views))
    return np.concatenate(shown)


@pytest.mark.parametrize("as_teacher", [lambda network: network, without_network], ids=["keras", "another runtime"])
def test_logits_are_the_mean_over_a_view_and_its_mirror_image(tmp_path, faces, network, as_teacher):
    teacher = as_teacher(network)
    store = cache_logits(
        teacher, faces, tmp_path / "t.h5", views=3, view_spec=VIEWS, flip_average=True, progress=False
    )
    seen = views_of(faces, np.arange(len(faces)), 3)
    both = [np.float64(network.predict_on_batch(np.ascontiguousarray(each))) for each in (seen, seen[:, :, ::-1])]
    assert np.abs(both[0] - both[1]).max() > 1  # the mirror image matters
    np.testing.assert_allclose(store.logits.reshape(-1, 3), (both[0] + both[1]) / 2, rtol=1e-4, atol=1e-3)
    assert store.header.input_format == {"flip_average": True}


def test_a_store_knows_whether_its_logits_are_a_flip_average(tmp_path, faces, network):
    plain, average = (
        cache_logits(network, faces, tmp_path / f"{flip}.h5", views=2, flip_average=flip, progress=False)
        for flip in (False, True)
    )
    teacher = as_image_model(network, faces.class_names)
    spot_check(teacher, plain, faces)
    spot_check(replace(teacher, flip_average=True), average, faces)
    for store, other in ((plain, True), (average, False)):
        with pytest.raises(InputError, match="flip_average"):
            spot_check(replace(teacher, flip_average=other), store, faces)
    with pytest.raises(InputError, match="flip_average"):
        cache_logits(network, faces, plain.path, views=2, flip_average=True, progress=False)


def test_an_online_teacher_gives_what_the_cache_holds(tmp_path, faces, network):
    store = cache_logits(
        network, faces, tmp_path / "t.h5", views=1, view_spec=VIEWS, flip_average=True, progress=False
    )
    teacher = replace(as_image_model(network, faces.class_names), flip_average=True)
    online = OnlineTeacher(teacher, class_names=faces.class_names)
    assert online.describe()["input_format"] == {"flip_average": True}
    outputs = online.outputs(faces, ["logits"], temperature=None, columns=VIEWS.columns)
    parameters = VIEWS.parameters(faces.ids, np.zeros(len(faces), int))
    rows = np.arange(len(faces))
    given = outputs(rows, np.zeros_like(rows), faces.read(rows), parameters)
    np.testing.assert_allclose(given["logits"], store.logits[:, 0], rtol=1e-4, atol=1e-3)


def test_features_of_a_flip_average_are_refused_before_anything_is_written(tmp_path, faces, network):
    with pytest.raises(InputError, match="features are those of one image"):
        cache_logits(network, faces, tmp_path / "t.h5", features=["conv2d"], flip_average=True, progress=False)
    assert not list(tmp_path.iterdir())


def test_the_flag_reaches_the_teacher(faces):
    dataset = replace(faces, class_names=CLASS_ORDERS["fer2013"])
    for flip in (False, True):
        settings = TeacherSettings(teacher="fer2013_resnet10", flip_average=flip)
        assert settings.open(dataset).flip_average is flip
