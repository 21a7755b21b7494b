import re

import numpy as np
import pytest

from distill.data.dataset import UNLABELLED
from distill.data.expressions import CLASS_ORDERS
from distill.data.layouts import fer2013_csv
from distill.errors import InputError

HEADER = "emotion,pixels,Usage"


def test_rows_become_images_labels_splits_and_ids(write_csv):
    path = write_csv(HEADER, "3,0 1 2 255,Training", "6,4 5 6 7,PrivateTest", "0,8 9 10 11,PublicTest")
    dataset = fer2013_csv.read(path)
    assert dataset.ids.tolist() == ["train/00000", "test/00001", "validation/00002"]
    assert dataset.splits.tolist() == ["train", "test", "validation"]
    assert dataset.labels.tolist() == [3, 6, 0]
    assert dataset.class_names == CLASS_ORDERS["fer2013"]
    assert dataset.image_shape == (2, 2, 1)
    np.testing.assert_array_equal(dataset.read([0])[0, ..., 0], [[0, 1], [2, 255]])


@pytest.mark.parametrize(
    "lines",
    [
        ("emotion, Usage, pixels", "2,PublicTest,1 2 3 4"),
        ("\ufeffpixels,emotion,Usage\r", "1 2 3 4,2,PublicTest\r", "\r"),
        ('"emotion","pixels","Usage"', '2,"1 2 3 4",PublicTest', ""),
    ],
    ids=["icml_face_data", "windows", "quoted"],
)
def test_columns_are_found_by_name_in_any_order(write_csv, lines):
    dataset = fer2013_csv.read(write_csv(*lines))
    assert dataset.ids.tolist() == ["validation/00000"]
    assert dataset.labels.tolist() == [2]
    assert dataset.read([0]).ravel().tolist() == [1, 2, 3, 4]


def test_without_emotion_and_usage_all_is_unlabelled_and_without_splits(write_csv):
    dataset = fer2013_csv.read(write_csv("pixels", "1 2 3 4", "5 6 7 8"))
    assert dataset.labels.tolist() == [UNLABELLED, UNLABELLED]
    assert dataset.splits.tolist() == ["", ""]
    assert dataset.ids.tolist() == ["row/00000", "row/00001"]
    assert dataset.class_names == CLASS_ORDERS["fer2013"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,1 2 3,Training", "line 3: 3 pixels, the first row has 4"),
        ("1,1 2 3 4 5,Training", "line 3: 5 pixels, the first row has 4"),
        ("1,1 2 3 256,Training", 'line 3: pixel value "256", expected integers of 0..255'),
        ("1,1 -2 3 4,Training", 'line 3: pixel value "-2"'),
        ("1,1 2 3 4x,Training", 'line 3: pixel value "4x"'),
        ("1,1 2.5 3 4,Training", 'line 3: pixel value "2.5"'),
        ("1,1 2 99999999999999999999 4,Training", 'line 3: pixel value "99999999999999999999"'),
        ("1,,Training", "line 3: 0 pixels"),
        ("7,1 2 3 4,Training", 'line 3: emotion is "7", expected one of 0 angry, .*6 neutral'),
        ("-1,1 2 3 4,Training", 'line 3: emotion is "-1"'),
        ("happy,1 2 3 4,Training", 'line 3: emotion is "happy"'),
        (
            "1,1 2 3 4,Trainin",
            'line 3: Usage is "Trainin", expected one of Training, PublicTest, PrivateTest',
        ),
        ("1,1 2 3 4", "line 3: 2 columns, the header has 3"),
    ],
)
def test_a_wrong_row_is_named_with_file_and_line(write_csv, row, message):
    path = write_csv(HEADER, "0,1 2 3 4,Training", row)
    with pytest.raises(InputError, match=re.escape(str(path)) + " " + message):
        fer2013_csv.read(path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "no column pixels, it is empty: expected emotion,pixels,Usage"),
        (("emotion,Usage", "1,Training"), "no column pixels, its columns are emotion, Usage"),
        ((HEADER,), "holds no images"),
        ((HEADER, "0,1 2 3,Training"), "line 2: 3 pixels, expected a square"),
        ((HEADER, "0,,Training"), "line 2: 0 pixels, expected a square"),
    ],
)
def test_a_wrong_file_is_named(write_csv, lines, message):
    with pytest.raises(InputError, match=message):
        fer2013_csv.read(write_csv(*lines))


def test_values_are_parsed_as_int_parses_them(write_csv):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16))
    path = write_csv(HEADER, *(f"0,{' '.join(map(str, row))},Training" for row in pixels))
    np.testing.assert_array_equal(fer2013_csv.read(path).read(np.arange(5)).reshape(5, 16), pixels)
