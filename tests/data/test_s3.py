"""Shards in a bucket of S3: a server of that protocol on this machine, which nothing outside it reaches."""

from urllib.request import Request, urlopen

import numpy as np
import pytest

from distill.data.conversion import convert
from distill.data.dataset import Dataset
from distill.data.open_dataset import open_dataset
from distill.errors import InputError

moto = pytest.importorskip("moto.server", reason='needs moto: pip install "moto[server]"')
s3fs = pytest.importorskip("s3fs", reason="needs s3fs: pip install s3fs")
pytest.importorskip("pyarrow")

FORMATS = ("webdataset", "parquet")


@pytest.fixture(scope="module")
def endpoint():
    """The URL of a server, at a port that the system gave it."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def files(endpoint, monkeypatch, tmp_path):
    """The file system that a user gets who has set the usual variables."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()  # fsspec keeps file systems, and s3fs its lists of files
    yield s3fs.S3FileSystem()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def folder(files, tmp_path, rng, request):
    """A local folder of shards of a format, whose files lie in s3://faces/FORMAT too."""
    splits = ["train"] * 9 + ["test"] * 4
    images = rng.integers(0, 256, (13, 4, 4, 1), np.uint8)
    faces = Dataset.from_arrays(images, np.arange(13) % 3, class_names=("x", "y", "z"), splits=splits)
    folder = tmp_path / request.param
    convert(faces, folder, format=request.param, images_per_shard=5)
    files.mkdirs("faces", exist_ok=True)
    files.put(str(folder) + "/", f"faces/{request.param}/", recursive=True)
    return folder


def look_who_asks_after(endpoint, requests):
    """Let the server check the credentials of whoever asks it, of whom it knows none, after so many requests."""
    urlopen(Request(f"{endpoint}/moto-api/reset-auth", requests, {"Content-Type": "text/plain"})).close()


@pytest.mark.parametrize("folder", FORMATS, indirect=True)
def test_shards_in_a_bucket_are_those_of_the_folder(folder):
    local, remote = open_dataset(folder), open_dataset(f"s3://faces/{folder.name}")
    assert remote.ids.tolist() == local.ids.tolist()
    assert remote.splits.tolist() == local.splits.tolist()
    assert remote.class_names == local.class_names
    np.testing.assert_array_equal(remote.labels, local.labels)
    np.testing.assert_array_equal(remote.content_hashes, local.content_hashes)
    order = np.array([12, 0, 7, 7])
    np.testing.assert_array_equal(remote.read(order), local.read(order))


@pytest.mark.parametrize("folder", FORMATS[:1], indirect=True)
def test_a_shard_that_has_gone_from_the_bucket_is_named(folder, files):
    dataset = open_dataset(f"s3://faces/{folder.name}")
    files.rm(f"faces/{folder.name}/test-00000-of-00001.tar")
    with pytest.raises(InputError, match=r"s3://faces/.*test-00000-of-00001.tar is not there"):
        dataset.read(np.array([0]))


@pytest.mark.usefixtures("files")
def test_a_bucket_that_is_not_there_is_refused_in_one_line():
    with pytest.raises(InputError, match="s3://nobody/faces does not exist, or holds nothing") as refused:
        open_dataset("s3://nobody/faces")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("folder", FORMATS[:1], indirect=True)
def test_unknown_credentials_are_refused_in_one_line(folder, endpoint):
    look_who_asks_after(endpoint, b"0")
    try:
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(
            InputError, match="s3://faces/.*cannot be reached.*Access Key.*your credentials"
        ) as refused:
            open_dataset(f"s3://faces/{folder.name}")
    finally:
        look_who_asks_after(endpoint, b"inf")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("folder", FORMATS[:1], indirect=True)
def test_missing_credentials_are_refused_in_one_line(folder, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(InputError, match="s3://faces/.*cannot be reached.*credentials.*your credentials") as refused:
        open_dataset(f"s3://faces/{folder.name}")
    assert "\n" not in str(refused.value)
