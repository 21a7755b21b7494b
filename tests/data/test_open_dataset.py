import re

import numpy as np
import pytest

from distill.data.expressions import CLASS_ORDERS
from distill.data.open_dataset import LAYOUTS, open_dataset
from distill.errors import InputError

CSV = ("emotion,pixels,Usage", "3,0 1 2 255,Training")


@pytest.fixture
def npy_pair(tmp_path):
    np.save(tmp_path / "faces-images.npy", np.zeros((2, 4, 4), np.uint8))
    np.save(tmp_path / "faces-labels.npy", np.array([0, 6]))
    return tmp_path / "faces-images.npy"


def test_a_file_is_opened_by_its_layout(write_csv):
    path = write_csv(*CSV)
    assert open_dataset(path).name == open_dataset(str(path)).name == str(path)


def test_a_folder_with_one_data_set_opens_it(write_csv, tmp_path):
    path = write_csv(*CSV)
    write_csv("some words", name="README.txt")
    assert open_dataset(tmp_path).name == str(path)


def test_a_folder_with_one_pair_opens_it(npy_pair, tmp_path):
    assert open_dataset(tmp_path).name == str(npy_pair)


def test_a_folder_around_class_folders_opens_them(write_image, tmp_path):
    write_image("archive/train/a/1.png")
    write_image("archive/train/b/1.png")
    assert open_dataset(tmp_path).name == str(tmp_path / "archive")


def test_folds_with_labels_txt_are_no_classes(write_image, write_csv, tmp_path):
    write_image("fold0/a.png")
    write_image("fold1/b.png")
    write_csv("fold0/a.png happy", "fold1/b.png sad", name="labels.txt")
    assert open_dataset(tmp_path).class_names == ("happy", "sad")


def test_named_classes_reach_the_layout(npy_pair):
    for class_names in ("rafdb", "RAF-DB", CLASS_ORDERS["rafdb"]):
        dataset = open_dataset(npy_pair, class_names=class_names)
        assert [dataset.class_names[label] for label in dataset.labels] == ["surprise", "neutral"]


@pytest.mark.parametrize("name", ["synthetic", "synthetic-8"])
def test_named_classes_put_drawn_faces_into_their_order(monkeypatch, name):
    monkeypatch.setattr("distill.data.open_dataset._SYNTHETIC_COUNT", 24)
    drawn, named = open_dataset(name), open_dataset(name, class_names="ferplus")
    assert named.class_names == CLASS_ORDERS["ferplus"]
    assert [named.class_names[k] for k in named.labels] == [drawn.class_names[k] for k in drawn.labels]
    with pytest.raises(InputError, match="synthetic.* has the classes .*, expected some of happy, sad"):
        open_dataset(name, class_names="happy,sad")


def test_classes_of_unlabelled_images_are_refused(write_image, tmp_path):
    write_image("a.png")
    with pytest.raises(InputError, match="its images have no labels: omit --data-classes"):
        open_dataset(tmp_path, class_names="fer2013")


def test_a_table_of_another_kind_says_what_its_columns_lack(write_csv):
    path = write_csv("image,label", "a.png,3", name="labels.csv")
    with pytest.raises(InputError, match="has no column pixels, its columns are image, label: expected emotion,"):
        open_dataset(path)


def test_several_data_sets_in_a_folder_are_listed(npy_pair, write_csv, tmp_path):
    path = write_csv(*CSV)
    message = f"{tmp_path} holds 2 datasets, name one of them: {npy_pair}, {path}"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fer2013.cvs", r"fer2013.cvs does not exist \(did you mean fer2013.csv\?\); expected synthetic"),
        ("nothing/like/it", "it does not exist, nor does its folder .*nothing/like; expected"),
        ("zzz", "zzz does not exist; expected synthetic, synthetic-8, MODULE:FUNCTION, or the path of"),
        ("README.md", "README.md has no known layout; expected"),
        ("empty", "empty has no known layout; expected"),
    ],
)
def test_a_path_that_does_not_work_says_what_would(write_csv, tmp_path, name, message):
    write_csv(*CSV)
    write_csv("words", name="README.md")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert all(layout.name in str(caught.value) for layout in LAYOUTS)


def test_a_misspelt_synthetic_is_offered():
    with pytest.raises(InputError, match=r"did you mean synthetic"):
        open_dataset("syntetic")


def test_an_unreadable_file_is_named(write_csv, monkeypatch):
    path = write_csv(*CSV)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(InputError, match=f"{path} cannot be read now .Permission denied"):
        open_dataset(path)


@pytest.mark.parametrize(("name", "classes"), [("synthetic", 7), ("synthetic-8", 8)])
def test_synthetic_names_open_drawn_faces(monkeypatch, name, classes):
    received = {}
    monkeypatch.setattr("distill.data.synthetic_faces.synthetic_faces", lambda **given: received.update(given))
    open_dataset(name)
    assert received == {"count": 4000, "classes": classes, "seed": 0}
