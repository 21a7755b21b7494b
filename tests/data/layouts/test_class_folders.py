import numpy as np
import pytest

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


@pytest.mark.parametrize("validation", ["validation", "val", "valid"])
def test_folders_with_splits(write_image, tmp_path, validation):
    for name in ("train/a/1.png", "train/b/1.png", f"{validation}/a/1.png", "test/b/1.png"):
        write_image(name)
    dataset = class_folders.read(tmp_path)
    assert dict(zip(dataset.ids.tolist(), dataset.splits.tolist(), strict=True)) == {
        "train/a/1.png": "train",
        "train/b/1.png": "train",
        f"{validation}/a/1.png": "validation",
        "test/b/1.png": "test",
    }
    assert dataset.class_names == ("a", "b")


def test_hidden_files_and_files_that_are_no_images_are_ignored(write_image, tmp_path):
    for name in ("a/1.png", "b/1.png", ".cache/1.png", "b/._1.png"):
        write_image(name)
    for name in ("a/Thumbs.db", "a/.DS_Store", "README.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert class_folders.read(tmp_path).ids.tolist() == ["a/1.png", "b/1.png"]


def test_folders_beside_the_splits_are_ignored_and_noted(write_image, tmp_path):
    for name in ("train/a/1.png", "train/b/1.png", "unsorted/1.png"):
        write_image(name)
    dataset = class_folders.read(tmp_path)
    assert len(dataset) == 2
    assert dataset.notes == ("folders beside the splits are ignored: unsorted",)


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
    assert class_folders.read(tmp_path).subjects is None
