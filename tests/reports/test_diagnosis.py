"""Whether labels show another order of the classes, and an accuracy near chance."""

from itertools import permutations

import numpy as np
import pytest

from distill.data.dataset import UNLABELLED
from distill.data.expressions import CLASS_ORDERS
from distill.reports.diagnosis import Diagnosis, diagnose, exceeds, order_text, warnings_of

FER2013 = CLASS_ORDERS["fer2013"]
ALPHABETICAL = tuple(sorted(FER2013))


def answers(labels, *, right: float, classes: int = 7, seed: int = 0) -> np.ndarray:
    """Logits that are right in a share of the images, and say any class in the others."""
    rng = np.random.default_rng(seed)
    said = np.where(rng.random(len(labels)) < right, labels, rng.integers(0, classes, len(labels)))
    return 3.0 * np.eye(classes)[said] + rng.normal(0, 0.1, (len(labels), classes))


def labels_of(count, *, classes: int = 7, shares=None) -> np.ndarray:
    return np.random.default_rng(1).choice(classes, count, p=shares)


def in_order(logits, names):
    """The logits of a network of FER2013's classes as one that has them in another order gives them."""
    return logits[:, [FER2013.index(name) for name in names]]


@pytest.mark.parametrize("theirs", [ALPHABETICAL, CLASS_ORDERS["affectnet7"], FER2013[::-1]])
def test_the_order_of_a_network_is_found(theirs):
    labels = labels_of(400)
    given = in_order(answers(labels, right=0.6), theirs)
    found = diagnose(given, labels, FER2013)
    assert found.better_order == theirs
    position = {name: theirs.index(name) for name in FER2013}
    right = [given[row].argmax() == position[FER2013[label]] for row, label in enumerate(labels)]
    assert found.better_accuracy == pytest.approx(np.mean(right))
    assert found.accuracy == pytest.approx(np.mean(given.argmax(1) == labels))


def test_no_order_is_better_than_that_of_all_permutations():
    labels = labels_of(300, classes=4)
    given = answers(labels, right=0.7, classes=4)[:, [2, 0, 3, 1]]
    said = given.argmax(1).tolist()
    best = max(
        permutations("abcd"),
        key=lambda names: sum(names[each] == "abcd"[label] for each, label in zip(said, labels, strict=True)),
    )
    assert diagnose(given, labels, tuple("abcd")).better_order == best


@pytest.mark.parametrize("right", [0, 0.3, 0.6, 1])
@pytest.mark.parametrize("count", [3, 30, 300, 3000])
def test_the_right_order_is_never_questioned(right, count):
    for seed in range(5):
        labels = labels_of(count)
        assert diagnose(answers(labels, right=right, seed=seed), labels, FER2013).better_order is None


def test_one_class_for_all_is_no_better_order():
    labels = labels_of(3000, shares=[0.1, 0.05, 0.1, 0.4, 0.1, 0.1, 0.15])
    found = diagnose(np.tile(np.eye(7)[0], (3000, 1)), labels, FER2013)  # naming it "happy" would be right in 40 %
    assert found.better_order is None
    assert found.near_chance
    assert found.accuracy == pytest.approx(found.chance)


def test_classes_that_stand_in_turn_are_in_both_halves():
    labels = np.arange(800) % 8
    names = tuple("abcdefgh")
    given = answers(labels, right=0.9, classes=8)[:, [1, 0, 2, 3, 4, 5, 6, 7]]
    assert diagnose(given, labels, names).better_order == ("b", "a", *names[2:])


def test_two_rare_classes_exchanged_are_found_among_many_images():
    labels = labels_of(4000, shares=[0.3, 0.02, 0.02, 0.3, 0.2, 0.1, 0.06])
    theirs = ("angry", "fear", "disgust", *FER2013[3:])
    assert diagnose(in_order(answers(labels, right=0.8), theirs), labels, FER2013).better_order == theirs


def test_a_class_without_images_keeps_its_place():
    labels = labels_of(400, shares=[0.2, 0, 0.2, 0.2, 0.2, 0.2, 0])
    swapped = ("fear", "disgust", "angry", *FER2013[3:])
    given = in_order(answers(labels, right=0.8), swapped)
    assert diagnose(given, labels, FER2013).better_order == swapped


def test_near_chance_is_measured_against_chance_not_against_a_number():
    rare = np.where(np.arange(1000) < 900, 0, 1 + np.arange(1000) % 6)
    always_the_usual = np.tile(np.eye(7)[0], (1000, 1))
    found = diagnose(always_the_usual, rare, FER2013)
    assert (found.accuracy, found.near_chance) == (0.9, True)
    weak = labels_of(3000)
    assert not diagnose(answers(weak, right=0.2), weak, FER2013).near_chance  # 31 % right
    assert diagnose(answers(weak, right=0.02), weak, FER2013).near_chance


def test_images_without_a_label_count_for_nothing():
    labels = labels_of(400)
    given = answers(labels, right=0.6)
    more = np.concatenate([labels, np.full(50, UNLABELLED)]), np.concatenate([given, -given[:50]])
    assert diagnose(more[1], more[0], FER2013) == diagnose(given, labels, FER2013)
    assert diagnose(given, np.full(400, UNLABELLED), FER2013) == Diagnosis(images=0)
    assert warnings_of(Diagnosis(images=0)) == []


def test_exceeds_is_the_statistic_of_mcnemar():
    right, other = np.array([1] * 30 + [0] * 10 + [1] * 60, bool), np.array([0] * 30 + [1] * 10 + [1] * 60, bool)
    assert exceeds(right, other) == pytest.approx((30 - 10) / 40**0.5)
    assert exceeds(right, right) == 0


def test_what_is_said_names_the_flag():
    labels = labels_of(400)
    (said,) = warnings_of(diagnose(in_order(answers(labels, right=0.6), ALPHABETICAL), labels, FER2013))
    assert "--classes angry,disgust,fear,happy,neutral,sad,surprise (alphabetical)" in said
    assert order_text(("sad", "happy")) == "--classes sad,happy"
    (said,) = warnings_of(diagnose(answers(labels, right=0), labels, FER2013), prefix="online.")
    assert "near chance" in said
    assert "--online.input.range" in said
    (said,) = warnings_of(diagnose(answers(labels, right=0), labels, FER2013), of_this_project=True)
    assert "near chance" in said
    assert "--" not in said


@pytest.mark.parametrize(("images", "near"), [(2, True), (60, False)])
def test_a_few_images_that_are_all_right_say_little(images, near):
    labels = np.arange(images) % 2
    assert diagnose(np.eye(2)[labels], labels, ("sad", "happy")).near_chance is near
