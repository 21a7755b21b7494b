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


def pictures(*images, splits) -> Dataset:
    """Grey images of 2x3 pixels, given as rows of six values."""
    pixels = np.array(images, np.uint8).reshape(-1, 2, 3, 1)
    return Dataset.from_arrays(pixels, np.zeros(len(pixels), int), class_names=("a", "b"), splits=splits)


ONE, ITS_MIRROR, OTHER, SYMMETRIC = (1, 2, 3, 4, 5, 6), (3, 2, 1, 6, 5, 4), (9, 2, 3, 4, 5, 6), (7, 8, 7, 9, 8, 9)


def test_mirrored_copies_across_splits_are_found():
    found = find_duplicates(
        pictures(ONE, OTHER, SYMMETRIC, ITS_MIRROR, SYMMETRIC, splits=["train"] * 3 + ["validation", "test"])
    )
    assert (found.groups, found.images) == (1, 2)
    assert found.across == {("train", "test"): 1, ("test", "train"): 1}
    assert found.mirrored == 2
    assert found.mirrored_across == {("train", "validation"): 1, ("validation", "train"): 1}


def test_an_exact_copy_is_not_counted_as_mirrored_too():
    found = find_duplicates(pictures(ONE, ITS_MIRROR, ONE, splits=["train", "train", "test"]))
    assert found.across == {("train", "test"): 1, ("test", "train"): 1}
    assert found.mirrored_across == {("train", "test"): 1}  # of the mirror image, which has no exact copy
    assert found.mirrored == 1


@pytest.mark.parametrize("more", [0, 5])
def test_mirrored_copies_of_others_are_copies(more):
    dataset = pictures(ONE, OTHER, splits="train")
    others = pictures(*[ITS_MIRROR] * (1 + more), splits="test")
    assert copies_of(dataset, others).tolist() == [True, False]
    assert copies_of(others, dataset).tolist() == [True] * (1 + more)


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
