"""Merged classes: labels, soft labels, and teachers whose probabilities add up."""

from dataclasses import replace

import numpy as np
import pytest

from distill.data.class_map import merge_logits, parse_class_map, with_class_map
from distill.data.dataset import Dataset
from distill.errors import InputError

NAMES = ("angry", "happy", "fear", "neutral")
MAP = {"angry": "other", "fear": "other"}


@pytest.fixture
def dataset():
    images = np.zeros((5, 4, 4, 1), np.uint8)
    made = Dataset.from_arrays(images, np.array([0, 1, 2, 3, -1]), class_names=list(NAMES))
    probs = np.array([[0.5, 0.25, 0.25, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], np.float32)
    return replace(made, label_probs=probs)


def softmax(logits):
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(-1, keepdims=True)


def test_labels_and_soft_labels_are_merged(dataset):
    merged = with_class_map(dataset, MAP)
    assert merged.class_names == ("other", "happy", "neutral")
    assert merged.labels.tolist() == [0, 1, 0, 2, -1]
    np.testing.assert_array_equal(merged.label_probs[0], [0.75, 0.25, 0])
    assert merged.subset([2, 3]).class_map == MAP


def test_the_label_is_the_most_probable_of_the_merged_classes(dataset):
    behind = replace(dataset, labels=np.array([1, 1, 2, 3, -1]), label_probs=np.array(dataset.label_probs))
    behind.label_probs[0] = [0.3, 0.4, 0.3, 0]
    assert with_class_map(behind, MAP).labels.tolist() == [0, 1, 0, 2, -1]
    behind.label_probs[0] = [0.25, 0.5, 0.25, 0]  # even: the label stays
    assert with_class_map(behind, MAP).labels.tolist() == [1, 1, 0, 2, -1]


@pytest.mark.parametrize("pairs", [("angry=happy", "happy=angry"), ("angry=fear", "fear=other")])
def test_a_map_that_would_change_what_it_has_made_is_refused(pairs):
    with pytest.raises(InputError, match="is both an old and a new name"):
        parse_class_map(pairs)


def test_probabilities_of_a_teacher_add_up(rng):
    logits = rng.normal(size=(6, 2, 4)).astype(np.float32) * 5
    merged = softmax(merge_logits(logits, NAMES, ("neutral", "other", "happy"), MAP))
    each = softmax(logits)
    expected = np.stack([each[..., 3], each[..., 0] + each[..., 2], each[..., 1]], axis=-1)
    np.testing.assert_allclose(merged, expected, rtol=1e-5)


def test_a_certain_teacher_stays_finite():
    merged = merge_logits(np.array([[5000.0, -5000, 0, 0]], np.float32), NAMES, ("other", "happy", "neutral"), MAP)
    assert np.isfinite(merged).all()


def test_spellings_are_one():
    assert parse_class_map(("anger=Other", "Fearful=Other")) == {"angry": "Other", "fear": "Other"}


def test_a_data_set_that_is_merged_already_keeps_the_map_for_its_teacher(dataset):
    merged = with_class_map(dataset, MAP)
    assert with_class_map(merged, MAP).class_names == merged.class_names
    unlabelled = replace(dataset, class_names=(), labels=np.full(5, -1), label_probs=None)
    assert with_class_map(unlabelled, MAP).class_map == MAP


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (("angry",), 'takes OLD=NEW, such as angry=other, received "angry"'),
        (("angry=",), "takes OLD=NEW"),
        (("angry=a", "anger=b"), "gives angry two names, a and b"),
        (("hapy=good",), 'has no class "hapy": did you mean happy'),
        (tuple(f"{name}=face" for name in NAMES), "leaves the class face alone"),
    ],
)
def test_maps_of_no_use_are_refused(dataset, pairs, message):
    with pytest.raises(InputError, match=message):
        with_class_map(dataset, parse_class_map(pairs))


def test_a_class_that_no_class_of_the_teacher_becomes_is_named():
    with pytest.raises(InputError, match="no calm among the classes angry, happy, .*: say with --class-map"):
        merge_logits(np.zeros((1, 4), np.float32), NAMES, ("other", "calm"), MAP)
