"""Drawn faces are the same everywhere, differ as they should, and show what their labels say."""

import hashlib

import numpy as np
import pytest

from distill.data.expressions import CLASS_ORDERS
from distill.data.synthetic_faces import ACTION_UNITS, synthetic_faces
from distill.errors import InputError

SPLITS = ("train", "validation", "test")
EASY = {"label_noise": 0, "faintest": 1, "blend": 0, "pose": 0, "light": 0, "occlusion": 0}

# Measured when the drawing was made; they change only with a deliberate change of the drawing.
FIRST_TILES = [
    [[114.7, 102.1, 149.0], [135.2, 154.5, 154.0], [206.0, 167.1, 234.4]],
    [[118.4, 126.8, 152.4], [127.2, 147.8, 140.0], [135.8, 144.6, 161.9]],
    [[108.4, 132.3, 66.2], [136.2, 143.4, 111.8], [140.3, 169.5, 118.5]],
]
EXACT = "b9df79bfa3b4745d"


@pytest.fixture(scope="module")
def faces():
    return synthetic_faces(140, size=32)


def pixels(dataset):
    return dataset.images.array


def test_same_seed_same_faces(faces):
    again = synthetic_faces(140, size=32)
    assert again.fingerprint == faces.fingerprint
    assert again.ids.tolist() == faces.ids.tolist()


def test_another_seed_gives_other_faces_and_other_wrong_labels():
    first, second = synthetic_faces(700, size=16, seed=1), synthetic_faces(700, size=16, seed=2)
    different = np.any(pixels(first) != pixels(second), axis=(1, 2, 3))
    assert different.all()
    assert np.any(first.labels != second.labels)
    assert first.splits.tolist() == second.splits.tolist()


@pytest.mark.parametrize("count", [21, 50, 97])
def test_a_face_does_not_depend_on_how_many_there_are(faces, count):
    fewer = synthetic_faces(count, size=32)
    np.testing.assert_array_equal(pixels(fewer), pixels(faces)[:count])
    np.testing.assert_array_equal(fewer.labels, faces.labels[:count])
    assert fewer.ids.tolist() == faces.ids[:count].tolist()


def test_faces_agree_across_sizes():
    """The same people at twice the size: only the edges of shapes differ."""
    small, large = (pixels(synthetic_faces(28, size=size, grain=0)) for size in (32, 64))
    shrunk = large.reshape(28, 32, 2, 32, 2).mean(axis=(2, 4))
    assert np.abs(small[..., 0] - shrunk).mean() < 3


def test_first_faces_look_as_they_always_did():
    """Typed-in mean greys of 3 x 3 tiles; a change of more than a grey level is a new dataset."""
    tiles = pixels(synthetic_faces(21))[:3].reshape(3, 3, 16, 3, 16).mean(axis=(2, 4))
    np.testing.assert_allclose(tiles, FIRST_TILES, atol=0.1)


def test_every_byte_is_the_same_on_every_machine():
    """Cached logits are joined by content hash; the arithmetic was chosen so that no rounding differs."""
    content = pixels(synthetic_faces(64, classes=8, size=48, seed=3)).tobytes()
    assert hashlib.blake2b(content, digest_size=8).hexdigest() == EXACT


@pytest.mark.parametrize(("classes", "order"), [(7, "fer2013"), (8, "microexpnet")])
def test_classes_take_turns_in_every_split(classes, order):
    dataset = synthetic_faces(20 * classes, classes=classes, size=16, label_noise=0)
    assert dataset.class_names == CLASS_ORDERS[order]
    for split, expected in zip(SPLITS, (14, 3, 3), strict=True):
        assert np.bincount(dataset.split(split).labels).tolist() == [expected] * classes


def test_the_fewest_faces_fill_every_split():
    dataset = synthetic_faces(21, size=16)
    assert [len(dataset.split(split)) for split in SPLITS] == [7, 7, 7]


def test_ids_hold_split_and_index(faces):
    assert faces.ids[:3].tolist() == ["train/00000", "train/00001", "train/00002"]
    assert faces.ids[7] == "validation/00007"
    assert faces.ids[139] == f"{faces.splits[139]}/00139"


