"""Shards in an object store: fsspec's own, in memory, and stores that refuse."""

import uuid

import numpy as np
import pytest

from distill.data.conversion import FORMATS, convert
from distill.data.dataset import Dataset
from distill.data.open_dataset import open_dataset
from distill.errors import InputError

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("pyarrow")


@pytest.fixture
def bucket():
    """The URL of an empty folder, which no other test uses."""
    url = f"memory://{uuid.uuid4().hex}"
    yield url
    files = fsspec.filesystem("memory")
    if files.exists(url):
        files.rm(url, recursive=True)


@pytest.fixture
def faces(rng):
    splits = ["train"] * 9 + ["test"] * 4
    images = rng.integers(0, 256, (13, 4, 4, 1), np.uint8)
    return Dataset.from_arrays(images, np.arange(13) % 3, class_names=("x", "y", "z"), splits=splits)


@pytest.fixture
def put(faces, tmp_path, bucket):
    """Return a function that puts the faces into the store as shards, and gives their local folder."""

    def put_shards(format, to="shards"):
        folder = tmp_path / format
        convert(faces, folder, format=format, images_per_shard=5)
        files = fsspec.filesystem("memory")
        files.makedirs(f"{bucket}/{to}", exist_ok=True)
        for file in folder.iterdir():
            files.pipe_file(f"{bucket}/{to}/{file.name}", file.read_bytes())
        return folder

    return put_shards


@pytest.mark.parametrize("format", FORMATS)
def test_shards_are_the_same_from_a_store_as_from_a_folder(put, bucket, format):
    local, remote = open_dataset(put(format)), open_dataset(f"{bucket}/shards")
    assert remote.name == f"{bucket}/shards"
    assert remote.fingerprint == local.fingerprint
    assert remote.class_names == local.class_names
    assert remote.splits.tolist() == local.splits.tolist()
    assert remote.ids.tolist() == local.ids.tolist()
    order = np.array([12, 0, 7, 7])
    np.testing.assert_array_equal(remote.read(order), local.read(order))
    suffix = FORMATS[format].suffix
    assert len(open_dataset(f"{bucket}/shards/train-*{suffix}")) == 9
    assert len(open_dataset(f"{bucket}/shards/train-00001-of-00002{suffix}")) == 4


def test_folders_of_splits_are_looked_into(put, bucket):
    for split in ("train", "validation"):
        files = fsspec.filesystem("memory")
        put_path = f"{bucket}/all/{split}/0.tar"
        if split == "train":
            folder = put("webdataset", to="other")
            files.pipe_file(f"{bucket}/all/classes.txt", (folder / "classes.txt").read_bytes())
        shard = sorted(folder.glob("train-*" if split == "train" else "test-*"))[0]
        files.pipe_file(put_path, shard.read_bytes())
    assert open_dataset(f"{bucket}/all").splits.tolist() == ["train"] * 5 + ["validation"] * 4


def test_a_file_url_is_a_path(put):
    folder = put("webdataset")
    assert open_dataset(f"file://{folder}").name == str(folder)


def test_what_is_not_there_or_no_shard_is_named(put, bucket):
    with pytest.raises(InputError, match=f"{bucket}/shards does not exist, or holds nothing"):
        open_dataset(f"{bucket}/shards")
    fsspec.filesystem("memory").pipe_file(f"{bucket}/words/a.txt", b"words")
    with pytest.raises(InputError, match="holds no shards: expected shards of WebDataset"):
        open_dataset(f"{bucket}/words")
    put("webdataset")
    put("parquet")
    with pytest.raises(InputError, match="holds several kinds of shards"):
        open_dataset(f"{bucket}/shards")


def test_a_shard_that_goes_or_shrinks_is_named(put, bucket):
    put("webdataset")
    dataset, files = open_dataset(f"{bucket}/shards"), fsspec.filesystem("memory")
    shard = f"{bucket}/shards/test-00000-of-00001.tar"
    files.pipe_file(shard, files.cat_file(shard)[:700])
    with pytest.raises(InputError, match="test-00000-of-00001.tar has become shorter"):
        dataset.read(np.array([3]))
    files.rm(shard)
    with pytest.raises(InputError, match="test-00000-of-00001.tar is not there"):
        dataset.read(np.array([0]))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ImportError("Install s3fs to access S3"),
            r's3://faces needs fsspec: pip install "distill-faces\[remote\]" s3fs',
        ),
        (RuntimeError("Unable to locate credentials"), "s3://faces cannot be reached .Unable to locate credentials"),
        (PermissionError("Access Denied"), "s3://faces cannot be reached .Access Denied.*your credentials"),
        (FileNotFoundError("The specified bucket does not exist"), "s3://faces is not there: look at the names"),
    ],
)
def test_a_store_that_refuses_is_named_in_one_line(monkeypatch, error, message):
    def refuse(url):
        raise error

    monkeypatch.setattr("fsspec.core.url_to_fs", refuse)
    with pytest.raises(InputError, match=message) as refused:
        open_dataset("s3://faces")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://host/a.tar", "reference://a.json", "zip://a::file:///b.zip", "s4://x"])
def test_other_schemes_are_refused(url):
    with pytest.raises(InputError, match="unknown scheme of a URL .*: "):
        open_dataset(url)


def test_a_chain_of_urls_is_refused():
    with pytest.raises(InputError, match="is a chain of URLs: expected one"):
        open_dataset("memory://a::reference://b")
