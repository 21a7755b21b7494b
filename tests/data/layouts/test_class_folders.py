import numpy as np
import pytest

from distill.data.class_labels import class_list
from distill.data.dataset import UNLABELLED
from distill.data.expressions import CLASS_ORDERS
from distill.data.layouts import class_folders
from distill.errors import InputError


def test_folders_without_splits(write_image, tmp_path):
    for name in ("happy/b.png", "happy/a.JPG", "anger/c.bmp"):
        write_image(name)
    dataset = class_folders.read(tmp_path)
    assert dataset.ids.tolist() == ["anger/c.bmp", "happy/a.JPG", "happy/b.png"]
    assert dataset.class_names == ("angry", "happy")
    assert dataset.labels.tolist() == [0, 1, 1]
    assert dataset.splits.tolist() == ["", "", ""]
    assert dataset.folds is dataset.subjects is None
    assert dataset.notes == ()


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "validation", "test"),
        ("Train", "Valid", "Test"),
        ("train", "val", "test"),
        ("Training", "dev", "testing"),
        ("Training", "PublicTest", "PrivateTest"),
        ("FER2013Train", "FER2013Valid", "FER2013Test"),
        ("train_set", "val-images", "test data"),
    ],
)
@pytest.mark.parametrize("form", ["{0}/{1}/1.png", "{1}/{0}/1.png"])
def test_folders_of_splits_lie_above_or_below_the_classes(write_image, tmp_path, train, validation, test, form):
    for split in (train, validation, test):
        for name in ("a", "b"):
            write_image(form.format(split, name))
    assert class_folders.recognise(tmp_path)
    dataset = class_folders.read(tmp_path)
    assert dict(zip(dataset.ids.tolist(), dataset.splits.tolist(), strict=True)) == {
        form.format(folder, name): split
        for folder, split in ((train, "train"), (validation, "validation"), (test, "test"))
        for name in ("a", "b")
    }
    assert dataset.class_names == ("a", "b")
    assert dataset.notes == ()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("train/a/1.png", "train/b/1.png", "eval/a/1.png"),
            '"eval" may be a split: call it train, validation',
        ),
        (("a/1.png", "b/1.png", "test_old/1.png"), '"test_old" may be a split'),
        (("a/train/1.png", "b/train/1.png", "b/my_test/1.png"), '"my_test" may be a split'),
        (
            ("test/a/1.png", "test/b/1.png", "a/1.png"),
            "class folder .*/a lies next to folders of splits: move",
        ),
        (("test/1.png", "happy/1.png", "sad/1.png"), "class folder .*/happy lies next to folders of splits"),
        (("a/train/1.png", "a/test/1.png", "b/1.png"), "/b has images outside the folders of splits"),
        (("a/test/1.png", "a/1.png", "b/test/1.png"), "/a has images outside the folders of splits"),
        (
            ("train/a/1.png", "train/b/1.png", "train/test/1.png"),
            "/train/test is called as a split, inside one: move",
        ),
        (
            ("a/Training_1.png", "b/PrivateTest_2.png", "b/3.png"),
            r"say which split .* \(Training_1.png\), but not",
        ),
    ],
)
def test_what_may_be_a_split_as_well_as_a_class_is_refused(write_image, tmp_path, names, message):
    for name in names:
        write_image(name)
    assert class_folders.recognise(tmp_path)
    with pytest.raises(InputError, match=message):
        class_folders.read(tmp_path)


def test_a_split_that_was_unpacked_into_itself(write_image, tmp_path):
    for name in ("train/train/a/1.png", "train/train/b/1.png", "test/test/a/1.png"):
        write_image(name)
    assert class_folders.read(tmp_path).splits.tolist() == ["test", "train", "train"]


def test_a_class_may_be_called_as_a_split_where_the_classes_are_named(write_image, tmp_path):
    for name in ("train/boat/1.png", "train/train/1.png", "test/test tube/1.png"):  # CIFAR-100 has a class train
        write_image(name)
    with pytest.raises(InputError, match="/train/train is called as a split|test tube"):
        class_folders.read(tmp_path)
    dataset = class_folders.read(tmp_path, class_list("boat,train,test tube"))
    assert dict(zip(dataset.ids.tolist(), dataset.labels.tolist(), strict=True)) == {
        "train/boat/1.png": 0,
        "train/train/1.png": 1,
        "test/test tube/1.png": 2,
    }


def test_images_of_a_split_in_no_class_folder_are_unlabelled(write_image, tmp_path):
    for name in ("train/a/1.png", "train/b/1.png", "test/1.png"):
        write_image(name)
    dataset = class_folders.read(tmp_path)
    assert dataset.labels.tolist() == [UNLABELLED, 0, 1]
    assert dataset.splits.tolist() == ["test", "train", "train"]
    assert dataset.notes == (f"the images in {tmp_path / 'test'} itself lie in no class folder: they have no label",)


def test_file_names_give_the_splits_where_folders_do_not(write_image, tmp_path):
    for name in ("a/Training_1.png", "b/PublicTest_2.png", "b/PrivateTest_3.png"):
        write_image(name)
    dataset = class_folders.read(tmp_path)
    assert dataset.splits.tolist() == ["train", "test", "validation"]
    assert dataset.notes == ("the file names say which split an image belongs to",)


