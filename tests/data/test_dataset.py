import hashlib
from dataclasses import replace

import numpy as np
import pytest

from distill.data.dataset import ArrayImages, Dataset
from distill.data.splits import with_splits
from distill.errors import InputError

COUNT = 50


@pytest.fixture
def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset(
        name="made",
        ids=np.array([f"face/{row:02d}" for row in range(COUNT)]),
        labels=rng.integers(0, 3, COUNT),
        class_names=("a", "b", "c"),
        images=ArrayImages(rng.integers(0, 256, (COUNT, 4, 4, 1), np.uint8)),
        splits=np.array(["train"] * 40 + ["test"] * 10),
        label_probs=rng.dirichlet(np.ones(3), COUNT).astype(np.float32),
        folds=np.arange(COUNT) % 5,
    )


class CountingImages(ArrayImages):
    reads = 0

    def read(self, indices):
        self.reads += 1
        return super().read(indices)


@pytest.fixture
def dataset_of_subjects(dataset) -> Dataset:
    return replace(dataset, subjects=np.array([f"S{row % 7}" for row in range(COUNT)]))


def test_a_subset_takes_every_column(dataset_of_subjects):
    dataset, chosen = dataset_of_subjects, np.array([7, 3, 41])
    part = dataset.subset(chosen)
    for column in ("ids", "labels", "splits", "label_probs", "folds", "subjects"):
        np.testing.assert_array_equal(getattr(part, column), getattr(dataset, column)[chosen])
    np.testing.assert_array_equal(part.read([2, 0]), dataset.read([41, 7]))


def test_a_subset_from_the_end_reads_the_images_of_its_ids(dataset):
    part = dataset.subset(np.array([-1, -3]))
    assert part.ids.tolist() == dataset.ids[[-1, -3]].tolist()
    np.testing.assert_array_equal(part.read([0, 1]), dataset.read([len(dataset) - 1, len(dataset) - 3]))


def test_a_subset_of_a_subset_reads_the_same_images(dataset):
    part = dataset.subset(np.arange(10, 30)).subset(np.array([5, 0]))
    assert part.ids.tolist() == ["face/15", "face/10"]
    np.testing.assert_array_equal(part.read([0, 1]), dataset.read([15, 10]))


def test_a_subset_by_mask(dataset):
    mask = dataset.labels == 1
    part = dataset.subset(mask)
    np.testing.assert_array_equal(part.ids, dataset.ids[mask])
    np.testing.assert_array_equal(part.read(np.arange(len(part))), dataset.read(np.flatnonzero(mask)))


def test_a_subset_keeps_known_hashes_and_finds_the_same_ones_itself(dataset):
    chosen = np.array([9, 2])
    fresh = dataset.subset(chosen).content_hashes
    np.testing.assert_array_equal(dataset.content_hashes[chosen], fresh)
    counting = CountingImages(dataset.images.array)
    hashed = replace(dataset, images=counting)
    known = hashed.content_hashes
    reads = counting.reads
    np.testing.assert_array_equal(hashed.subset(chosen).content_hashes, known[chosen])
    assert counting.reads == reads


def test_mirrored_hashes_are_those_of_the_mirrored_images(dataset):
    mirrored = replace(dataset, images=ArrayImages(dataset.read(np.arange(len(dataset)))[:, :, ::-1]))
    np.testing.assert_array_equal(dataset.mirrored_hashes, mirrored.content_hashes)
    np.testing.assert_array_equal(dataset.subset([2, 0]).mirrored_hashes, mirrored.content_hashes[[2, 0]])


def test_split_takes_the_named_ones(dataset):
    assert dataset.split("test").ids.tolist() == dataset.ids[40:].tolist()
    assert len(dataset.split("train", "test")) == COUNT
    with pytest.raises(InputError, match="made has no validation split: it has train, test"):
        dataset.split("validation")
    with pytest.raises(InputError, match="made has no train split: distill.with_splits gives it one"):
        replace(dataset, splits=np.full(COUNT, "")).split("train")


def test_blocks_cover_all_images_once(dataset):
    blocks = list(dataset.blocks(rows=8))
    assert [block.start for block, _ in blocks] == list(range(0, COUNT, 8))
    np.testing.assert_array_equal(np.concatenate([images for _, images in blocks]), dataset.images.array)


def test_hashes_depend_on_pixels_and_shape(dataset):
    pixels = dataset.images.array.copy()
    pixels[4, 0, 0, 0] ^= 1
    changed = replace(dataset, images=ArrayImages(pixels)).content_hashes
    assert np.flatnonzero((changed != dataset.content_hashes).any(axis=1)).tolist() == [4]
    wide = replace(dataset, images=ArrayImages(dataset.images.array.reshape(COUNT, 2, 8, 1)))
    assert (wide.content_hashes != dataset.content_hashes).any(axis=1).all()


