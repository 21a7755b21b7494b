"""WebDataset, as Python's `tarfile` writes it, which the library webdataset does, too."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from distill.data.class_labels import class_list
from distill.data.layouts import webdataset_shards
from distill.data.open_dataset import open_dataset
from distill.errors import InputError


def picture(grey=0, kind="PNG", mode="L", size=(4, 4)) -> bytes:
    content = io.BytesIO()
    Image.new(mode, size, grey).save(content, kind)
    return content.getvalue()


@pytest.fixture
def write_tar(tmp_path):
    """Return a function that writes (name, content) pairs as an archive below `tmp_path`, and gives its path."""

    def write(name, *members):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for member, content in members:
                info = tarfile.TarInfo(member)
                content = content.encode() if isinstance(content, str) else content
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return path

    return write


def samples(*labels, first=0):
    files = [((f"{row:04d}.png", picture(row)), (f"{row:04d}.cls", label)) for row, label in enumerate(labels, first)]
    return [file for pair in files for file in pair]


def test_labels_stand_in_cls_or_in_json(write_tar):
    described = json.dumps({"label": "sad", "width": 4})
    path = write_tar("a.tar", ("x.png", picture()), ("x.cls", "happy\n"), ("y.jpg", picture()), ("y.json", described))
    dataset = webdataset_shards.read(path)
    assert dataset.ids.tolist() == ["a/x", "a/y"]
    assert [dataset.class_names[label] for label in dataset.labels] == ["happy", "sad"]


def test_pictures_are_decoded_from_where_they_lie(write_tar):
    path = write_tar("a.tar", *samples("happy", "sad", "sad"))
    dataset = webdataset_shards.read(path)
    assert dataset.read(np.array([2, 0, 2]))[:, 0, 0, 0].tolist() == [2, 0, 2]


@pytest.mark.parametrize("source", ["shards", "shards/train-*.tar", "shards/train-0001.tar"])
def test_an_id_is_the_same_however_the_shard_is_opened(write_tar, tmp_path, source):
    write_tar("shards/train-0000.tar", *samples("happy", "sad"))
    write_tar("shards/train-0001.tar", *samples("happy", "sad"))
    assert "train-0001/0001" in open_dataset(tmp_path / source).ids.tolist()


def test_splits_are_those_that_shards_or_their_folders_are_called_by(write_tar, tmp_path):
    write_tar("a/train/0.tar", *samples("happy", "sad"))
    write_tar("a/val/0.tar", *samples("happy"))
    write_tar("b/faces-test-0.tar", *samples("happy", "sad"))
    assert open_dataset(tmp_path / "a").splits.tolist() == ["train", "train", "validation"]
    assert open_dataset(tmp_path / "a").ids.tolist()[-1] == "val/0/0000"
    assert open_dataset(tmp_path / "b").splits.tolist() == ["test", "test"]


def test_numbers_are_explained_by_classes_txt_or_refused(write_tar, tmp_path):
    path = write_tar("a.tar", *samples("1", "0", "-1"))
    with pytest.raises(InputError, match="the labels are numbers, 0..1, of unknown meaning"):
        open_dataset(path)
    assert open_dataset(path, class_names="sad,happy").labels.tolist() == [1, 0, -1]
    (tmp_path / "classes.txt").write_text("0 sad\n1 happy\n")
    assert open_dataset(tmp_path).class_names == ("sad", "happy")
    with pytest.raises(InputError, match="--data-classes names the classes happy, sad, .*classes.txt sad, happy"):
        webdataset_shards.read(path, class_list("happy,sad"))


def test_other_members_hidden_files_and_folders_are_none(write_tar):
    path = write_tar(
        "a.tar", *samples("happy", "sad"), ("readme.txt", "words"), ("._0001.png", b"x"), ("LICENSE", "x")
    )
    assert len(webdataset_shards.read(path)) == 2


def test_ids_may_be_written(write_tar):
    described = [("0.json", '{"label": "a", "sample_id": "x/1.png"}'), ("1.json", '{"label": "b", "sample_id": "y"}')]
    members = [member for row, text in enumerate(described) for member in ((f"{row}.png", picture()), text)]
    assert webdataset_shards.read(write_tar("a.tar", *members)).ids.tolist() == ["x/1.png", "y"]


def test_a_shard_that_is_not_there_is_noted(write_tar, tmp_path):
    write_tar("train-00001-of-00003.tar", *samples("happy", "sad"))
    assert open_dataset(tmp_path).notes == ("not there: 2 of 3 shards train-*-of-00003.tar",)


def test_an_archive_of_class_folders_is_no_data_set_of_its_own(write_tar, write_image, tmp_path):
    write_image("faces/happy/1.png")
    write_image("faces/sad/1.png")
    write_tar("faces.tar", ("happy/1.png", picture()), ("sad/1.png", picture()))
    assert open_dataset(tmp_path).name == str(tmp_path / "faces")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            [("a.png", picture()), ("a.jpg", picture()), ("a.cls", "x")],
            "a has the pictures .png and .jpg: expected one",
        ),
        ([("a.cls", "x"), *samples("y")], "a has a label and no picture"),
        ([*samples("x"), ("a.png", picture())], "a has no .cls, and no label in .json, other images have"),
        ([*samples("x", "y"), *samples("x")], "two images with the id shard/0000"),
        (
            [("a.png", picture()), ("a.cls", "x"), ("a.json", '{"label": "y"}')],
            'two labels, "x" in .cls and "y" in .js',
        ),
        ([("a.png", picture()), ("a.json", '{"label": [1]}')], "a.json is not an object with a .label.: .*label"),
        ([("a.png", picture()), ("a.json", "[1")], "a.json is not an object with a .label."),
        ([("a.png", picture()), ("a.cls", b"\xff\xfe")], "a.cls is not text in UTF-8"),
        ([("a.png", b"no picture"), ("a.cls", "x")], "shard.tar: a cannot be read as an image"),
        ([("a.cls", "")], "a has a label and no picture"),
    ],
)
def test_wrong_members_are_named(write_tar, members, message):
    with pytest.raises(InputError, match=message):
        open_dataset(write_tar("shard.tar", *members))


@pytest.mark.parametrize("kept", [10, 512, 700, 1024, 1536, 2048, 5000])
def test_an_archive_that_is_cut_off_anywhere_is_refused(write_tar, kept):
    path = write_tar("shard.tar", *samples("x", "y", "x", "y"))
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0"))
    path.write_bytes(whole[: min(kept, end // 512 * 512)])
    with pytest.raises(InputError, match="shard.tar is not a whole tar archive"):
        open_dataset(path)


def test_archives_that_are_put_behind_each_other_or_packed_are_refused(write_tar, tmp_path):
    path = write_tar("shard.tar", *samples("x", "y"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole)
    with pytest.raises(InputError, match="is damaged, or several archives in one"):
        open_dataset(path)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.cls"))
    with pytest.raises(InputError, match="not a whole tar archive .*not packed"):
        open_dataset(path)


def test_a_shard_that_shrinks_or_goes_after_it_was_opened_is_named(write_tar):
    path = write_tar("shard.tar", *samples("x", "y"))
    dataset = open_dataset(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(InputError, match="shard.tar has become shorter"):
        dataset.read(np.array([1]))
    path.unlink()
    with pytest.raises(InputError, match="shard.tar is gone"):
        dataset.read(np.array([0]))


def test_names_in_doubt_and_of_two_splits_are_refused(write_tar, tmp_path):
    write_tar("a/train/test-0.tar", *samples("x", "y"))
    with pytest.raises(InputError, match="is named as test and train"):
        open_dataset(tmp_path / "a")
    write_tar("b/eval-0.tar", *samples("x", "y"))
    with pytest.raises(InputError, match='"eval-0" may be a split'):
        open_dataset(tmp_path / "b")
    write_tar("c/train-0.tar", *samples("x", "y"))
    write_tar("c/more-0.tar", *samples("x", "y"))
    with pytest.raises(InputError, match="train-0.tar is named as a split, .*more-0.tar is not"):
        open_dataset(tmp_path / "c")


def test_a_pattern_that_nothing_matches_is_named(tmp_path):
    with pytest.raises(InputError, match=r"train-\*.tar has no known layout"):
        open_dataset(tmp_path / "train-*.tar")
