"""Datasets from arrays and from `tf.data`: what is taken as it is, what must be said, and what is refused."""

import numpy as np
import pytest

from distill import Dataset
from distill.data.dataset import UNLABELLED
from distill.data.layouts import npy_pair
from distill.errors import InputError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), np.uint8)
NAMES = ("cat", "dog", "owl")


def test_arrays_are_served_as_they_are_and_not_copied():
    dataset = Dataset.from_arrays(IMAGES, [0, 1, 2, 0, 1, 2], class_names=NAMES)
    assert dataset.image_shape == (4, 5, 3)
    assert dataset.class_names == NAMES
    assert dataset.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert dataset.splits.tolist() == [""] * 6
    assert dataset.ids[5] == "row/00005"
    assert np.shares_memory(dataset.images.array, IMAGES)


def test_they_are_the_data_set_that_files_of_them_are(tmp_path):
    np.save(tmp_path / "x-images.npy", IMAGES)
    np.save(tmp_path / "x-labels.npy", np.array([0, 6, 2, 3, 4, 5]))
    saved = npy_pair.read(tmp_path / "x-images.npy")
    mine = Dataset.from_arrays(IMAGES, np.array([0, 6, 2, 3, 4, 5]), class_names=saved.class_names)
    assert mine.fingerprint == saved.fingerprint


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, 1, 2, 0, 1, 2], np.uint8),
        np.array([[0], [1], [2], [0], [1], [2]]),
        np.eye(3)[[0, 1, 2, 0, 1, 2]],
        ["cat", "dog", "owl", "cat", "dog", "owl"],
        np.array(["cat", "dog", "owl"] * 2, object),
    ],
)
def test_labels_may_be_numbers_rows_or_names(labels):
    dataset = Dataset.from_arrays(IMAGES, labels, class_names=NAMES)
    assert dataset.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert dataset.label_probs is None


def test_numbers_in_an_array_of_objects_are_numbers():
    dataset = Dataset.from_arrays(np.repeat(IMAGES, 2, axis=0), np.array([0, 1, 10, 2] * 3, object))
    assert dataset.labels.tolist() == [0, 1, 10, 2] * 3


def test_soft_labels_are_kept():
    rows = np.tile([[0.2, 0.8], [0.5, 0.5], [1, 0]], (2, 1))
    dataset = Dataset.from_arrays(IMAGES, rows, class_names=("a", "b"))
    np.testing.assert_allclose(dataset.label_probs, rows, rtol=1e-6)


def test_classes_without_names_are_numbers_and_never_expressions():
    assert Dataset.from_arrays(IMAGES, [0, 1, 2, 3, 4, 6]).class_names == tuple("0123456")


def test_names_of_expressions_are_spelt_as_everywhere():
    assert Dataset.from_arrays(IMAGES, [0, 1] * 3, class_names=("anger", "Happiness")).class_names == (
        "angry",
        "happy",
    )


def test_names_alone_are_in_the_order_of_folders():
    dataset = Dataset.from_arrays(IMAGES, ["owl", "cat"] * 3)
    assert dataset.class_names == ("cat", "owl")
    assert dataset.labels.tolist() == [1, 0] * 3


def test_some_or_all_may_have_no_label():
    assert Dataset.from_arrays(IMAGES, [0, 1, -1, 0, 1, -1]).labels.tolist() == [0, 1, UNLABELLED] * 2
    nothing = Dataset.from_arrays(IMAGES)
    assert set(nothing.labels) == {UNLABELLED}
    assert nothing.class_names == ()
    assert Dataset.from_arrays(IMAGES, class_names=NAMES).class_names == NAMES


def test_splits_and_ids():
    splits = ["train", "train", "train", "validation", "test", "test"]
    dataset = Dataset.from_arrays(IMAGES, [0, 1] * 3, splits=splits, ids=list("abcdef"))
    assert dataset.split("test").ids.tolist() == ["e", "f"]
    assert set(Dataset.from_arrays(IMAGES, splits="train").splits) == {"train"}


@pytest.mark.parametrize("pixel_range", [(0, 1), (-1, 1), (0, 255)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_pixel_range_that_is_said_is_undone(pixel_range, dtype):
    black, white = pixel_range
    floats = (IMAGES / 255 * (white - black) + black).astype(dtype)
    np.testing.assert_array_equal(Dataset.from_arrays(floats, pixel_range=pixel_range).read(np.arange(6)), IMAGES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": IMAGES / 255}, "the array of images holds float64, expected uint8 pixels of 0..255"),
        ({"images": IMAGES / 255, "pixel_range": (-1, 0)}, r"holds values of 0..1, pixel_range says -1..0"),
        ({"images": IMAGES * np.float32(np.nan), "pixel_range": (0, 1)}, "holds values of nan..nan"),
        ({"images": IMAGES / 255, "pixel_range": (1, 0)}, "black below white"),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, r"channels last: images.transpose\(0, 2, 3, 1\)"),
        ({"images": IMAGES[:0]}, r"has shape \(0, 4, 5, 3\)"),
        ({"images": IMAGES[0, 0]}, r"has shape \(5, 3\)"),
        ({"labels": [0, 1]}, r"the array of labels has shape \(2,\) for 6 images"),
        ({"labels": [0, 1, 2, 3, 4, 5], "class_names": NAMES}, "is of 6 classes, class_names has 3"),
        ({"labels": np.eye(6), "class_names": NAMES}, "is of 6 classes, class_names has 3"),
        ({"labels": [0.0] * 6}, "holds float64, expected integers"),
        ({"labels": [-2] * 6}, r"row 0: label -2, expected -1\.\."),
        (
            {"labels": ["cat"] * 5 + ["cow"], "class_names": NAMES},
            'row 5: label "cow", expected one of cat, dog, owl',
        ),
        ({"labels": ["cat"] * 5 + [float("nan")]}, "row 5: label .*nan.*, expected a name"),
        ({"labels": np.array(["cat", None] * 3, object)}, "row 1: label None, expected a name"),
        ({"labels": np.array([0, 1, None] * 2, object)}, "row 2: label None, expected a name"),
        ({"labels": [0] * 6, "class_names": ("a", "a")}, "each once"),
        ({"labels": [0] * 6, "class_names": ("anger", "angry")}, "each once"),
        ({"labels": [0] * 6, "class_names": "ab"}, "a sequence of names"),
        ({"labels": [0] * 6, "class_names": (1, 2)}, "a sequence of names"),
        ({"splits": "training"}, 'splits has "training", expected train, validation, test'),
        ({"splits": ["train"] * 5}, r"splits has shape \[5\], expected"),
        ({"splits": ["train"] * 5 + [""]}, 'splits has ""'),
        ({"ids": ["a"] * 6}, "ids must be 6 different texts"),
    ],
)
def test_wrong_arrays_are_refused_in_one_line(given, message):
    with pytest.raises(InputError, match=message) as caught:
        Dataset.from_arrays(**{"images": IMAGES, **given})
    assert "\n" not in str(caught.value)


