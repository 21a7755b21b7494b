"""TFRecord as TensorFlow writes it."""

import gzip
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from distill.data.open_dataset import open_dataset
from distill.errors import InputError


def picture(grey=0) -> bytes:
    content = io.BytesIO()
    Image.new("L", (4, 4), grey).save(content, "PNG")
    return content.getvalue()


def example(**features) -> bytes:
    """Return a record; "_" in a name stands for "/", a list is of bytes or of numbers."""
    made = {}
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        texts = [each.encode() if isinstance(each, str) else each for each in values]
        if isinstance(texts[0], bytes):
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=texts))
        else:
            feature = tf.train.Feature(int64_list=tf.train.Int64List(value=texts))
        made[name.replace("__", "/")] = feature
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


def sample(row=0, **features) -> bytes:
    return example(
        image__encoded=picture(row), **{f"image__class__{name}": value for name, value in features.items()}
    )


@pytest.fixture
def write_records(tmp_path):
    """Return a function that writes records as a file below `tmp_path`, and gives its path."""

    def write(*records, name="train.tfrecord-00000-of-00001"):
        with tf.io.TFRecordWriter(str(tmp_path / name)) as file:
            for record in records:
                file.write(record)
        return tmp_path / name

    return write


def test_records_are_read_where_they_lie(write_records, tmp_path):
    write_records(*(sample(row, text=("sad", "happy")[row % 2], label=row % 2) for row in range(150)))
    write_records(sample(7, text="sad", label=0), name="mnist-test.tfrecord-00000-of-00001")
    dataset = open_dataset(tmp_path)
    assert dataset.ids.tolist()[:2] == ["mnist-test-00000-of-00001/00000", "train-00000-of-00001/00000"]
    assert [dataset.class_names[label] for label in dataset.labels[:3]] == ["sad", "sad", "happy"]
    assert dataset.splits.tolist() == ["test"] + ["train"] * 150
    assert dataset.read(np.array([150, 0, 1]))[:, 0, 0, 0].tolist() == [149, 7, 0]


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecords", "a.tfrec", "a.tfrecord-00000-of-00001"])
def test_the_usual_suffixes_are_known(write_records, name):
    assert len(open_dataset(write_records(sample(text="a"), sample(text="b"), name=name))) == 2


def test_numbers_are_explained_by_classes_txt(write_records, tmp_path):
    write_records(sample(label=0), sample(label=1), sample(label=-1))
    with pytest.raises(InputError, match="numbers, 0..1, of unknown meaning"):
        open_dataset(tmp_path)
    (tmp_path / "classes.txt").write_text("0 x\n1 y\n")
    assert open_dataset(tmp_path).labels.tolist() == [0, 1, -1]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([example(image__class__label=0)], "record 0 has no image/encoded: its features are image/class/label"),
        ([b"\xff\xff\xff"], "record 0 is not a tf.train.Example"),
        ([example(image__encoded=[picture(), picture()])], "record 0 has 2 values of bytes_list as image/encoded"),
        ([sample(label="x")], "0 values of int64_list as image/class/label"),
        ([sample(text=b"\xff")], "image/class/text that is not in UTF-8"),
        (
            [sample(label=0, text="a"), sample(label=0, text="b")],
            "record 1 has image/class/label 0 and .* an earlier",
        ),
        (
            [sample(label=0, text="a"), sample(label=1, text="a")],
            "record 1 has image/class/label 1 and .* an earlier",
        ),
        ([sample(text="a"), example(image__encoded=picture())], "00001 has no image/class/label"),
        ([example(image__encoded=b"x")], "00000 cannot be read as an image"),
        ([], "holds no images"),
    ],
)
def test_wrong_records_are_named(write_records, records, message):
    with pytest.raises(InputError, match=message):
        open_dataset(write_records(*records))


@pytest.mark.parametrize("change", ["cut off in a record", "cut off in a length", "a bit", "packed"])
def test_a_damaged_file_is_refused(write_records, change):
    path = write_records(sample(text="a"), sample(text="b"))
    content = path.read_bytes()
    half = len(content) // 2
    changed = {
        "cut off in a record": content[:-6],
        "cut off in a length": content[: half + 5],
        "a bit": content[: half + 50] + bytes([content[half + 50] ^ 1]) + content[half + 51 :],
        "packed": gzip.compress(content),
    }
    path.write_bytes(changed[change])
    with pytest.raises(
        InputError, match="is not a whole TFRecord file" + (".*packed with gzip" * (change == "packed"))
    ):
        open_dataset(path)
