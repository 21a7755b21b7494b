import pickle

import numpy as np
import pytest

from distill.data.class_labels import class_list
from distill.data.expressions import CLASS_ORDERS
from distill.data.layouts import npy_pair
from distill.errors import InputError
from distill.files.numpy_files import RowsOnDisk

CLASSES = class_list("angry,happy,sad")
IMAGES = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)


@pytest.fixture
def save_pair(tmp_path):
    def save(images, labels):
        np.save(tmp_path / "faces-images.npy", images)
        np.save(tmp_path / "faces-labels.npy", labels)
        return tmp_path / "faces-images.npy"

    return save


@pytest.mark.parametrize("labels", [np.array([0, 6, 2]), np.array([[0], [6], [2]]), np.eye(7)[[0, 6, 2]]])
def test_numbers_and_one_hot_rows_are_plain_labels(save_pair, labels):
    dataset = npy_pair.read(save_pair(IMAGES, labels))
    assert dataset.labels.tolist() == [0, 6, 2]
    assert dataset.label_probs is None
    assert dataset.class_names == CLASS_ORDERS["fer2013"]
    assert dataset.ids.tolist() == ["row/00000", "row/00001", "row/00002"]
    assert set(dataset.splits) == {""}
    np.testing.assert_array_equal(dataset.read([2, 0])[..., 0], IMAGES[[2, 0]])


def test_soft_rows_become_label_probs_and_their_largest_entry(save_pair):
    rows = np.array([[0.2, 0.8], [1.0, 0.0], [0.6, 0.4]])
    dataset = npy_pair.read(save_pair(IMAGES, rows), class_list("sad,happy"))
    assert dataset.labels.tolist() == [1, 0, 0]
    assert dataset.class_names == ("sad", "happy")
    np.testing.assert_allclose(dataset.label_probs, rows, rtol=1e-6)


def test_images_stay_on_disk(save_pair):
    dataset = npy_pair.read(save_pair(IMAGES, np.zeros(3, int)), CLASSES)
    assert isinstance(dataset.images.array, RowsOnDisk)


def test_colour_images_keep_three_channels(save_pair):
    path = save_pair(np.zeros((3, 4, 5, 3), np.uint8), np.zeros(3, int))
    assert npy_pair.read(path, CLASSES).image_shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            np.array([{}, 1], object),
            [0, 0, 0],
            r"faces-images.npy is not a plain NumPy array \(.*expected plain numbers",
        ),
        (IMAGES, np.array([{}, 1, 2], object), "faces-labels.npy is not a plain NumPy array"),
        (IMAGES / np.float32(255), [0, 0, 0], r"holds float32, expected uint8 .* \(images \* 255\)"),
        (IMAGES.reshape(3, 16), [0, 0, 0], r"has shape \(3, 16\), expected \[N, height, width"),
        (IMAGES.reshape(3, 2, 2, 4), [0, 0, 0], r"has shape \(3, 2, 2, 4\)"),
        (IMAGES, [0, 0], r"faces-labels.npy has shape \(2,\) for 3 images"),
        (IMAGES, 3, r"faces-labels.npy has shape \(\) for 3 images"),
        (IMAGES, [0, -1, 0], r'row 1: label "-1", expected 0..2 or one of angry, happy, sad'),
        (IMAGES, [0, 0, 10**9], r'row 2: label "1000000000", expected 0..2'),
        (IMAGES, np.eye(3, 4), "has 4 columns, --data-classes names 3 classes, angry, happy, sad"),
        (IMAGES, [0.0, 1.0, 2.0], r"holds float64, expected integers of shape \(3,\) or one-hot"),
        (IMAGES, ["a", "b", "c"], "holds <U1, expected integers"),
        (IMAGES, [[0.5, 0.4], [1, 0], [0, 1]], r"row 0: \[0.5.*\], expected values of 0..1 that sum to 1"),
        (IMAGES, [[1, 0], [1.5, -0.5], [0, 1]], r"row 1: \[1.5, -0.5\]"),
        (IMAGES, [[1, 0], [1, 0], [np.nan, 1]], r"row 2: \[nan, 1.0\]"),
        (IMAGES[:0], [], r"faces-images.npy has shape \(0, 4, 4, 1\), expected"),
    ],
)
def test_wrong_arrays_are_named(save_pair, images, labels, message):
    with pytest.raises(InputError, match=message):
        npy_pair.read(save_pair(images, labels), CLASSES)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2], "the labels are numbers, 0..2, of unknown meaning: name the classes with --data-classes"),
        ([0, 7, 1], "0..7, of unknown meaning: .* ferplus, microexpnet, affectnet, ckextended"),
        ([1, 7, 2], r"1..7 \(0 never occurs\), of unknown meaning: .*, rafdb, fer2013"),
        (np.eye(8)[:3], "0..7, of unknown meaning"),
    ],
)
def test_numbers_that_nobody_has_named_are_refused(save_pair, labels, message):
    with pytest.raises(InputError, match=message):
        npy_pair.read(save_pair(IMAGES, labels))


@pytest.mark.parametrize("labels", [[1, 7, 4], np.eye(7)[[0, 6, 3]]])
def test_named_classes_say_what_numbers_and_columns_mean(save_pair, labels):
    dataset = npy_pair.read(save_pair(IMAGES, labels), class_list("rafdb"))
    assert [dataset.class_names[label] for label in dataset.labels] == ["surprise", "neutral", "happy"]


def test_either_file_opens_the_pair_and_a_missing_one_is_named(save_pair):
    images = save_pair(IMAGES, np.zeros(3, int))
    labels = images.with_name("faces-labels.npy")
    assert len(npy_pair.read(labels, CLASSES)) == 3
    labels.unlink()
    with pytest.raises(InputError, match="faces-labels.npy is missing: the pair is X-images.npy and X-labels"):
        npy_pair.read(images)


def test_a_damaged_file_a_pickle_and_an_archive_are_named(save_pair, tmp_path):
    images = save_pair(IMAGES, np.zeros(3, int))
    whole = images.read_bytes()
    images.write_bytes(whole[:-10])
    with pytest.raises(InputError, match="faces-images.npy is not a plain NumPy array"):
        npy_pair.read(images)
    images.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="faces-images.npy is not a plain NumPy array"):
        npy_pair.read(images)
    np.savez(tmp_path / "archive.npz", a=IMAGES)
    (tmp_path / "archive.npz").rename(images)
    with pytest.raises(InputError, match="does not begin as a file of NumPy"):
        npy_pair.read(images)
