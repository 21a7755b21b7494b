"""A PostScript program in place of a picture never reaches Ghostscript, wherever pictures are opened."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

import distill
from distill.command_line.stage import run_stage
from distill.data.image_files import open_image_files
from distill.data.open_dataset import open_dataset
from distill.demo import shown
from distill.errors import InputError
from distill.evaluation.side_by_side import SideBySide
from distill.predict import PredictSettings, predict
from distill.prediction.predictor import Predictor
from distill.prediction.videos import Frames
from tests.prediction.small_student import write_students

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 48\n%%EndComments\n(called) print\nshowpage\n%%EOF\n"
WMF = b"\xd7\xcd\xc6\x9a" + bytes(80)
PDF = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n%%EOF\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_students(folder)
    return folder / "small.tflite"


@pytest.fixture
def called(tmp_path, monkeypatch):
    """The file that a stand-in for Ghostscript writes when it is called."""
    if sys.platform == "win32":
        pytest.skip("the stand-in is a shell script")
    (tmp_path / "bin").mkdir()
    for name in ("gs", "ghostscript", "gswin32c", "gswin64c"):
        stand_in = tmp_path / "bin" / name
        stand_in.write_text(f'#!/bin/sh\necho "$0 $@" >> "{tmp_path / "called"}"\n')
        stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # Pillow looks once
    return tmp_path / "called"


@pytest.fixture(params=[EPS, b"%!PS-Adobe-3.0\nshowpage\n", PDF, WMF], ids=["EPS", "PS", "PDF", "WMF"])
def folder(request, tmp_path):
    """Class folders, in which the first picture is none."""
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("L", (48, 48)).save(tmp_path / "data" / name / "z.png")
    (tmp_path / "data" / "a" / "eps.jpg").write_bytes(request.param)
    return tmp_path / "data"


def test_the_stand_in_is_what_pillow_would_call(called, tmp_path):
    (tmp_path / "eps.jpg").write_bytes(EPS)
    with pytest.raises(OSError), Image.open(tmp_path / "eps.jpg") as image:  # noqa: PT011 - says nothing of use
        image.load()
    assert called.exists()


@pytest.mark.parametrize("layout", [".", "a", "list.txt"])
def test_data_sets(folder, called, layout):
    (folder / "list.txt").write_text("a/eps.jpg happy\nb/z.png sad\n")
    with pytest.raises(InputError, match="eps.jpg cannot be read as an image"):
        open_dataset(folder / layout)
    assert not called.exists()


def test_a_picture_that_is_replaced_once_it_is_known(tmp_path, called, write_image):
    images, _ = open_image_files([write_image("a.jpg")])
    (tmp_path / "a.jpg").write_bytes(EPS)
    with pytest.raises(InputError, match="a.jpg cannot be read as an image"):
        images.read(np.array([0]))
    assert not called.exists()


def test_predict(folder, called, model, capfd):
    with pytest.raises(SystemExit) as ended:
        run_stage(
            predict,
            PredictSettings,
            [str(folder / "a"), "--model", str(model), "--face-detector", "none"],
            backend=None,
        )
    assert ended.value.code == 2
    output = capfd.readouterr()
    assert "eps.jpg cannot be read as an image" in output.err
    assert "z.png: " in output.out
    with pytest.raises(InputError, match="eps.jpg cannot be read as an image"):
        Predictor(model, face_detector="none")(folder / "a" / "eps.jpg")
    assert not called.exists()


def test_the_page(folder, called, model):
    picture, said = shown(SideBySide(model, face_detector="none"), str(folder / "a" / "eps.jpg"))
    assert picture is None
    assert "cannot be read as an image" in said
    assert not called.exists()


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mov"])
def test_videos(folder, called, suffix):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    video = (folder / "a" / "eps.jpg").rename(folder / f"video1{suffix}")
    with pytest.raises(InputError, match="video1"):
        next(iter(Frames(video)))
    assert not called.exists()


def test_pictures_are_opened_in_one_place_alone():
    package = Path(distill.__file__).parent
    opening = re.compile(r"\bImage\.open\(|\bimread\(|\bimdecode\(|\bload_img\(|\bdecode_image\(")
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if opening.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"data/pictures.py"}
