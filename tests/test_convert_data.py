"""A dataset of any layout comes back from shards as it was: ids, labels, pixels, splits and class names."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.command_line.stage import run_stage
from distill.convert_data import ConvertDataSettings, convert_data
from distill.data import conversion
from distill.data.conversion import FORMATS, convert, not_kept
from distill.data.dataset import Dataset
from distill.data.open_dataset import open_dataset
from distill.data.splits import with_splits
from distill.errors import InputError
from distill.logit_store import LogitHeader, LogitWriter, open_logits

pytest.importorskip("pyarrow")


def run(*args) -> int:
    with pytest.raises(SystemExit) as ended:
        run_stage(convert_data, ConvertDataSettings, [str(arg) for arg in args], backend=None)
    return ended.value.code


@pytest.fixture
def folders(tmp_path, rng):
    """Class folders in splits, of several formats and sizes, grey and in colour."""
    for row, kind in enumerate(("png", "jpg", "bmp", "webp", "png", "jpg")):
        for split in ("train", "validation", "test"):
            for name in ("happy", "sad"):
                path = tmp_path / "faces" / split / name / f"a.{row}.{kind}"
                path.parent.mkdir(parents=True, exist_ok=True)
                shape = (9, 7, 3) if row % 2 else (8, 8)
                Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)
    return tmp_path / "faces"


@pytest.fixture
def csv(write_csv, rng):
    """Rows whose splits are mixed, two with no label of each class."""
    usages = ("Training", "PrivateTest", "PublicTest", "Training")
    rows = [f"{row % 7},{' '.join(map(str, rng.integers(0, 256, 16)))},{usages[row % 4]}" for row in range(23)]
    return write_csv("emotion,pixels,Usage", *rows)


def unsplit(rng, labels) -> Dataset:
    images = rng.integers(0, 256, (len(labels), 4, 5, 3), np.uint8)
    return Dataset.from_arrays(images, np.array(labels), class_names=("zebra, striped", "7 ants", "0x"))


def check_same(source: Dataset, other: Dataset) -> None:
    assert other.class_names == source.class_names
    assert other.fingerprint == source.fingerprint  # ids, labels, pixels
    assert other.image_shape == source.image_shape
    for split in np.unique(source.splits):
        there, here = (np.flatnonzero(each.splits == split) for each in (source, other))
        np.testing.assert_array_equal(other.ids[here], source.ids[there])
        np.testing.assert_array_equal(other.labels[here], source.labels[there])
        np.testing.assert_array_equal(other.read(here), source.read(there))


@pytest.mark.parametrize("format", FORMATS)
def test_class_folders_come_back_with_the_bytes_of_their_files(folders, tmp_path, format):
    assert run(folders, "--out", tmp_path / "shards", "--format", format, "--images-per-shard", 5) == 0
    source, shards = open_dataset(folders), open_dataset(tmp_path / "shards")
    check_same(source, shards)
    assert len(list((tmp_path / "shards").glob(f"train-0000[012]-of-00003{FORMATS[format].suffix}"))) == 3
    for sample_id, (_, content) in zip(shards.ids, shards.images.encoded(np.arange(len(shards))), strict=True):
        assert content == (folders / sample_id).read_bytes()


@pytest.mark.parametrize("format", FORMATS)
def test_arrays_come_back_from_png(csv, tmp_path, format):
    convert(open_dataset(csv), tmp_path / "shards", format=format)
    check_same(open_dataset(csv), open_dataset(tmp_path / "shards"))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("labels", [[0, 1, 2, -1], [1, 1, 1], [2, 0, 0]])
def test_labels_that_are_absent_and_names_of_any_kind_come_back(rng, tmp_path, format, labels):
    source = unsplit(rng, labels)
    convert(source, tmp_path / "shards", format=format)
    check_same(source, open_dataset(tmp_path / "shards"))


@pytest.mark.parametrize("format", FORMATS)
def test_images_without_labels_come_back_without(write_image, tmp_path, format):
    for row in range(3):
        write_image(f"faces/{row}.png", row)
    convert(open_dataset(tmp_path / "faces"), tmp_path / "shards", format=format)
    check_same(open_dataset(tmp_path / "faces"), open_dataset(tmp_path / "shards"))
    assert not (tmp_path / "shards" / "classes.txt").exists()


@pytest.mark.parametrize("format", FORMATS)
def test_images_of_no_split_among_others_come_back_as_train_as_training_takes_them(rng, tmp_path, format):
    splits = np.array(["test", "", "train", "validation", "", "train"])
    source = replace(unsplit(rng, [0, 1, 2, 0, 1, 2]), splits=splits)
    convert(source, tmp_path / "shards", format=format)
    check_same(with_splits(source), with_splits(open_dataset(tmp_path / "shards")))
    assert "2 images of no split are written as train" in not_kept(source)[0]


@pytest.mark.parametrize("second", FORMATS)
@pytest.mark.parametrize("first", FORMATS)
def test_shards_become_shards_of_another_format(csv, tmp_path, first, second):
    convert(open_dataset(csv), tmp_path / "first", format=first)
    convert(open_dataset(tmp_path / "first"), tmp_path / "second", format=second)
    check_same(open_dataset(tmp_path / "first"), open_dataset(tmp_path / "second"))


@pytest.mark.parametrize("format", FORMATS)
def test_logits_that_were_cached_from_the_source_fit_its_shards(csv, tmp_path, rng, format):
    source = open_dataset(csv)
    header = LogitHeader(
        class_names=source.class_names,
        views=1,
        view_spec={},
        teacher_name="any",
        teacher_sha256="ab" * 32,
        teacher_input_shape=(4, 4, 1),
        numeric_policy="float32",
        dataset_fingerprint=source.fingerprint,
        dataset_name=source.name,
        versions={},
    )
    columns = {"sample_ids": source.ids, "content_hashes": source.content_hashes, "labels": source.labels}
    logits = rng.normal(size=(len(source), 1, 7)).astype(np.float32)
    with LogitWriter(tmp_path / "logits.h5", header, **columns) as writer:
        for rows in writer.missing():
            writer.write(rows, logits[rows])
        writer.finish()
    convert(source, tmp_path / "shards", format=format, images_per_shard=5)
    shards = open_dataset(tmp_path / "shards")
    joined = open_logits(tmp_path / "logits.h5").join(shards)
    row_of = {sample_id: row for row, sample_id in enumerate(source.ids.tolist())}
    np.testing.assert_array_equal(joined, logits[[row_of[sample_id] for sample_id in shards.ids.tolist()]])


@pytest.mark.parametrize("format", FORMATS)
def test_after_an_interruption_the_same_command_goes_on_and_nothing_looked_whole(csv, tmp_path, format, monkeypatch):
    source, calls = open_dataset(csv), []
    convert(source, tmp_path / "whole", format=format, images_per_shard=4)
    write = FORMATS[format].write

    def interrupted(path, samples, class_names):
        calls.append(path)
        if len(calls) == 3:
            write(path, list(samples)[:2], class_names)  # as far as it came
            raise KeyboardInterrupt
        write(path, samples, class_names)

    with monkeypatch.context() as patched:
        patched.setitem(conversion.FORMATS, format, FORMATS[format]._replace(write=interrupted))
        with pytest.raises(KeyboardInterrupt):
            convert(source, tmp_path / "shards", format=format, images_per_shard=4)
        assert not (tmp_path / "shards").exists()
        with pytest.raises(InputError, match="was begun with other data or flags"):
            convert(source, tmp_path / "shards", format=format, images_per_shard=5)
        convert(source, tmp_path / "shards", format=format, images_per_shard=4)
    assert len(calls) == len(list((tmp_path / "whole").glob("*-of-*"))) + 1
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "shards")]
    assert files[0] == files[1]
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_dir()) == ["shards", "whole"]


def test_a_second_process_is_refused(csv, tmp_path):
    folder = tmp_path / ".shards-unfinished"
    folder.mkdir()
    with (
        conversion.FileLock(folder / ".lock"),
        pytest.raises(InputError, match="is being written by another process"),
    ):
        convert(open_dataset(csv), tmp_path / "shards", format="webdataset")


def test_shards_whose_folder_could_not_be_renamed_are_not_those_of_other_data(csv, tmp_path, monkeypatch, rng):
    def fail(*_):
        raise OSError("busy")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fail)
        with pytest.raises(OSError, match="busy"):
            convert(open_dataset(csv), tmp_path / "shards", format="webdataset")
    with pytest.raises(InputError, match="was begun with other data or flags"):
        convert(unsplit(rng, [0, 1]), tmp_path / "shards", format="webdataset")
    convert(open_dataset(csv), tmp_path / "shards", format="webdataset")
    check_same(open_dataset(csv), open_dataset(tmp_path / "shards"))
    assert not list((tmp_path / "shards").glob("*.json"))


def test_subjects_of_ckplus_are_known_in_shards_of_class_folders(write_image, tmp_path):
    for subject in range(12):
        write_image(f"faces/{'happy' if subject % 2 else 'sad'}/S{subject:03d}_001_00000001.png", subject)
    folders = open_dataset(tmp_path / "faces")
    convert(folders, tmp_path / "shards", format="webdataset")
    shards = open_dataset(tmp_path / "shards")
    assert dict(zip(shards.ids, shards.subjects, strict=True)) == dict(
        zip(folders.ids, folders.subjects, strict=True)
    )
    assert len(set(shards.folds.tolist())) == 10


def test_parquet_says_its_classes_without_classes_txt_and_as_the_hub_does(csv, tmp_path):
    from pyarrow import parquet

    convert(open_dataset(csv), tmp_path / "shards", format="parquet")
    (tmp_path / "shards" / "classes.txt").unlink()
    check_same(open_dataset(csv), open_dataset(tmp_path / "shards"))
    schema = parquet.read_schema(next((tmp_path / "shards").glob("train-*")))
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"]["_type"] == "ClassLabel"
    assert features["label"]["names"] == list(open_dataset(csv).class_names)


@pytest.mark.parametrize("names", [("1", "0"), ("x\ny", "z"), ("Anger", "x")])
def test_class_names_that_would_not_come_back_are_refused(rng, tmp_path, names):
    source = unsplit(rng, [0, 1])
    object.__setattr__(source, "class_names", names)
    with pytest.raises(InputError, match="class"):
        convert(source, tmp_path / "shards", format="webdataset")
    assert not (tmp_path / "shards").exists()


def test_an_existing_target_and_wrong_numbers_are_refused(csv, tmp_path, capsys):
    assert run(csv, "--out", tmp_path) == 2
    assert "exists: name a new folder for the shards" in capsys.readouterr().err
    assert run(csv, "--out", tmp_path / "shards", "--images-per-shard", 0) == 2
    assert "images-per-shard must be at least 1" in capsys.readouterr().err
    assert run(csv, "--out", tmp_path / "shards", "--format", "zip") == 2
    assert run(tmp_path / "nothing", "--out", tmp_path / "shards") == 2
    assert not (tmp_path / "shards").exists()
