"""A teacher that sees copies of each view, mirrored or moved: their mean is what counts, wherever it scores."""

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


def ten_crops(images) -> list[np.ndarray]:
    """Return images, them moved by two pixels towards each corner, and the mirror images of all of these."""
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    crops = [padded[:, 2:-2, 2:-2]] + [padded[:, y : y + 8, x : x + 8] for y in (0, 4) for x in (0, 4)]
    return [*crops, *[np.ascontiguousarray(each[:, :, ::-1]) for each in crops]]


AVERAGES = {
    "flip": ({"flip_average": True}, [0, 5]),
    "shift": ({"shift_average": 2}, range(5)),
    "both": ({"flip_average": True, "shift_average": 2}, range(10)),
}


@pytest.mark.parametrize("as_teacher", [lambda network: network, without_network], ids=["keras", "another runtime"])
@pytest.mark.parametrize(("average", "crops"), AVERAGES.values(), ids=AVERAGES)
def test_logits_are_the_mean_over_the_copies_of_a_view(tmp_path, faces, network, as_teacher, average, crops):
    teacher = as_teacher(network)
    store = cache_logits(teacher, faces, tmp_path / "t.h5", views=3, view_spec=VIEWS, progress=False, **average)
    seen = ten_crops(views_of(faces, np.arange(len(faces)), 3))
    logits = [np.float64(network.predict_on_batch(seen[crop])) for crop in crops]
    assert all(np.abs(logits[0] - other).max() > 1 for other in logits[1:])  # the copies matter
    np.testing.assert_allclose(store.logits.reshape(-1, 3), np.mean(logits, axis=0), rtol=1e-4, atol=1e-3)
    assert store.header.input_format == average


def test_copies_count_as_images_of_a_batch(faces, network):
    sizes = []
    teacher = without_network(network)

    def counts(pixels):
        sizes.append(len(pixels))
        return teacher.predict(pixels)

    for average, views, largest in (({}, 2, 16), ({"shift_average": 1}, 1, 15), ({"flip_average": True}, 3, 12)):
        sizes.clear()
        Scorer(replace(teacher, predict=counts, **average), faces, batch_size=17).score(np.arange(18), range(views))
        assert max(sizes) == largest, average


@pytest.mark.parametrize(
    ("average", "other"), [({"flip_average": True}, {}), ({"shift_average": 2}, {"shift_average": 1})]
)
def test_a_store_knows_over_what_its_logits_are_averaged(tmp_path, faces, network, average, other):
    stores = [
        cache_logits(network, faces, tmp_path / f"{row}.h5", views=2, progress=False, **how)
        for row, how in enumerate((average, other, {}))
    ]
    teacher = as_image_model(network, faces.class_names)
    ways = (average, other, {})
    for store, way in zip(stores, ways, strict=True):
        spot_check(replace(teacher, **way), store, faces)
        for another in ways:
            if another != way:
                with pytest.raises(InputError, match=next(iter(average))):
                    spot_check(replace(teacher, **another), store, faces)
    with pytest.raises(InputError, match=next(iter(average))):
        cache_logits(network, faces, stores[2].path, views=2, progress=False, **average)


@pytest.mark.parametrize("pixels", [-1, 5, 1.5])
def test_a_shift_that_leaves_the_image_is_refused_before_anything_is_written(tmp_path, faces, network, pixels):
    with pytest.raises(InputError, match=rf"shift-average must be .* in 0\.\.4, .* received {pixels}"):
        cache_logits(network, faces, tmp_path / "t.h5", shift_average=pixels, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("average", [each for each, _ in AVERAGES.values()], ids=AVERAGES)
def test_an_online_teacher_gives_what_the_cache_holds(tmp_path, faces, network, average):
    store = cache_logits(network, faces, tmp_path / "t.h5", views=1, view_spec=VIEWS, progress=False, **average)
    teacher = replace(as_image_model(network, faces.class_names), **average)
    online = OnlineTeacher(teacher, class_names=faces.class_names)
    assert online.describe()["input_format"] == average
    outputs = online.outputs(faces, ["logits"], temperature=None, columns=VIEWS.columns)
    parameters = VIEWS.parameters(faces.ids, np.zeros(len(faces), int))
    rows = np.arange(len(faces))
    given = outputs(rows, np.zeros_like(rows), faces.read(rows), parameters)
    np.testing.assert_allclose(given["logits"], store.logits[:, 0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("average", [{"flip_average": True}, {"shift_average": 2}])
def test_features_of_an_average_are_refused_before_anything_is_written(tmp_path, faces, network, average):
    named = next(iter(average)).replace("_", " ")
    with pytest.raises(InputError, match=f"features are those of one image, .* omit them or the {named}"):
        cache_logits(network, faces, tmp_path / "t.h5", features=["conv2d"], progress=False, **average)
    assert not list(tmp_path.iterdir())


def test_the_flags_reach_the_teacher(faces):
    dataset = replace(faces, class_names=CLASS_ORDERS["fer2013"])
    for averages in ({}, *[each for each, _ in AVERAGES.values()]):
        assert TeacherSettings(teacher="fer2013_resnet10", **averages).open(dataset).averages == averages
