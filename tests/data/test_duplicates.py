import numpy as np
import pytest

from distill.data.dataset import UNLABELLED, ArrayImages, Dataset
from distill.data.duplicates import Duplicates, class_counts, copies_of, find_duplicates


def made(pixels, labels, splits) -> Dataset:
    images = np.array(pixels, np.uint8).reshape(-1, 1, 1, 1)
    ids = np.array([str(row) for row in range(len(images))])
    return Dataset("made", ids, np.array(labels), ("a", "b"), ArrayImages(images), np.array(splits))


def test_duplicates_within_and_across_splits():
    dataset = made(
        pixels=[1, 1, 2, 3, 3, 3, 4, 1],
        labels=[0, 0, 1, 0, 1, 1, 0, 0],
        splits=["train", "train", "train", "train", "validation", "validation", "validation", "test"],
    )
    assert find_duplicates(dataset) == Duplicates(
        groups=2,
        images=6,
        conflicting=1,
        within={"train": (1, 2), "validation": (1, 2), "test": (0, 0)},
        across={
            ("train", "validation"): 1,
            ("train", "test"): 2,
            ("validation", "train"): 2,
            ("test", "train"): 1,
        },
    )


def test_copies_are_found_by_pixels_alone():
    dataset = made([5, 1, 2, 5], [0, 1, 0, 1], ["test"] * 4)
    others = made([2, 5, 5, 9], [1, 1, 1, 1], ["train"] * 4)
    assert copies_of(dataset, others).tolist() == [True, False, True, True]
    assert copies_of(others, dataset).tolist() == [True, True, True, False]


def test_missing_labels_are_no_conflict():
    assert find_duplicates(made([1, 1], [0, UNLABELLED], ["", ""])).conflicting == 0


def test_class_counts():
    dataset = made([1, 2, 3, 4], [0, 1, 1, UNLABELLED], ["test", "train", "train", "train"])
    assert class_counts(dataset) == {
        "a": {"train": 0, "test": 1},
        "b": {"train": 2, "test": 0},
        "unlabelled": {"train": 1, "test": 0},
    }


@pytest.mark.parametrize("seed", range(3))
def test_against_counting_by_hand(seed):
    rng = np.random.default_rng(seed)
    pixels, labels = rng.integers(0, 40, 60), rng.integers(0, 2, 60)
    found = find_duplicates(made(pixels, labels, rng.choice(["train", "test"], 60)))
    groups = [labels[pixels == value] for value in range(40) if (pixels == value).sum() > 1]
    assert found.groups == len(groups)
    assert found.images == sum(map(len, groups))
    assert found.conflicting == sum(len(set(group.tolist())) > 1 for group in groups)