def test_folders_overrule_file_names(write_image, tmp_path):
    for name in ("train/a/Training_1.png", "train/b/Training_2.png", "test/a/PublicTest_1.png"):
        write_image(name)
    assert sorted(class_folders.read(tmp_path).splits.tolist()) == ["test", "train", "train"]


@pytest.mark.parametrize("first", [0, 1])
def test_folders_called_by_numbers_are_refused_unless_they_are_named(write_image, write_csv, tmp_path, first):
    for number in range(first, first + 7):
        write_image(f"train/{number}/1.png")
    with pytest.raises(InputError, match=f"{first}..{first + 6}.* of unknown .*rafdb.*{tmp_path}/classes.txt"):
        class_folders.read(tmp_path)
    named = class_folders.read(tmp_path, class_list("rafdb"))
    assert named.labels.tolist() == list(range(7))
    assert named.class_names == CLASS_ORDERS["rafdb"]
    write_csv("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral", name="classes.txt")
    by_file = class_folders.read(tmp_path)
    assert by_file.class_names == named.class_names
    assert by_file.labels.tolist() == named.labels.tolist()
    assert (by_file.notes == ()) == (first == 0)


def test_classes_txt_gives_named_folders_their_order(write_image, write_csv, tmp_path):
    for name in ("anger/1.png", "happy/1.png"):
        write_image(name)
    path = write_csv("happy", "angry", name="classes.txt")
    assert class_folders.read(tmp_path).class_names == ("happy", "angry")
    with pytest.raises(InputError, match=f"--data-classes names the classes angry, happy, {path} happy, angry:"):
        class_folders.read(tmp_path, class_list("angry,happy"))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("happy", "sad"), 'class folder .*/3: label "3", expected 1..2 or one of happy, sad'),
        (("happy", "sad", "fear", "neutral"), "1..3 without 0, which fits the 4 classes of .*: number the classes"),
        (("happy", "happiness", "sad"), "each once"),
        ((), "classes.txt: unknown class order"),
    ],
)
def test_names_that_do_not_fit_the_folders_are_refused(write_image, write_csv, tmp_path, lines, message):
    for number in (1, 2, 3):
        write_image(f"{number}/1.png")
    write_csv(*lines, name="classes.txt")
    with pytest.raises(InputError, match=message):
        class_folders.read(tmp_path)


def test_images_that_lie_in_no_class_folder_are_noted(write_image, tmp_path):
    for name in ("a/1.png", "b/1.png", "2.png", "b/more/3.png"):
        write_image(name)
    dataset = class_folders.read(tmp_path)
    assert dataset.ids.tolist() == ["a/1.png", "b/1.png"]
    assert dataset.notes == (
        f"images in other folders than those that are read are left out: 1 in {tmp_path}, 1 in {tmp_path / 'b/more'}",
    )


def test_hidden_files_and_files_that_are_no_images_are_ignored(write_image, tmp_path):
    for name in ("a/1.png", "b/1.png", ".cache/1.png", "__MACOSX/a/1.png", "b/._1.png"):
        write_image(name)
    for name in ("a/Thumbs.db", "a/.DS_Store", "README.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert class_folders.read(tmp_path).ids.tolist() == ["a/1.png", "b/1.png"]


def test_folders_next_to_the_splits_are_ignored_and_noted(write_image, tmp_path):
    for name in ("train/a/1.png", "train/b/1.png", "unsorted/1.png"):
        write_image(name)
    dataset = class_folders.read(tmp_path)
    assert len(dataset) == 2
    assert dataset.notes == ("folders next to the splits are ignored: unsorted",)


@pytest.mark.parametrize("folder", ["c", "train/c", "validation/c"])
@pytest.mark.parametrize("other_file", [None, "notes.txt"])
def test_an_empty_class_folder_is_named(write_image, tmp_path, folder, other_file):
    root = "" if "/" not in folder else folder.split("/")[0] + "/"
    write_image(f"{root}a/1.png")
    write_image(f"{root}b/1.png")
    (tmp_path / folder).mkdir()
    if other_file:
        (tmp_path / folder / other_file).write_text("no image")
    assert class_folders.recognise(tmp_path)
    with pytest.raises(InputError, match=f"class folder {tmp_path / folder} has no images"):
        class_folders.read(tmp_path)


def test_one_class_is_too_few(write_image, tmp_path):
    write_image("happy/1.png")
    with pytest.raises(InputError, match="has the class folder happy only"):
        class_folders.read(tmp_path)


def test_ckplus_names_give_subjects_and_subject_independent_folds(write_image, tmp_path):
    for subject in range(12):
        for frame in (1, 2):
            write_image(f"{'happy' if subject % 2 else 'sad'}/S{subject * 7:03d}_001_{frame:08d}.png")
    dataset = class_folders.read(tmp_path)
    assert dataset.subjects.tolist() == [id_.split("/")[1][:4] for id_ in dataset.ids]
    order = sorted(set(dataset.subjects.tolist()))
    assert dataset.folds.tolist() == [order.index(subject) % 10 for subject in dataset.subjects]
    for subject in order:
        assert len(np.unique(dataset.folds[dataset.subjects == subject])) == 1


def test_one_other_name_means_no_subjects(write_image, tmp_path):
    write_image("happy/S001_001_00000001.png")
    write_image("sad/face.png")
    dataset = class_folders.read(tmp_path)
    assert dataset.subjects is None
    (note,) = dataset.notes
    assert note.startswith(
        "1 of 2 file names are not those of CK+, such as face.png: who is in an image is not known"
    )