def test_hashes_are_the_same_on_every_machine():
    image = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    dataset = Dataset("one", np.array(["a"]), np.array([0]), ("x",), ArrayImages(image), np.array([""]))
    assert dataset.content_hashes[0].tobytes().hex() == "5fb4a6da6038d643535f5158f057b706"
    assert dataset.fingerprint == "ed5ff8da736c9141a4a10e7f6f544180799b3891c02db1119b11587d1f632a7b"


def test_hashes_and_fingerprint_of_many_blocks_are_those_of_row_after_row():
    rng = np.random.default_rng(0)
    count = 2500
    images = rng.integers(0, 256, (count, 2, 3, 1), np.uint8)
    ids, labels = np.array([f"été/{row}" for row in rng.permutation(count)]), rng.integers(-1, 2, count)
    label_probs = rng.dirichlet(np.ones(2), count).astype(np.float32)
    dataset = Dataset("x", ids, labels, ("a", "b"), ArrayImages(images), np.full(count, ""), label_probs)
    hashes = [hashlib.blake2b(b"(2, 3, 1)" + image.tobytes(), digest_size=16).digest() for image in images]
    assert [row.tobytes() for row in dataset.content_hashes] == hashes
    rows = [f"\n{ids[row]}\t{labels[row]}\t".encode() + hashes[row] for row in range(count)]
    for given, probs in ((replace(dataset, label_probs=None), None), (dataset, label_probs)):
        described = [row + (b"" if probs is None else probs[index].tobytes()) for index, row in enumerate(rows)]
        text = b"a\nb" + b"".join(described[row] for row in sorted(range(count), key=ids.__getitem__))
        assert given.fingerprint == hashlib.sha256(text).hexdigest()


def test_the_fingerprint_does_not_depend_on_the_order(dataset):
    shuffled = dataset.subset(np.random.default_rng(1).permutation(COUNT))
    assert shuffled.fingerprint == dataset.fingerprint


@pytest.mark.parametrize("column", ["labels", "ids", "class_names", "images"])
def test_the_fingerprint_changes_with_every_part(dataset, column):
    changed = {
        "labels": (dataset.labels + 1) % 3,
        "ids": np.char.add(dataset.ids, "x"),
        "class_names": ("a", "c", "b"),
        "images": ArrayImages(255 - dataset.images.array),
    }
    assert replace(dataset, **{column: changed[column]}).fingerprint != dataset.fingerprint


@pytest.mark.parametrize("policy", ["official", "random"])
def test_with_splits_holds_out_the_fraction_and_never_the_test_images(dataset, policy):
    split = with_splits(dataset, policy=policy, fraction=0.25, seed=3)
    assert (split.splits == "validation").sum() == 10
    np.testing.assert_array_equal(split.splits == "test", dataset.splits == "test")


def test_with_splits_depends_on_ids_and_seed_not_on_the_order(dataset):
    order = np.random.default_rng(2).permutation(COUNT)

    def held_out(data, seed):
        return set(with_splits(data, policy="random", seed=seed).split("validation").ids.tolist())

    assert held_out(dataset, 0) == held_out(dataset.subset(order), 0)
    assert held_out(dataset, 0) != held_out(dataset, 1)


def test_with_splits_holds_out_subjects_whole(dataset_of_subjects):
    split = with_splits(dataset_of_subjects, fraction=0.25, seed=1)
    validation = split.split("validation")
    assert 10 <= len(validation) < 10 + 7
    assert not set(validation.subjects) & set(split.split("train").subjects)


def test_official_splits_are_kept_where_there_is_a_validation_split(dataset):
    official = replace(dataset, splits=np.array(["train"] * 30 + ["validation"] * 15 + ["test"] * 5))
    np.testing.assert_array_equal(with_splits(official).splits, official.splits)
    random = with_splits(official, policy="random", fraction=0.2)
    assert (random.splits == "validation").sum() == 9
    assert (random.splits == "test").sum() == 5


def test_images_without_splits_become_train_and_validation(dataset):
    split = with_splits(replace(dataset, splits=np.full(COUNT, "")))
    assert {name: int((split.splits == name).sum()) for name in set(split.splits.tolist())} == {
        "train": 40,
        "validation": 10,
    }