def test_images_are_grey_bytes_that_use_the_range(faces):
    assert faces.image_shape == (32, 32, 1)
    assert pixels(faces).dtype == np.uint8
    assert pixels(faces).min() < 10
    assert pixels(faces).max() > 245
    assert pixels(faces).std(axis=(1, 2, 3)).min() > 8, "a face is nearly blank"


def test_label_noise_strikes_the_training_labels_alone():
    noisy, clean = (synthetic_faces(1400, size=16, label_noise=rate) for rate in (0.2, 0))
    wrong = noisy.labels != clean.labels
    assert not wrong[noisy.splits != "train"].any()
    assert wrong[noisy.splits == "train"].mean() == pytest.approx(0.2, abs=0.03)
    np.testing.assert_array_equal(pixels(noisy), pixels(clean))
    assert noisy.notes == ("20% of the training labels are wrong on purpose",)
    assert clean.notes == ()


def test_wrong_labels_are_spread_over_all_other_classes():
    labels = synthetic_faces(1400, size=16, label_noise=1).split("train").labels
    truth = synthetic_faces(1400, size=16, label_noise=0).split("train").labels
    steps = np.bincount((labels - truth) % 7, minlength=7) / len(labels)
    assert steps[0] == 0
    np.testing.assert_allclose(steps[1:], 1 / 6, atol=0.05)


@pytest.mark.parametrize(("options", "least"), [(EASY, 0.8), ({"label_noise": 0}, 0.35)])
def test_a_linear_classifier_beats_chance(options, least):
    """Ridge regression on pixels; chance is 1/7. It is certain on clear faces, and far from it by default."""
    dataset = synthetic_faces(1400, size=24, **options)
    x = pixels(dataset).reshape(1400, -1).astype(np.float64)
    x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    train, target = dataset.splits == "train", np.eye(7)[dataset.labels]
    gram = x[train].T @ x[train] + 300 * np.eye(x.shape[1])
    predictions = (x[~train] @ np.linalg.solve(gram, x[train].T @ target[train])).argmax(axis=1)
    assert np.mean(predictions == dataset.labels[~train]) > least


def test_options_change_what_they_name():
    """With everything else off, each option leaves its mark on the pixels and on nothing else."""
    plain = synthetic_faces(70, size=24, **EASY, grain=0)
    for option in ({"pose": 1}, {"light": 1}, {"occlusion": 1}, {"grain": 1}, {"blend": 1}, {"faintest": 0}):
        changed = synthetic_faces(70, size=24, **(EASY | {"grain": 0} | option))
        assert np.any(pixels(changed) != pixels(plain)), option
        np.testing.assert_array_equal(changed.labels, plain.labels)


def test_every_expression_has_its_muscles():
    named = {name for order in CLASS_ORDERS.values() for name in order}
    assert set(ACTION_UNITS) == named
    assert all(0 < share <= 1 for units in ACTION_UNITS.values() for share in units.values())
    distinct = {tuple(sorted(units.items())) for units in ACTION_UNITS.values()}
    assert len(distinct) == len(named)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 6}, "synthetic faces have 7 or 8 classes, received 6"),
        ({"count": 20}, "synthetic faces: count must be 21 to 99999, received 20"),
        ({"count": 23, "classes": 8}, "synthetic faces: count must be 24 to 99999, received 23"),
        ({"size": 8}, "synthetic faces: size must be 16 to 512, received 8"),
        ({"seed": -1}, "synthetic faces: seed must be 0 to 18446744073709551615, received -1"),
        ({"label_noise": 1.5}, "synthetic faces: label_noise must be 0 to 1, received 1.5"),
        ({"occlusion": float("nan")}, "synthetic faces: occlusion must be 0 to 1, received nan"),
        ({"pose": -0.5}, "synthetic faces: pose must be 0 to 3, received -0.5"),
    ],
)
def test_an_option_out_of_its_range_is_named(options, message):
    with pytest.raises(InputError) as caught:
        synthetic_faces(**options)
    assert str(caught.value) == message
