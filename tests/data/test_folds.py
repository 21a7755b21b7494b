"""Folds keep people apart, use every image once, and refuse what would leak or leave nothing to test on."""

from dataclasses import replace

import numpy as np
import pytest

from distill.data.dataset import ArrayImages, Dataset
from distill.data.folds import deal_folds, fold_splits
from distill.errors import InputError


def faces(count=60, *, subjects=12, **columns):
    return Dataset(
        name="faces",
        ids=np.array([f"face{i}" for i in range(count)]),
        labels=np.arange(count) % 2,
        class_names=("a", "b"),
        images=ArrayImages(np.zeros((count, 2, 2, 1), np.uint8)),
        splits=np.array([""] * count),
        **({"subjects": np.array([f"S{i % subjects:03}" for i in range(count)])} if subjects else {}),
        **columns,
    )


@pytest.mark.parametrize("folds", [3, 5, 10])
def test_every_image_is_tested_once_and_no_subject_is_on_two_sides(folds):
    dealt = deal_folds(faces(), folds)
    tested = []
    for fold in range(folds):
        parts = fold_splits(dealt, fold)
        tested += parts.split("test").ids.tolist()
        people = [set(parts.split(split).subjects) for split in ("train", "validation", "test")]
        assert all(people)
        assert not (people[0] & people[1])
        assert not (people[0] & people[2])
        assert not (people[1] & people[2])
    assert sorted(tested) == sorted(dealt.ids.tolist())


def test_the_datas_own_folds_are_kept():
    own = np.arange(60) % 12 % 4 + 5  # numbered 5 to 8, whole subjects
    np.testing.assert_array_equal(deal_folds(faces(folds=own), 4).folds, own - 5)
    assert deal_folds(faces(folds=own), 6).folds.max() == 5  # subjects are dealt anew
    with pytest.raises(InputError, match=r"faces has 4 folds \(5, 6, 7, 8\), received 6: give --folds 4"):
        deal_folds(faces(folds=own, subjects=0), 6)


def test_images_without_subjects_are_dealt_out_evenly_whatever_their_order():
    dataset = faces(subjects=0)
    dealt = deal_folds(dataset, 7)
    assert np.bincount(dealt.folds).tolist() == [9, 9, 9, 9, 8, 8, 8]
    assert dealt.notes == ("subjects are not known, so images of one subject may be in two folds",)
    turned = deal_folds(dataset.subset(np.arange(60)[::-1]), 7)
    np.testing.assert_array_equal(turned.folds[::-1], dealt.folds)


def test_the_test_split_is_left_out():
    splits = np.array(["train"] * 40 + ["test"] * 20)
    assert len(deal_folds(replace(faces(subjects=0), splits=splits), 4)) == 40


def test_a_subject_in_two_folds_is_refused():
    shared = np.arange(60) % 12 % 4
    shared[12] = 3  # S000, whose other images are in fold 0
    with pytest.raises(InputError, match="subject S000 of faces is in the folds 0, 3: move all images"):
        deal_folds(faces(folds=shared), 4)


@pytest.mark.parametrize(
    ("dataset", "folds", "message"),
    [
        (faces(), 2, "folds must be 3 or more .* received 2"),
        (faces(), 13, "fold 12 of 13 is empty: faces has 12 subjects outside the test split, give --folds 12"),
        (faces(subjects=2), 3, "has 2 subjects outside the test split, too few for folds"),
        (faces(5, subjects=0), 6, "faces has 5 images, fewer than 6 folds: give --folds 5 or less"),
    ],
)
def test_folds_that_cannot_be_are_refused(dataset, folds, message):
    with pytest.raises(InputError, match=message):
        deal_folds(dataset, folds)


def test_ckplus_subjects_are_dealt_out_whole(fer_layouts):
    from distill.data.open_dataset import open_dataset

    dealt = deal_folds(open_dataset(fer_layouts / "ck48"), 5)
    assert len(np.unique(dealt.folds)) == 5
    for subject in np.unique(dealt.subjects):
        assert len(np.unique(dealt.folds[dealt.subjects == subject])) == 1
