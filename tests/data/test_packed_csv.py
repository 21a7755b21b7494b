"""`.csv.gz` and `.csv.zip` are read as the file that is packed in them."""

import gzip
import zipfile

import pytest

from distill.data.open_dataset import open_dataset
from distill.errors import InputError

LINES = "emotion,pixels,Usage\n3,0 1 2 255,Training\n4,9 9 9 9,PrivateTest\n"
VOTES = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n" + (
    "Training,a.png,0,10,0,0,0,0,0,0,0,0\nPrivateTest,b.png,0,0,0,10,0,0,0,0,0,0\n"
)


def gz(path, text=LINES):
    path.write_bytes(gzip.compress(text.encode()))
    return path


def zipped(path, *names, text=LINES):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, text)
    return path


@pytest.fixture
def plain(write_csv):
    return open_dataset(write_csv(*LINES.splitlines(), name="plain.csv"))


def test_a_packed_file_is_the_data_set_of_the_plain_one(plain, tmp_path):
    packed = [gz(tmp_path / "a.csv.gz"), zipped(tmp_path / "b.CSV.zip", "data/fer2013.csv", "__MACOSX/._fer2013.csv")]
    for path in packed:
        assert open_dataset(path).fingerprint == plain.fingerprint
        assert open_dataset(path).splits.tolist() == ["train", "test"]


def test_a_folder_with_a_packed_file_opens_it(plain, tmp_path):
    (tmp_path / "folder").mkdir()
    gz(tmp_path / "folder" / "fer2013.csv.gz")
    assert open_dataset(tmp_path / "folder").fingerprint == plain.fingerprint


def test_votes_and_their_images_may_both_be_packed(tmp_path):
    gz(tmp_path / "fer2013.csv.gz")
    votes = zipped(tmp_path / "ferplus.csv.zip", "ferplus.csv", text=VOTES)
    dataset = open_dataset(votes)
    assert [dataset.class_names[label] for label in dataset.labels] == ["happy", "sad"]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(gzip.compress(LINES.encode())[:-20]), "cannot be unpacked"),
        (lambda path: path.write_bytes(b"emotion,pixels"), "cannot be unpacked"),
        (lambda path: path.write_bytes(gzip.compress(LINES.encode())[:12] + b"\xff" * 40), "cannot be unpacked"),
    ],
)
def test_a_damaged_gz_file_is_named(tmp_path, write, message):
    write(tmp_path / "a.csv.gz")
    with pytest.raises(InputError, match=f"a.csv.gz {message}"):
        open_dataset(tmp_path / "a.csv.gz")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.csv", "b.csv"), "holds 2 .csv files, expected one, found a.csv, b.csv"),
        (("a.txt",), "holds 0 .csv files, expected one, found a.txt"),
        ((), "holds 0 .csv files, expected one, found nothing"),
    ],
)
def test_a_zip_file_holds_one_csv_file(tmp_path, names, message):
    with pytest.raises(InputError, match=f"a.csv.zip {message}"):
        open_dataset(zipped(tmp_path / "a.csv.zip", *names))


def test_an_encrypted_zip_file_is_refused(tmp_path):
    path = zipped(tmp_path / "a.csv.zip", "a.csv")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="a.csv.zip is encrypted: unpack it first"):
        open_dataset(path)
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="a.csv.zip cannot be unpacked"):
        open_dataset(path)
