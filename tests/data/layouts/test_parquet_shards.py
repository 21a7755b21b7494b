"""Parquet as pyarrow writes it, with the columns and the metadata of Hugging Face's `datasets`."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from distill.data.layouts import parquet_shards
from distill.data.open_dataset import open_dataset
from distill.errors import InputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["anger", "sad, very"], "_type": "ClassLabel"}}


def picture(grey=0) -> bytes:
    content = io.BytesIO()
    Image.new("L", (4, 4), grey).save(content, "PNG")
    return content.getvalue()


def images(count, **more):
    return [{"bytes": picture(row), "path": None} | more for row in range(count)]


@pytest.fixture
def write_parquet(tmp_path):
    """Return a function that writes columns as a file below `tmp_path`, and gives its path."""

    def write(name="train-00000-of-00001.parquet", *, features=None, row_group_size=3, **columns):
        table = pa.table(columns)
        if features is not None:
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=row_group_size)
        return path

    return write


def test_a_file_of_the_hub_says_its_classes_and_splits(write_parquet, tmp_path):
    write_parquet("data/train-00000-of-00001.parquet", image=images(8), label=[0, 1] * 4, features=FEATURES)
    write_parquet("data/test-00000-of-00001.parquet", image=images(2), label=[-1, None], features=FEATURES)
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("angry", "sad, very")
    assert dataset.ids.tolist()[:3] == [
        "test-00000-of-00001/00000",
        "test-00000-of-00001/00001",
        "train-00000-of-00001/00000",
    ]
    assert dataset.labels.tolist() == [-1, -1, *[0, 1] * 4]
    assert dataset.splits.tolist() == ["test"] * 2 + ["train"] * 8


def test_rows_are_read_in_any_order_across_row_groups_and_files(write_parquet, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_shards, "_KEPT_BYTES", 1)
    write_parquet("a.parquet", image=images(8), label=["x"] * 8)
    write_parquet("b.parquet", image=images(5), label=["y"] * 5)
    dataset = open_dataset(tmp_path)
    order = np.array([12, 0, 7, 3, 8, 0])
    assert dataset.read(order)[:, 0, 0, 0].tolist() == [4, 0, 7, 3, 0, 0]
    assert len(dataset.images._kept) == 1


def test_pictures_may_be_plain_bytes_and_labels_names(write_parquet):
    labels = pa.array(["sad", "happy"]).dictionary_encode()
    dataset = open_dataset(write_parquet(img=[picture(3), picture(4)], labels=labels))
    assert [dataset.class_names[label] for label in dataset.labels] == ["sad", "happy"]
    assert dataset.read(np.arange(2))[:, 0, 0, 0].tolist() == [3, 4]


def test_a_column_of_ids_names_the_images(write_parquet):
    assert open_dataset(write_parquet(image=images(2), sample_id=["x/1.png", "y"])).ids.tolist() == ["x/1.png", "y"]


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_ids_and_labels_may_be_text_of_any_kind(write_parquet, kind):
    ids, labels = (pa.array(texts, kind) for texts in (["x/1.png", "y"], ["sad", "happy"]))
    dataset = open_dataset(write_parquet(image=images(2), sample_id=ids, label=labels))
    assert dataset.ids.tolist() == ["x/1.png", "y"]
    assert [dataset.class_names[label] for label in dataset.labels] == ["sad", "happy"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"pixels": [1]}, "has no column image or img, its columns are pixels"),
        ({"image": ["a.png"]}, "holds string as image, expected the bytes of encoded pictures"),
        ({"image": [{"bytes": picture()}, {"bytes": None}], "label": ["a", "b"]}, "row 1 has no picture"),
        ({"image": images(1), "label": [0.5]}, "holds double as label, expected whole numbers or names"),
        ({"image": images(2), "label": [0, 1]}, "the labels are numbers, 0..1, of unknown meaning"),
        ({"image": images(2), "label": [0, 2], "features": FEATURES}, 'label "2", expected 0..1'),
        (
            {"image": images(1), "label": [0], "features": {"label": {"names": 3}}},
            "is not a description of features.*names",
        ),
        ({"image": images(2), "sample_id": ["x", "x"]}, "two images with the id x"),
        ({"image": images(1), "sample_id": [7]}, "holds int64 as sample_id, expected text"),
        ({"image": [{"bytes": b"x"}]}, "00000 cannot be read as an image"),
        ({"image": pa.array([], pa.binary())}, "holds no images"),
    ],
)
def test_wrong_columns_are_named(write_parquet, columns, message):
    with pytest.raises(InputError, match=message):
        open_dataset(write_parquet(**columns))


@pytest.mark.parametrize("kept", [0, 3, 100, -1])
def test_a_file_that_is_cut_off_is_refused(write_parquet, kept):
    path = write_parquet(image=images(5), label=["x"] * 5)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="parquet is not a whole Parquet file"):
        open_dataset(path)


def test_a_file_that_goes_after_it_was_opened_is_named(write_parquet):
    path = write_parquet(image=images(5), label=["x", "y", "x", "y", "x"])
    dataset = open_dataset(path)
    path.unlink()
    with pytest.raises(InputError, match="parquet is gone"):
        dataset.read(np.array([0]))


def test_without_pyarrow_the_extra_is_named(write_parquet, monkeypatch):
    path = write_parquet(image=images(1))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r'Parquet files need pyarrow: pip install "distill-faces\[parquet\]"'):
        open_dataset(path)