def test_a_test_share_holds_out_whole_subjects_before_validation_is_drawn(dataset_of_subjects):
    unsplit = replace(dataset_of_subjects, splits=np.full(COUNT, ""))
    split = with_splits(unsplit, policy="random", test_fraction=0.3, fraction=0.3)
    subjects = [set(split.split(name).subjects) for name in ("train", "validation", "test")]
    assert all(subjects)
    assert sum(map(len, subjects)) == len(set.union(*subjects))
    again = with_splits(unsplit, policy="random", test_fraction=0.3, fraction=0.3)
    assert again.splits.tolist() == split.splits.tolist()
    assert split.split_policy.test_fraction == 0.3
    with pytest.raises(InputError, match="--splits random with --test-share"):
        with_splits(unsplit, test_fraction=0.3)
    with pytest.raises(InputError, match="has a test split of its own: omit --test-share"):
        with_splits(split, policy="random", test_fraction=0.3)
    with pytest.raises(InputError, match="a test share of 0.001 leaves 0 of"):
        with_splits(unsplit, policy="random", test_fraction=0.001)


def test_a_missing_test_split_names_the_flag_that_makes_one(dataset_of_subjects):
    with pytest.raises(InputError, match="has no test split: it has train, validation; .*--test-share 0.15"):
        with_splits(replace(dataset_of_subjects, splits=np.full(COUNT, ""))).split("test")


@pytest.mark.parametrize("policy", ["official", "random"])
def test_with_splits_keeps_known_hashes(dataset, policy):
    known, fingerprint = dataset.content_hashes, dataset.fingerprint
    split = with_splits(dataset, policy=policy)
    assert split.content_hashes is known
    assert split.fingerprint == fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "offical"}, 'split policy must be "official" or "random", received "offical"'),
        ({"fraction": -0.2}, "must lie between 0 and 1, received -0.2"),
        ({"fraction": 1.0}, "must lie between 0 and 1, received 1.0"),
        ({"fraction": 0.001}, "leaves 0 of 40 images of made for validation"),
        ({"fraction": 0.999}, "leaves 40 of 40 images of made for validation"),
    ],
)
def test_impossible_splits_are_refused(dataset, settings, message):
    with pytest.raises(InputError, match=message):
        with_splits(dataset, **settings)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"labels": np.full(COUNT, 3)}, r"made row 0: label 3, expected -1\.\.2"),
        ({"labels": np.full(COUNT, -2)}, r"made row 0: label -2, expected -1\.\.2"),
        ({"splits": ["train", "val"] * 25}, 'made has the split "val", expected train, validation, test'),
        ({"label_probs": np.full((COUNT, 3), 0.5, np.float32)}, "made row 0: label_probs .* sum to 1"),
        ({"label_probs": np.full((COUNT, 3), np.nan, np.float32)}, "made row 0: label_probs .* sum to 1"),
        ({"label_probs": np.ones((COUNT, 1), np.float32)}, r"label_probs \(50, 1\), expected \(50, 3\)"),
    ],
)
def test_values_that_would_be_taken_for_something_else_are_refused(dataset, columns, message):
    with pytest.raises(InputError, match=message):
        replace(dataset, **columns)


def test_images_that_do_not_exist_are_no_others(dataset):
    np.testing.assert_array_equal(dataset.read([-1, 0]), dataset.read([COUNT - 1, 0]))
    for indices in ([COUNT], [-COUNT - 1], [1.7], [True, False]):
        with pytest.raises(IndexError):
            dataset.read(indices)


def test_a_mask_reads_the_images_where_it_is_true(dataset):
    mask = np.arange(COUNT) % 3 == 0
    np.testing.assert_array_equal(dataset.read(mask), dataset.read(np.flatnonzero(mask)))
    part = dataset.subset(np.arange(6))
    np.testing.assert_array_equal(part.read(mask[:6]), dataset.read([0, 3]))


def test_columns_of_another_length_and_repeated_ids_are_refused(dataset):
    with pytest.raises(ValueError, match="50 ids but 49 labels in made"):
        replace(dataset, labels=dataset.labels[1:])
    with pytest.raises(ValueError, match="Sample ids of made are not unique"):
        replace(dataset, ids=np.full(COUNT, "a"))


@pytest.mark.parametrize(
    "array", [np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4, 1)), np.zeros((2, 4, 4, 2), np.uint8)]
)
def test_array_images_of_another_kind_are_refused(array):
    with pytest.raises(ValueError, match="Images must be uint8"):
        ArrayImages(array)


def test_labels_are_found_among_other_classes_by_name(dataset):
    faces = replace(dataset, class_names=("anger", "sad", "happy"), labels=np.array([0, 1, 2, -1] * 12 + [0, 0]))
    assert faces.labels_among(("happiness", "angry"))[:4].tolist() == [1, -1, 0, -1]
