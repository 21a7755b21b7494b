"""A folder of images without labels is a dataset, too."""

import numpy as np
import pytest

from distill.data.dataset import UNLABELLED
from distill.data.open_dataset import open_dataset
from distill.data.splits import with_splits
from distill.errors import InputError


def test_images_of_a_folder_have_names_and_pixels_but_no_labels(tmp_path, write_image):
    for value, name in ((3, "b.png"), (9, "a.png"), (5, ".hidden.png")):
        write_image(name, value)
    (tmp_path / "notes.txt").write_text("no image")
    faces = open_dataset(tmp_path)
    assert faces.ids.tolist() == ["a.png", "b.png"]
    assert (faces.class_names, faces.num_classes) == ((), 0)
    assert set(faces.labels) == {UNLABELLED}
    assert faces.read(np.arange(2))[:, 0, 0, 0].tolist() == [9, 3]
    assert "no labels" in faces.notes[0]


def test_class_folders_are_read_as_such_though_an_image_lies_next_to_them(tmp_path, write_image):
    for name in ("happy/a.png", "sad/b.png", "loose.png"):
        write_image(name)
    assert open_dataset(tmp_path).class_names == ("happy", "sad")


def test_a_file_that_is_no_image_is_named(tmp_path, write_image):
    write_image("a.png")
    (tmp_path / "b.png").write_text("not an image")
    with pytest.raises(InputError, match="b.png cannot be read as an image"):
        open_dataset(tmp_path)


def test_images_without_labels_cannot_train_or_test_by_themselves(tmp_path, write_image):
    write_image("a.png")
    with pytest.raises(InputError, match="has no labels: give labelled images"):
        with_splits(open_dataset(tmp_path))
