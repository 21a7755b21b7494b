import re

import numpy as np
import pytest

from distill.data.class_labels import class_list
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
        ("emotion,pixels,usage", "2,1 2 3 4,val"),
        ("Emotion,Pixels,USAGE", "2,1 2 3 4,Public Test"),
        ("label,pixels,split", "2,1 2 3 4,FER2013Valid"),
        ("emotion;pixels;Usage", "2;1 2 3 4;dev"),
        ("emotion\tpixels\tUsage", "2\t1 2 3 4\tvalid"),
        ("emotion,pixels,Usage", "2.0,1 2 3 4,validation"),
    ],
    ids=["icml_face_data", "windows", "quoted", "lower", "upper", "label", "semicolons", "tabs", "float"],
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
    assert dataset.class_names == ()  # nobody has said what could be in them


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
        ("-1,1 2 3 4,Training", 'line 3: label "-1", expected 0..6 or one of angry, disgust'),
        ("1.5,1 2 3 4,Training", 'line 3: label "1.5", expected the name or the number of a class'),
        (",1 2 3 4,Training", 'line 3: label "", expected'),
        ("1,1 2 3 4,Trainin", 'line 3: Usage is "Trainin", expected a split: .*Training, PublicTest, PrivateTest'),
        ("1,1 2 3 4,eval", 'line 3: Usage is "eval", expected a split'),
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
        (("label,pixel0,pixel1", "0,1,2"), "no column pixels, its columns are label, pixel0, pixel1: expected"),
        (("emotion,label,pixels", "0,1,1 2 3 4"), "the columns emotion and label, which may both be the emotion"),
        (("emotion,pixels,what", "0,1 2 3 4,Training"), 'line 2: the column what holds "Training", a split'),
        (
            (HEADER, *(f"{k},1 2 3 4,Training" for k in range(1, 8))),
            r"1..7 \(0 never occurs\).*classes .*rafdb",
        ),
        ((HEADER, *(f"{k},1 2 3 4,Training" for k in range(9))), "the labels are numbers, 0..8"),
        (("label,pixels", *(f"{k},1 2 3 4" for k in range(8))), "the labels are numbers, 0..7, of unknown meaning"),
        ((HEADER, "0,1 2 3 4,Training", "happy,1 2 3 4,Training"), "some labels are numbers .*, others names"),
    ],
)
def test_a_wrong_file_is_named(write_csv, lines, message):
    with pytest.raises(InputError, match=message):
        fer2013_csv.read(write_csv(*lines))


def test_values_are_parsed_as_int_parses_them(write_csv):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16))
    path = write_csv(HEADER, *(f"0,{' '.join(map(str, row))},Training" for row in pixels))
    np.testing.assert_array_equal(fer2013_csv.read(path).read(np.arange(5)).reshape(5, 16), pixels)


def test_the_eight_classes_of_ckplus_are_read_and_noted(write_csv):
    dataset = fer2013_csv.read(write_csv(HEADER, *(f"{k},1 2 3 4,Training" for k in range(8))))
    # ckextended.csv on Kaggle: 0 anger, 1 disgust, 2 fear, 3 happiness, 4 sadness, 5 surprise, 6 neutral, 7 contempt
    assert dataset.class_names == (*CLASS_ORDERS["fer2013"], "contempt")
    assert "7 contempt" in dataset.notes[0]


def test_all_seven_numbers_need_no_note_and_fewer_have_one(write_csv):
    rows = [f"{k},1 2 3 4,Training" for k in range(7)]
    assert fer2013_csv.read(write_csv(HEADER, *rows)).notes == ()
    notes = fer2013_csv.read(write_csv(HEADER, *rows[:3])).notes
    assert notes[0].startswith("not every number occurs: labels are taken to mean 0 angry, 1 disgust")


def test_names_as_labels_are_found_by_name(write_csv):
    dataset = fer2013_csv.read(write_csv("label,pixels", "sadness,1 2 3 4", "Happiness,1 2 3 4"))
    assert dataset.class_names == ("happy", "sad")
    assert dataset.labels.tolist() == [1, 0]


def test_named_classes_say_what_the_numbers_mean(write_csv):
    path = write_csv(HEADER, *(f"{k},1 2 3 4,Training" for k in range(1, 8)))
    dataset = fer2013_csv.read(path, class_list("rafdb"))
    # Readme of RAF-DB: 1 surprise, 2 fear, 3 disgust, 4 happiness, 5 sadness, 6 anger, 7 neutral
    assert [dataset.class_names[label] for label in dataset.labels] == [
        "surprise",
        "fear",
        "disgust",
        "happy",
        "sad",
        "angry",
        "neutral",
    ]
    assert dataset.notes[0].startswith("labels count from 1: 1 surprise")


def test_columns_that_are_not_read_are_named(write_csv):
    rows = [f"{k},{k},1 2 3 4,Training" for k in range(7)]
    assert fer2013_csv.read(write_csv(f"Unnamed: 0,{HEADER}", *rows)).notes == (
        "columns that are not read: Unnamed: 0",
    )


def test_quoted_cells_may_hold_the_delimiter(write_csv):
    dataset = fer2013_csv.read(write_csv("name,emotion,pixels", '"a, b",0,1 2 3 4', "c,6,5 6 7 8"))
    assert dataset.read([0, 1]).reshape(2, 4).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
