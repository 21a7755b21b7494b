"""The same real faces, read through every layout."""

import numpy as np
import pytest

from distill.data.conversion import FORMATS, convert
from distill.data.expressions import CLASS_ORDERS
from distill.data.open_dataset import LAYOUTS, open_dataset
from distill.errors import InputError

SAME_FACES = ("fer2013.csv", "fer2013", "fer-2013-images.npy", "fer-2013-labels.npy")
EVERY = (*SAME_FACES, "ferplus.csv", "ck48", "ck48_folds", "ck48_folds/labels.txt")
UNLABELLED_FACES = "fer2013/train/happy"  # a class folder, taken by itself


@pytest.fixture(scope="module")
def shards(fer_layouts, tmp_path_factory):
    """A folder of shards in every format."""
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("shards")
    for name in FORMATS:
        convert(open_dataset(fer_layouts / "fer2013.csv"), folder / name, format=name, images_per_shard=30)
    return folder


def labels_by_hash(dataset):
    return {bytes(row): int(label) for row, label in zip(dataset.content_hashes, dataset.labels, strict=True)}


@pytest.mark.parametrize("name", SAME_FACES[1:])
def test_fer2013_is_the_same_in_every_layout(fer_layouts, name):
    reference, other = open_dataset(fer_layouts / "fer2013.csv"), open_dataset(fer_layouts / name)
    assert len(reference) == len(other) == 70
    assert labels_by_hash(reference) == labels_by_hash(other)
    assert reference.class_names == other.class_names
    assert reference.image_shape == other.image_shape == (48, 48, 1)


def test_folders_and_csv_agree_on_the_splits(fer_layouts):
    csv, folders = open_dataset(fer_layouts / "fer2013.csv"), open_dataset(fer_layouts / "fer2013")
    for split in ("train", "validation"):
        assert labels_by_hash(csv.split(split)) == labels_by_hash(folders.split(split))


def test_ckplus_is_the_same_in_folders_and_in_a_label_file(fer_layouts):
    folders, listed = open_dataset(fer_layouts / "ck48"), open_dataset(fer_layouts / "ck48_folds")
    assert labels_by_hash(folders) == labels_by_hash(listed)
    assert folders.class_names == listed.class_names == CLASS_ORDERS["ckplus"]
    assert listed.folds.tolist() == [int(id_[4]) for id_ in listed.ids]
    for dataset in (folders, listed):
        for subject in np.unique(dataset.subjects):
            assert len(np.unique(dataset.folds[dataset.subjects == subject])) == 1


def test_ferplus_votes_belong_to_the_faces_of_the_csv(fer_layouts):
    faces, votes = open_dataset(fer_layouts / "fer2013.csv"), open_dataset(fer_layouts / "ferplus.csv")
    position = {id_: row for row, id_ in enumerate(faces.ids.tolist())}
    rows = [position[id_] for id_ in votes.ids.tolist()]
    np.testing.assert_array_equal(votes.content_hashes, faces.content_hashes[rows])
    np.testing.assert_allclose(votes.label_probs.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(votes.label_probs.argmax(axis=1), votes.labels)


@pytest.mark.parametrize("name", EVERY)
def test_every_layout_gives_a_sound_data_set(fer_layouts, name):
    dataset = open_dataset(fer_layouts / name)
    assert dataset.labels.dtype == np.int32
    assert 0 <= dataset.labels.min() <= dataset.labels.max() < dataset.num_classes
    assert dataset.read(np.arange(3)).dtype == np.uint8
    assert dataset.fingerprint == open_dataset(fer_layouts / name).fingerprint


@pytest.mark.parametrize("name", FORMATS)
def test_shards_are_the_same_as_their_source(fer_layouts, shards, name):
    reference, other = open_dataset(fer_layouts / "fer2013.csv"), open_dataset(shards / name)
    assert reference.fingerprint == other.fingerprint
    for split in ("train", "validation"):
        assert reference.split(split).ids.tolist() == other.split(split).ids.tolist()


def test_every_layout_is_among_those_read_here(fer_layouts, shards):
    paths = [fer_layouts / name for name in (*EVERY, UNLABELLED_FACES)] + [shards / name for name in FORMATS]
    read_by = {next(row.name for row in LAYOUTS if row.recognise(path)) for path in paths}
    assert read_by == {layout.name for layout in LAYOUTS}


def test_the_folder_of_all_layouts_lists_them(fer_layouts):
    with pytest.raises(InputError, match="holds 6 datasets, name one of them: .*ck48, .*fer2013.csv"):
        open_dataset(fer_layouts)
