import pytest

from distill.data.class_labels import class_list
from distill.data.expressions import CLASS_ORDERS
from distill.data.layouts import label_file
from distill.errors import InputError


@pytest.fixture
def write_labels(write_image, write_csv):
    """Return a function that writes labels.txt, and the images of its lines where they are wanted."""

    def write(*lines, images=()):
        for name in images:
            write_image(name)
        return write_csv(*lines, name="labels.txt")

    return write


def test_lines_become_samples_in_their_order(write_labels):
    path = write_labels(
        "# a comment", "", "fold1/b c.png 1", "fold0/a.png\t0", images=("fold1/b c.png", "fold0/a.png")
    )
    dataset = label_file.read(path, class_list("sad,happy"))
    assert dataset.ids.tolist() == ["fold1/b c.png", "fold0/a.png"]
    assert dataset.labels.tolist() == [1, 0]
    assert dataset.folds.tolist() == [1, 0]
    assert dataset.splits.tolist() == ["", ""]
    assert dataset.class_names == ("sad", "happy")
    assert dataset.notes == ()


def test_a_folder_with_labels_txt_is_recognised(write_labels, tmp_path):
    write_labels("a.png sad", "b.png happy", images=("a.png", "b.png"))
    assert label_file.recognise(tmp_path)
    assert label_file.read(tmp_path).ids.tolist() == ["a.png", "b.png"]


def test_other_text_files_are_not_recognised(write_csv):
    assert not label_file.recognise(write_csv("Faces, read me first", name="README.txt"))
    assert not label_file.recognise(write_csv("angry", "happy", name="classes.txt"))


def test_folders_give_the_split(write_labels):
    names = ("train/a.png", "images/PublicTest/a.png", "FER2013Test/b.png")
    dataset = label_file.read(write_labels(*(f"{name} sad" for name in names), images=names))
    assert dataset.splits.tolist() == ["train", "validation", "test"]
    assert dataset.folds is None
    assert dataset.notes == ()


def test_images_in_no_folder_of_a_split_are_noted(write_labels):
    names = ("train/a.png", "test/a.png", "other/a.png")
    dataset = label_file.read(write_labels(*(f"{name} sad" for name in names), images=names))
    assert dataset.splits.tolist() == ["train", "test", ""]
    assert dataset.notes == ("1 of 3 images lie in no folder of a split, such as other/a.png",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test_old/a.png", 'line 2: "test_old" may be a split: call it train, validation, test'),
        ("train/test/a.png", "line 2: train/test/a.png lies in folders of several splits, train, test"),
    ],
)
def test_a_folder_in_doubt_is_refused(write_labels, name, message):
    names = ("train/b.png", name)
    with pytest.raises(InputError, match=message):
        label_file.read(write_labels(*(f"{each} sad" for each in names), images=names))


def test_where_an_absolute_path_begins_is_no_split(write_labels, tmp_path):
    names = [str(tmp_path / "my_test" / name) for name in ("train/a.png", "test/b.png")]
    dataset = label_file.read(write_labels(*(f"{name} sad" for name in names), images=names))
    assert dataset.splits.tolist() == ["train", "test"]


def test_the_list_of_rafdb_counts_from_one_and_says_the_split_in_the_file_names(write_labels):
    names = [f"{split}_{k:05d}_aligned.jpg" for split in ("train", "test") for k in range(1, 8)]
    path = write_labels(*(f"{name} {k % 7 + 1}" for k, name in enumerate(names)), images=names)
    with pytest.raises(InputError, match=r"1..7 \(0 never occurs\), of unknown .*--data-classes .*, rafdb, "):
        label_file.read(path)
    dataset = label_file.read(path, class_list("RAF-DB"))
    assert [dataset.class_names[label] for label in dataset.labels[:7]] == list(CLASS_ORDERS["rafdb"])
    assert dataset.class_names[0] == "surprise"
    assert dataset.splits.tolist() == ["train"] * 7 + ["test"] * 7


@pytest.mark.parametrize("last", ["1", "6", "7"])
def test_numbers_that_nobody_has_named_are_refused(write_labels, tmp_path, last):
    path = write_labels("a.png 0", f"b.png {last}", images=("a.png", "b.png"))
    with pytest.raises(InputError, match=f"{path}: .* 0..{last}, of unknown .*{tmp_path}/classes.txt, a name"):
        label_file.read(path)


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (("S005_001_00000001.png", "S010_001_00000001.png"), ("0", "6"), "ckplus"),
        (("S005_001_00000001.png", "S010_001_00000001.png"), ("0", "7"), "microexpnet"),
    ],
)
def test_the_numbers_of_ckplus_files_are_known_and_noted(write_labels, names, labels, expected):
    lines = [f"{name} {label}" for name, label in zip(names, labels, strict=True)]
    dataset = label_file.read(write_labels(*lines, images=names))
    assert dataset.class_names == CLASS_ORDERS[expected]
    assert dataset.notes[0].startswith(
        "no classes.txt next to labels.txt, but file names of CK+: labels are taken to"
    )


def test_names_are_their_own_meaning(write_labels):
    path = write_labels("a.png happiness", "b.png anger", images=("a.png", "b.png"))
    assert label_file.read(path).class_names == ("angry", "happy")


def test_classes_txt_names_the_numbers(write_labels, write_csv):
    write_csv("sadness", "happy", "", name="classes.txt")
    dataset = label_file.read(write_labels("a.png 1", "b.png sad", "c.png 0", images=("a.png", "b.png", "c.png")))
    assert dataset.class_names == ("sad", "happy")
    assert dataset.labels.tolist() == [1, 0, 0]
    assert dataset.notes == ()


def test_ckplus_names_give_folds_where_the_path_gives_none(write_labels):
    names = ("S005_001_00000001.png", "S005_001_00000002.png", "S010_001_00000001.png")
    dataset = label_file.read(write_labels(*(f"{name} sad" for name in names), images=names))
    assert dataset.subjects.tolist() == ["S005", "S005", "S010"]
    assert dataset.folds.tolist() == [0, 0, 1]


def test_a_number_of_many_digits_is_no_fold(write_labels):
    folds = [f"fold{number}/a.png" for number in (10**19, 10**20)]
    assert label_file.read(write_labels(*(f"{name} sad" for name in folds), images=folds)).folds is None


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


def test_a_file_without_lines_is_named(write_labels):
    with pytest.raises(InputError, match="labels.txt holds no images: expected lines PATH LABEL"):
        label_file.read(write_labels("# nothing"))


def test_folds_of_some_paths_are_not_used_and_that_is_noted(write_labels):
    names = ("fold0/a.png", "fold1/b.png", "more/c.png")
    dataset = label_file.read(write_labels(*(f"{name} sad" for name in names), images=names))
    assert dataset.folds is None
    assert dataset.notes == ("1 of 3 paths name no fold, such as more/c.png: the folds of the others are not used",)


def test_one_file_under_two_spellings_is_refused(write_labels):
    with pytest.raises(InputError, match=r"line 2: ./a.png stands there twice, first in line 1"):
        label_file.read(write_labels("a.png happy", "./a.png sad", images=("a.png",)))
