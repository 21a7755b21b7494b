import pytest

from distill.data.split_names import (
    refuse_doubtful,
    split_named,
    split_of_path,
    split_of_shard,
    splits_in_file_names,
)
from distill.errors import InputError


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Training", "train"),
        ("TRAIN", "train"),
        ("FER2013Train", "train"),
        ("train_images", "train"),
        ("PublicTest", "validation"),
        ("public_test", "validation"),
        ("val2017", "validation"),
        ("Valid", "validation"),
        ("dev", "validation"),
        ("FER2013Valid", "validation"),
        ("PrivateTest", "test"),
        ("Test Set", "test"),
        ("testing", "test"),
        ("fear", None),
        ("happy", None),
        ("contempt", None),
        ("fold0", None),
        ("images", None),
        ("7", None),
        ("", None),
        ("test_old", None),
    ],
)
def test_names_of_splits(name, split):
    assert split_named(name) == split


@pytest.mark.parametrize("name", ["test_old", "MyTest", "eval", "train-more", "holdout", "evaluation", "not_valid"])
def test_names_in_doubt_are_refused(name):
    with pytest.raises(InputError, match=f'^here: "{name}" may be a split: call it train, validation, test'):
        refuse_doubtful(name, "here")


@pytest.mark.parametrize("name", ["happy", "test", "contest", "invalid", "fear", "trained", "devil", "attestation"])
def test_other_names_are_not_in_doubt(name):
    refuse_doubtful(name, "here")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00012", "train"),
        ("mnist-test-00000-of-00001", "test"),
        ("imagenet-val-000003", "validation"),
        ("PublicTest_2", "validation"),
        ("fer2013-public-test-0", "validation"),
        ("images-00000", ""),
        ("contest-1", ""),
        ("0042", ""),
    ],
)
def test_splits_that_shards_are_called_by(name, split):
    assert split_of_shard(name, "") == split


@pytest.mark.parametrize("name", ["train-test-0", "eval-0", "holdout_3"])
def test_shards_whose_split_is_in_doubt_are_refused(name):
    with pytest.raises(InputError, match=f'^here: "{name}" may be a split'):
        split_of_shard(name, "here")


def test_any_folder_of_a_path_names_the_split():
    assert split_of_path("images/Test/a.png", "") == "test"
    assert split_of_path("images/happy/test.png", "") == ""  # a file is not a folder


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("Training_1.jpg", "PublicTest_2.jpg", "PrivateTest_3.jpg"), ["train", "validation", "test"]),
        (("train_00001_aligned.jpg", "test_0001_aligned.jpg"), ["train", "test"]),
        (("test_1.png", "test_2.png"), ["", ""]),  # may be called so for other reasons
        (("S005_001_00000009.png", "a.png"), ["", ""]),
    ],
)
def test_file_names_may_begin_with_a_split(names, splits):
    assert splits_in_file_names(names, "")[0] == splits