class TestTfData:
    @pytest.fixture
    def pipeline(self):
        """A function that makes a tf.data.Dataset of arrays."""
        tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
        return tf.data.Dataset.from_tensor_slices

    @pytest.mark.parametrize("batch", [None, 4, 100])
    def test_pairs_in_batches_or_not(self, pipeline, batch):
        data = pipeline((IMAGES, [0, 1, 2] * 2))
        dataset = Dataset.from_tf_data(data.batch(batch) if batch else data, class_names=NAMES, splits="train")
        assert dataset.fingerprint == Dataset.from_arrays(IMAGES, [0, 1, 2] * 2, class_names=NAMES).fingerprint
        assert set(dataset.splits) == {"train"}

    def test_a_dictionary_whose_label_has_another_name_is_refused(self, pipeline):
        with pytest.raises(InputError, match='gives "image" and emotion, expected "label": rename it with map'):
            Dataset.from_tf_data(pipeline({"image": IMAGES, "emotion": [0, 1, 2] * 2}))

    def test_dictionaries_and_images_alone(self, pipeline):
        named = Dataset.from_tf_data(pipeline({"image": IMAGES, "label": [0, 1, 2] * 2, "id": list("abcdef")}))
        assert named.labels.tolist() == [0, 1, 2] * 2
        alone = Dataset.from_tf_data(pipeline(IMAGES).batch(2))
        assert set(alone.labels) == {UNLABELLED}
        np.testing.assert_array_equal(alone.read(np.arange(6)), IMAGES)

    @pytest.mark.parametrize("labels", [np.eye(3, dtype=np.float32)[[0, 1, 2] * 2], ["cat", "dog", "owl"] * 2])
    def test_rows_and_names_are_labels(self, pipeline, labels):
        dataset = Dataset.from_tf_data(pipeline((IMAGES, labels)).batch(4), class_names=NAMES)
        assert dataset.labels.tolist() == [0, 1, 2] * 2

    def test_a_pipeline_for_each_split(self, pipeline):
        parts = {"train": pipeline((IMAGES[:4], [0, 1, 2, 0])).batch(3), "test": pipeline((IMAGES[4:], [1, 2]))}
        dataset = Dataset.from_tf_data(parts, class_names=NAMES)
        assert dataset.ids.tolist() == [*(f"train/0000{row}" for row in range(4)), "test/00000", "test/00001"]
        assert dataset.split("test").labels.tolist() == [1, 2]

    def test_what_keras_reads_of_folders(self, tmp_path, write_image):
        keras = pytest.importorskip("keras")
        for name, value in (("owl/1", 3), ("cat/1", 200), ("cat/2", 90)):
            write_image(f"data/{name}.png", value)
        data = keras.utils.image_dataset_from_directory(
            tmp_path / "data", image_size=(4, 4), shuffle=False, color_mode="grayscale", verbose=False
        )
        dataset = Dataset.from_tf_data(data, pixel_range=(0, 255))
        assert dataset.class_names == ("cat", "owl")
        assert dataset.read(np.arange(3))[:, 0, 0, 0].tolist() == [200, 90, 3]

    def test_what_cannot_be_read_is_refused_in_one_line(self, pipeline):
        pairs = pipeline((IMAGES, [0, 1, 2] * 2))
        sizes = pipeline(IMAGES).concatenate(pipeline(IMAGES[:, :2]))
        for data, options, message in (
            (pairs.repeat(), {}, "has no end: omit its repeat"),
            (IMAGES, {}, "expected a tf.data.Dataset, received ndarray"),
            (pairs.take(0), {}, "the tf.data.Dataset is empty"),
            (pipeline(IMAGES / 255), {}, "the tf.data.Dataset holds float64, expected uint8"),
            (pipeline((IMAGES, IMAGES, IMAGES)), {}, r"gives \(\[4, 5, 3\], \[4, 5, 3\], \[4, 5, 3\]\), expected"),
            (pipeline([1, 2]), {}, "expected images"),
            (sizes, {}, r"has images of \(4, 5, 3\) and \(2, 5, 3\): resize"),
            ({"train": pairs, "val": pairs}, {}, 'splits has "val"'),
            ({"train": pairs}, {"splits": "train"}, "omit splits"),
            ({"train": pairs, "test": pipeline(IMAGES)}, {}, "only some have labels"),
        ):
            with pytest.raises(InputError, match=message) as caught:
                Dataset.from_tf_data(data, **options)
            assert "\n" not in str(caught.value)
