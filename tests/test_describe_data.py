import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from distill.data.dataset import Dataset
from distill.data.open_dataset import open_dataset
from distill.describe_data import DescribeDataSettings, describe_data
from distill.errors import InputError
from distill.reports.sample_faces import sample_faces


@pytest.fixture
def folders(write_image, tmp_path):
    for row in range(10):
        write_image(f"data/train/happy/{row}.png", row)
        write_image(f"data/train/sad/{row}.png", 100 + row)
    write_image("data/validation/sad/copy.png", 3)
    return tmp_path / "data"


def test_the_report(folders, tmp_path, capsys):
    describe_data(DescribeDataSettings(data=str(folders), out=str(tmp_path / "faces.png")))
    lines = capsys.readouterr().out.splitlines()
    assert f"data: {folders}" in lines
    assert "images: 21, 4x4, grey" in lines
    assert [line.split() for line in lines if line.startswith(("class", "happy", "sad", "all"))] == [
        ["class", "train", "validation", "all"],
        ["happy", "10", "0", "10"],
        ["sad", "10", "1", "11"],
        ["all", "20", "1", "21"],
    ]
    assert "exact duplicates: 1 group, 2 images; 1 group with conflicting labels" in lines
    assert "  1 validation images have an exact copy in train" in lines
    assert f"fingerprint: {open_dataset(folders).fingerprint}" in lines


def test_mirrored_copies_across_splits_are_reported(write_image, tmp_path, capsys, rng):
    pixels = rng.integers(0, 256, (6, 8), np.uint8)
    for name, image in (("train/a/1", pixels), ("test/b/1", pixels[:, ::-1]), ("train/b/1", pixels.T[:6, :6])):
        write_image(f"data/{name}.png", np.ascontiguousarray(image))
    write_image("data/train/b/2.png", 3, size=(8, 6))
    describe_data(DescribeDataSettings(data=str(tmp_path / "data"), out=str(tmp_path / "samples.png")))
    lines = capsys.readouterr().out.splitlines()
    assert "mirrored copies: 2 images, those with an exact copy not counted" in lines
    assert "  1 test images have a mirrored copy in train" in lines
    assert "  1 train images have a mirrored copy in test" in lines


def test_notes_are_printed(folders, write_image, tmp_path, capsys):
    write_image("data/train/sad/large.png", size=(9, 9))
    describe_data(DescribeDataSettings(data=str(folders), out=str(tmp_path / "faces.png")))
    assert "note: 1 of 22 images have another size and are resized to 4x4" in capsys.readouterr().out


def test_the_picture_is_written_whole_into_a_new_folder(folders, tmp_path):
    target = tmp_path / "new" / "faces.png"
    describe_data(DescribeDataSettings(data=str(folders), out=str(target)))
    with Image.open(target) as picture:
        assert np.asarray(picture).std() > 0
    assert [path.name for path in target.parent.iterdir()] == ["faces.png"]


def test_rows_are_classes_and_the_seed_chooses_the_faces(folders):
    dataset = open_dataset(folders)

    def drawn(seed):
        figure = sample_faces(dataset, per_class=4, seed=seed)
        return [[int(axis.images[0].get_array()[0, 0]) for axis in figure.axes[row : row + 4]] for row in (0, 4)]

    happy, sad = drawn(0)
    assert all(value < 10 for value in happy)
    assert all(value >= 100 or value == 3 for value in sad)
    assert drawn(0) == drawn(0) != drawn(1)


def test_a_class_with_few_faces_shows_them_all(folders):
    figure = sample_faces(open_dataset(folders).split("validation"), per_class=3)
    assert [len(axis.images) for axis in figure.axes] == [0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 1)])
def test_images_of_a_pixel_height_or_width_are_drawn(write_image, tmp_path, size):
    for name in ("train/happy/1.png", "train/sad/1.png"):
        write_image(name, size=size)
    describe_data(DescribeDataSettings(data=str(tmp_path / "train"), out=str(tmp_path / "faces.png")))
    assert Image.open(tmp_path / "faces.png").height > 100


def test_of_very_many_classes_the_first_are_drawn():
    labels = np.arange(300)
    names = [f"class {label}" for label in labels]
    many = Dataset.from_arrays(np.zeros((300, 4, 4), np.uint8), labels, class_names=names)
    assert len(sample_faces(many, per_class=1).axes) == 100


def test_an_unknown_format_is_refused_before_the_data_is_read(tmp_path):
    with pytest.raises(InputError, match="faces.pgn cannot be drawn: its suffix must be one of .*png"):
        describe_data(DescribeDataSettings(data="nothing", out=str(tmp_path / "faces.pgn")))


def test_the_command(folders, tmp_path):
    command = [sys.executable, "-W", "error", "-m", "distill.describe_data", "--data", str(folders)]
    done = subprocess.run([*command, "--out", str(tmp_path / "faces.png")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "images: 21" in done.stdout
    failed = subprocess.run([*command[:-1], str(tmp_path / "dat")], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 1
    assert "dat does not exist (did you mean data?)" in failed.stderr


def test_real_faces(fer_layouts, tmp_path, capsys):
    settings = DescribeDataSettings(data=str(fer_layouts / "fer2013.csv"), out=str(tmp_path / "faces.png"))
    describe_data(settings)
    assert "images: 70, 48x48, grey" in capsys.readouterr().out
