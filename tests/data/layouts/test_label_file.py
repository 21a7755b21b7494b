import pytest

from distill.data.expressions import CLASS_ORDERS
from distill.data.layouts import label_file
from distill.errors import InputError


@pytest.fixture
def write_labels(write_image, write_csv):
    """Return a function that writes labels.txt, and the images of its lines where they are asked for."""

    def write(*lines, images=()):
        for name in images:
            write_image(name)
        return write_csv(*lines, name="labels.txt")

    return write


def test_lines_become_samples_in_their_order(write_labels):
    path = write_labels(
        "# a comment", "", "fold1/b c.png 1", "fold0/a.png\t0", images=("fold1/b c.png", "fold0/a.png")
    )
    dataset = label_file.read(path)
    assert dataset.ids.tolist() == ["fold1/b c.png", "fold0/a.png"]
    assert dataset.labels.tolist() == [1, 0]
    assert dataset.folds.tolist() == [1, 0]
    assert dataset.splits.tolist() == ["", ""]
    assert dataset.class_names == ("0", "1")
    assert dataset.notes == ("no classes.txt beside labels.txt: labels are taken to mean 0, 1",)


def test_a_folder_with_labels_txt_is_recognised(write_labels, tmp_path):
    write_labels("a.png 0", "b.png 1", images=("a.png", "b.png"))
    assert label_file.recognise(tmp_path)
    assert label_file.read(tmp_path).ids.tolist() == ["a.png", "b.png"]


def test_other_text_files_are_not_recognised(write_csv):
    assert not label_file.recognise(write_csv("Faces, read me first", name="README.txt"))
    assert not label_file.recognise(write_csv("angry", "happy", name="classes.txt"))


def test_the_first_folder_gives_the_split(write_labels):
    names = ("train/a.png", "val/a.png", "test/a.png", "other/a.png")
    dataset = label_file.read(write_labels(*(f"{name} 1" for name in names), images=names))
    assert dataset.splits.tolist() == ["train", "validation", "test", ""]
    assert dataset.folds is None


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (("a.png", "b.png"), ("0", "6"), CLASS_ORDERS["fer2013"]),
        (("a.png", "b.png"), ("0", "7"), CLASS_ORDERS["microexpnet"]),
        (("S005_001_00000001.png", "S010_001_00000001.png"), ("0", "6"), CLASS_ORDERS["ckplus"]),
        (("a.png", "b.png"), ("happiness", "anger"), ("angry", "happy")),
        (("a.png", "b.png"), ("0", "0"), ("0", "1")),
    ],
    ids=["fer2013", "microexpnet", "ckplus", "names", "numbers"],
)
def test_class_names(write_labels, names, labels, expected):
    lines = [f"{name} {label}" for name, label in zip(names, labels, strict=True)]
    assert label_file.read(write_labels(*lines, images=names)).class_names == expected


def test_classes_txt_names_the_numbers(write_labels, write_csv):
    write_csv("sadness", "happy", "", name="classes.txt")
    dataset = label_file.read(write_labels("a.png 1", "b.png sad", images=("a.png", "b.png")))
    assert dataset.class_names == ("sad", "happy")
    assert dataset.labels.tolist() == [1, 0]
    assert dataset.notes == ()


def test_ckplus_names_give_folds_where_the_path_gives_none(write_labels):
    names = ("S005_001_00000001.png", "S005_001_00000002.png", "S010_001_00000001.png")
    dataset = label_file.read(write_labels(*(f"{name} 1" for name in names), images=names))
    assert dataset.subjects.tolist() == ["S005", "S005", "S010"]
    assert dataset.folds.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.png", 'line 2: "a.png", expected PATH LABEL'),
        ("c.png 1", "line 2: c.png does not exist: paths are relative to"),
        ("b.png 1", "line 2: b.png stands there twice, first in line 1"),
        ("a.png 2", r'line 2: label "2", expected 0..1 or one of sad, happy'),
        ("a.png -1", 'line 2: label "-1"'),
        ("a.png hapy", 'line 2: label "hapy", expected 0..1 or one of sad, happy'),
    ],
)
def test_a_wrong_line_is_named(write_labels, write_csv, line, message):
    write_csv("sad", "happy", name="classes.txt")
    path = write_labels("b.png 0", line, images=("a.png", "b.png"))
    with pytest.raises(InputError, match=f"{path} {message}"):
        label_file.read(path)


def test_a_number_that_can_be_no_label_is_named(write_labels):
    path = write_labels("a.png 0", "b.png 1000000000", images=("a.png", "b.png"))
    with pytest.raises(InputError, match="has the label 1000000000, expected 0..999"):
        label_file.read(path)


def test_a_file_without_lines_is_named(write_labels):
    with pytest.raises(InputError, match="labels.txt holds no images: expected lines PATH LABEL"):
        label_file.read(write_labels("# nothing"))
