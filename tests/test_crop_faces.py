"""Faces are cut out of photos as `predict` cuts them, and what is left out is named."""

import csv
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import distill
from distill import crop_faces
from distill.errors import BusyError
from distill.prediction.contact_sheet import contact_sheet
from distill.prediction.cropping import CropSettings, FaceFolder, sharpness
from distill.prediction.face_crops import face_pixels
from distill.prediction.face_finder import FaceFinder, Found
from distill.prediction.photos import open_photo
from tests.prediction.small_student import PORTRAIT


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*args):
        monkeypatch.setattr("sys.argv", ["crop_faces", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            crop_faces.main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return call


@pytest.fixture
def photos(tmp_path):
    for name in ("happy/a.jpg", "sad/b.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        shutil.copy(PORTRAIT, tmp_path / "photos" / name)
    Image.new("RGB", (400, 300), (90, 90, 90)).save(tmp_path / "photos" / "sad" / "wall.png")
    (tmp_path / "photos" / "happy" / "text.png").write_text("text")
    return tmp_path / "photos"


def rows(file):
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))


def pixels(file):
    return np.asarray(Image.open(file)).astype(float)


def test_class_folders_stay_class_folders_and_what_is_left_out_is_named(run, photos, tmp_path):
    code, out, _ = run("photos", "--out", "faces")
    assert code == 0
    assert "2 faces in faces; look them over: faces-report/sheet.png" in out
    faces = distill.open_dataset("faces")
    assert faces.ids.tolist() == ["happy/a.png", "sad/b.png"]
    assert faces.class_names == ("happy", "sad")
    assert faces.image_shape == (160, 160, 3)
    left_out = {row["source"]: row["why"] for row in rows("faces-report/left_out.csv")}
    assert left_out.keys() == {"sad/wall.png", "happy/text.png"}
    assert left_out["sad/wall.png"] == "no face was found"
    assert "cannot be read as an image" in left_out["happy/text.png"]
    assert [row["face"] for row in rows("faces-report/faces.csv")] == ["happy/a.png", "sad/b.png"]
    assert Image.open("faces-report/sheet.png").width > 160


def test_a_face_is_framed_as_predict_frames_it(run, photos):
    run("photos/happy/a.jpg", "--out", "faces", "--size", "64")
    photo = open_photo(PORTRAIT)
    (found,) = FaceFinder()(photo)
    np.testing.assert_allclose(pixels("faces/a.png"), face_pixels(photo, found.region, (64, 64, 3)), atol=0.51)


def test_an_interrupted_call_goes_on_behind_what_is_done(run, photos, monkeypatch):
    run("photos", "--out", "faces")
    record = photos.parent / "faces-report" / "done.jsonl"
    lines = record.read_text().splitlines(keepends=True)
    record.write_text("".join(lines[:2]) + lines[2][:20])  # killed while it wrote
    looked_at = []
    find = FaceFinder.__call__
    monkeypatch.setattr(FaceFinder, "__call__", lambda self, photo: looked_at.append(1) or find(self, photo))
    code, out, _ = run("photos", "--out", "faces", "--threads", "2")
    assert (code, "2 faces in faces" in out) == (0, True)
    assert len(looked_at) == 2  # of three photos that can be read, one was done
    assert sorted(record.read_text().splitlines()) == sorted(line.rstrip("\n") for line in lines)


def test_a_call_that_was_interrupted_before_any_photo_was_finished_goes_on(run, photos, monkeypatch):
    cut = FaceFolder.crop

    def interrupted(self, source, finder):
        cut(self, source, finder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FaceFolder, "crop", interrupted)
        assert run("photos", "--out", "faces")[0] == 130
    assert run("photos", "--out", "faces")[0] == 0


def test_a_photo_that_has_changed_is_cut_out_anew_and_faces_of_one_that_is_gone_are_named(run, photos, monkeypatch):
    run("photos", "--out", "faces")
    Image.fromarray(open_photo(PORTRAIT) // 2).save(photos / "happy" / "a.jpg", quality=95)
    (photos / "sad" / "b.jpg").unlink()
    looked_at = []
    find = FaceFinder.__call__
    monkeypatch.setattr(FaceFinder, "__call__", lambda self, photo: looked_at.append(1) or find(self, photo))
    before = pixels("faces/happy/a.png")
    code, out, _ = run("photos", "--out", "faces")
    assert (code, len(looked_at)) == (0, 1)
    assert out.startswith("1 face in faces")
    assert "note: faces also holds 1 picture of no face of these photos, such as sad/b.png: of" in out
    assert pixels("faces/happy/a.png").mean() == pytest.approx(before.mean() / 2, rel=0.1)
    assert sorted(path.name for path in photos.parent.joinpath("faces").rglob("*.png")) == ["a.png", "b.png"]
    assert run("photos", "--out", "faces")[0] == 0
    assert len(looked_at) == 1
    Image.new("RGB", (400, 300), (90, 90, 90)).save(photos / "happy" / "a.jpg")
    run("photos", "--out", "faces")
    assert not (photos.parent / "faces" / "happy" / "a.png").exists()


def test_links_that_lead_nowhere_are_named_and_next_commands_are_quoted(run, photos):
    (photos / "sad" / "lost.jpg").symlink_to("nowhere.jpg")
    code, out, _ = run("photos", "--out", "my faces")
    assert code == 0
    assert "distill.describe_data --data 'my faces'" in out
    left_out = {row["source"]: row["why"] for row in rows("my faces-report/left_out.csv")}
    assert "does not exist" in left_out["sad/lost.jpg"]


def test_faces_among_the_photos_are_none_of_them_when_it_is_called_again(run, photos):
    for _ in range(2):
        code, out, _ = run("photos", "--out", "photos/faces")
        assert code == 0
        assert out.startswith("2 faces in photos/faces")
    assert sorted(path.name for path in (photos / "faces").rglob("*.png")) == ["a.png", "b.png"]


def test_the_current_folder_is_named_in_full(run, photos, tmp_path):
    code, _, err = run("photos", "--out", ".")
    assert code == 2
    assert f"{tmp_path} is not empty" in err


def test_other_settings_and_other_folders_are_refused(run, photos, tmp_path):
    run("photos", "--out", "faces")
    assert "faces of other settings (size: stored 160, now 48)" in run("photos", "--out", "faces", "--size", "48")[2]
    code, _, err = run("photos", "--out", "photos")
    assert (code, "photos is not empty" in err) == (2, True)
    assert "gone does not exist" in run("gone", "--out", "new")[2]


def test_tiny_and_blurred_faces_are_left_out_by_flags(run, photos):
    assert (
        "no face was found in photos/happy/a.jpg" in run("photos/happy/a.jpg", "--out", "1", "--min-pixels", "999")[2]
    )
    assert rows("1-report/left_out.csv")[0]["why"].startswith("the face is too small: ")
    run("photos/happy/a.jpg", "--out", "2", "--min-sharpness", "1e6")
    assert rows("2-report/left_out.csv")[0]["why"].startswith("the face is blurred: its sharpness is ")


def test_a_label_file_stays_one(run, photos):
    (photos / "labels.txt").write_text("happy/a.jpg 0\nsad/b.jpg 1\n")
    (photos / "classes.txt").write_text("happy\nsad\n")
    assert run("photos/labels.txt", "--out", "faces")[0] == 0
    faces = distill.open_dataset("faces")
    assert faces.ids.tolist() == ["happy/a.png", "sad/b.png"]
    assert faces.labels.tolist() == [0, 1]
    assert faces.class_names == ("happy", "sad")


def test_videos_give_a_face_every_so_many_seconds(run, tmp_path):
    videos = pytest.importorskip("distill.prediction.videos")
    pytest.importorskip("cv2")
    portrait = np.asarray(Image.open(PORTRAIT).convert("RGB").resize((256, 300)))
    frame = np.full((320, 480, 3), 90, np.uint8)
    frame[10:310, 10:266] = portrait
    (tmp_path / "videos").mkdir()
    with videos.video_written(tmp_path / "videos" / "video.mp4", rate=10) as writer:
        for _ in range(10):
            writer.write(frame)
    assert run("videos", "--out", "faces", "--every", "0.5")[0] == 0
    assert sorted(path.name for path in (tmp_path / "faces").iterdir()) == ["video-0.00s.png", "video-0.50s.png"]


def test_frames_less_than_a_hundredth_of_a_second_apart_give_a_face_each(run, tmp_path):
    videos = pytest.importorskip("distill.prediction.videos")
    pytest.importorskip("cv2")
    (tmp_path / "videos").mkdir()
    with videos.video_written(tmp_path / "videos" / "video.mp4", rate=250) as writer:
        for _ in range(5):
            writer.write(np.full((48, 64, 3), 90, np.uint8))
    assert run("videos", "--out", "faces", "--every", "0", "--face-detector", "none")[0] == 0
    names = {path.name for path in (tmp_path / "faces").iterdir()}
    assert len(names) == len(rows("faces-report/faces.csv")) == 5
    assert names >= {"video-0.00s.png", "video-0.00s-2.png"}


def test_sources_of_one_name_give_a_face_each(run, photos, tmp_path):
    for name in ("a.png", "A.jpeg", "b.jpg", "c.webp", "c.jpg"):
        Image.new("RGB", (64, 64), (90, 90, 90)).save(photos / "sad" / name)
    shutil.copy(photos / "sad" / "a.png", photos / "sad" / "a.JPG")
    assert run("photos/sad", "--out", "faces", "--face-detector", "none", "--threads", "2")[0] == 0
    names = {path.name for path in (tmp_path / "faces").iterdir()}
    assert names == {"A.jpeg.png", "a.JPG.png", "a.png.png", "b.png", "c.png", "c.webp.png", "wall.png"}


@pytest.fixture
def finder():
    """Finds two faces in a photo."""
    return lambda photo: [Found((0, 0, side, side), (0, 0, side, side), None) for side in (64, 48)]


def test_a_second_face_and_a_photo_of_its_name_are_kept_apart(finder, tmp_path):
    sources = ["p-face2.png", "p.png"]
    for name in sources:
        Image.new("RGB", (64, 64)).save(tmp_path / name)

    def names_of(source):
        folder = FaceFolder(tmp_path / "faces", tmp_path, sources, CropSettings(), detector={})
        line = folder.crop(source, finder)
        folder.record(line)
        return [face["face"] for face in line["faces"]]

    assert names_of("p.png") == ["p.png", "p-face2.png"]
    assert names_of("p-face2.png") == ["p-face2-2.png", "p-face2-face2.png"]  # the earlier call has the name
    assert len(list((tmp_path / "faces").iterdir())) == 4


def test_names_that_are_no_utf8_reach_the_tables_and_the_labels(run, tmp_path):
    name, photos = os.fsdecode(b"caf\xe9"), tmp_path / "photos"
    photos.mkdir()
    try:
        Image.new("RGB", (64, 64)).save(photos / f"{name}.jpg")
    except OSError:
        pytest.skip("this file system takes no such name")
    code, out, _ = run("photos", "--out", "faces", "--face-detector", "none")
    assert code == 0
    assert "note: 1 face with a name that is not UTF-8, such as caf" in out
    assert b"\ncaf\xe9.png,caf\xe9.jpg," in (tmp_path / "faces-report" / "faces.csv").read_bytes()
    folder = SimpleNamespace(out=tmp_path / "faces", root=photos)
    crop_faces._write_labels(folder, [{"face": f"{name}.png", "source": f"{name}.jpg"}], {f"{name}.jpg": "3"})
    assert (tmp_path / "faces" / "labels.txt").read_bytes() == b"caf\xe9.png 3\n"


def test_what_could_not_be_read_is_looked_at_again(run, photos, monkeypatch):
    (photos / "sad" / "later.jpg").symlink_to(photos.parent / "disk.jpg")

    def busy(path):
        raise BusyError(f"{path} cannot be read now")

    with monkeypatch.context() as patch:
        patch.setattr("distill.prediction.cropping.open_photo", busy)
        assert run("photos/happy", "--out", "faces")[0] == 2
    assert run("photos/happy", "--out", "faces")[1].startswith("1 face in faces")
    assert run("photos/sad", "--out", "others")[1].startswith("1 face in others")
    shutil.copy(PORTRAIT, photos.parent / "disk.jpg")
    assert run("photos/sad", "--out", "others")[1].startswith("2 faces in others")
    (photos.parent / "disk.jpg").unlink()  # whose faces stay
    assert run("photos/sad", "--out", "others")[1].startswith("2 faces in others")


def test_photos_of_another_folder_are_refused_unless_it_was_moved(run, photos):
    run("photos/sad", "--out", "faces")
    before = rows("faces-report/faces.csv")
    code, _, err = run("photos/happy", "--out", "faces")
    assert (code, err.rstrip()) == (
        2,
        f"error: faces holds the faces of {photos / 'sad'}: name another folder for photos/happy",
    )
    (photos / "sad").rename(photos / "moved")
    assert run("photos/moved", "--out", "faces")[0] == 0
    assert rows("faces-report/faces.csv") == before


def test_faces_that_were_deleted_are_in_no_table_and_deleting_all_starts_over(run, photos, tmp_path):
    (photos / "labels.txt").write_text("happy/a.jpg happy\nsad/b.jpg sad\n")
    run("photos/labels.txt", "--out", "faces")
    (tmp_path / "faces" / "sad" / "b.png").unlink()
    assert run("photos/labels.txt", "--out", "faces")[1].startswith("1 face in faces")
    assert [row["face"] for row in rows("faces-report/faces.csv")] == ["happy/a.png"]
    assert (tmp_path / "faces" / "labels.txt").read_text() == "happy/a.png happy\n"
    (tmp_path / "faces" / "happy" / "a.png").unlink()
    (tmp_path / "faces" / ".DS_Store").touch()  # and empty class folders, and the labels
    assert run("photos/labels.txt", "--out", "faces", "--size", "48")[1].startswith("2 faces in faces")
    shutil.rmtree(tmp_path / "faces")
    assert run("photos/labels.txt", "--out", "faces", "--size", "64")[1].startswith("2 faces in faces")


def test_faces_that_were_sorted_into_other_folders_are_not_cut_out_again(run, photos, tmp_path):
    run("photos/happy", "--out", "faces")
    (tmp_path / "faces" / "checked").mkdir()
    (tmp_path / "faces" / "a.png").rename(tmp_path / "faces" / "checked" / "a.png")
    assert run("photos/happy", "--out", "faces")[0] == 2
    assert not (tmp_path / "faces" / "a.png").exists()


def test_folders_behind_links_are_looked_at_and_other_files_are_counted(run, photos, tmp_path):
    (photos / "sad").rename(tmp_path / "elsewhere")
    (photos / "sad").symlink_to(tmp_path / "elsewhere")
    (photos / "sad" / "round").symlink_to(photos)
    for name in ("a.heic", "b.HEIC", ".hidden", "classes.txt"):
        (photos / "happy" / name).write_bytes(b"")
    for _ in range(2):  # what it has written into the folder itself does not count
        code, out, _ = run("photos", "--out", "photos/faces")
        assert code == 0
        assert "note: left out, as neither photos nor videos: 2 .heic\n" in out
        assert "2 faces in photos/faces" in out


def test_a_folder_that_cannot_be_read_is_named(run, photos, monkeypatch):
    scan = os.scandir

    def scandir(path):
        if Path(path).name == "sad":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("distill.prediction.found_photos.os.scandir", scandir)
    code, out, _ = run("photos", "--out", "faces")
    assert (code, "note: left out, as they cannot be read: 1 folder, such as sad" in out) == (0, True)
    assert "1 face in faces" in out
    (photos / "sad" / "b.jpg").rename(photos / "b.jpg")
    code, _, err = run("photos/sad", "--out", "others")
    assert code == 2
    assert "photos/sad cannot be read now (Permission denied): give yourself permission to read it" in err


def test_faces_that_a_killed_call_left_of_a_photo_that_is_gone_are_named(run, photos, tmp_path):
    run("photos", "--out", "faces")
    shutil.copy(tmp_path / "faces" / "sad" / "b.png", tmp_path / "faces" / "sad" / "gone-0.00s.png")
    said = run("photos", "--out", "faces")[1]
    assert "1 picture of no face of these photos, such as sad/gone-0.00s.png: of other photos" in said


def test_a_label_file_of_absolute_paths_keeps_its_splits(run, photos, tmp_path):
    folder = tmp_path / "test" / "photos"
    folder.parent.mkdir()
    photos.rename(folder)
    (folder / "labels.txt").write_text(f"{folder}/happy/a.jpg happy\n{folder}/sad/b.jpg sad\n")
    before = distill.open_dataset(folder / "labels.txt")
    run("test/photos/labels.txt", "--out", "faces")
    faces = distill.open_dataset("faces")
    assert faces.ids.tolist() == ["happy/a.png", "sad/b.png"]
    np.testing.assert_array_equal(faces.splits, before.splits)


def test_names_that_begin_with_a_hash_are_no_comments_among_the_labels(run, photos):
    (photos / "sad" / "b.jpg").rename(photos / "#b.jpg")
    (photos / "labels.txt").write_text("happy/a.jpg happy\n./#b.jpg sad\n")
    run("photos/labels.txt", "--out", "faces")
    assert sorted(distill.open_dataset("faces").labels.tolist()) == [0, 1]


@pytest.mark.parametrize("length", [246, 251])
def test_a_long_name_ends_nothing(finder, tmp_path, length):
    name = "x" * (length - 4) + ".jpg"
    Image.new("RGB", (64, 64)).save(tmp_path / name)
    folder = FaceFolder(tmp_path / "faces", tmp_path, [name], CropSettings(), detector={})
    line = folder.crop(name, finder)
    folder.record(line)
    kept, left_out = folder.finish([name])
    assert len(kept) == (2 if length == 246 else 1)
    assert [row["why"] for row in left_out] == ["its name is too long for those of its faces: rename it"] * (
        2 - len(kept)
    )


def test_a_sheet_of_many_folders_shows_some(tmp_path):
    file = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(file)
    sizes = []
    for count in (100, 300):
        contact_sheet([(f"{number}/a.png", file) for number in range(count)], tmp_path / "sheet.png")
        sizes.append(Image.open(tmp_path / "sheet.png").size)
    assert sizes[0] == sizes[1]


def test_videos_are_looked_at_once_opencv_is_there(run, photos, monkeypatch):
    (photos / "video.mp4").write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cv2", None)
        code, out, _ = run("photos", "--out", "faces")
        assert code == 0
        assert "left out because no face was found: 1\n" in out
        assert "left out because a file cannot be used: 2, such as: photos/" in out
    left_out = photos.parent / "faces-report" / "left_out.csv"
    assert "video.mp4 needs OpenCV" in left_out.read_text()
    pytest.importorskip("cv2")
    run("photos", "--out", "faces")
    assert "needs OpenCV" not in left_out.read_text()


@pytest.mark.parametrize("name", ["0", "all", "zz", "happz"])
def test_real_folders_come_before_links_to_them(run, photos, name):
    (photos / name).symlink_to(photos / "happy")
    (photos / "self.jpg").symlink_to(photos / "self.jpg")
    (photos / "up").symlink_to(photos.parent)  # where the faces are, too
    for _ in range(2):
        assert run("photos", "--out", "faces")[1].startswith("2 faces in faces")
    assert [row["face"] for row in rows("faces-report/faces.csv")] == ["happy/a.png", "sad/b.png"]


def test_a_deleted_face_of_one_photo_is_not_called_not_found(run, photos):
    for _ in range(2):
        run("photos/happy/a.jpg", "--out", "faces", "--face-detector", "none")
        shutil.copy(photos / "sad" / "b.jpg", photos / "happy" / "c.jpg")
        run("photos/happy/c.jpg", "--out", "faces", "--face-detector", "none")
        (photos.parent / "faces" / "a.png").unlink(missing_ok=True)
    assert (
        "all faces of photos/happy/a.jpg were deleted from faces since: name another --out, or delete faces to start"
        in run("photos/happy/a.jpg", "--out", "faces", "--face-detector", "none")[2]
    )


def test_sharpness_against_a_sum_by_hand():
    face = np.zeros((4, 4))
    face[1, 1] = 1.0
    # The Laplacian of the inner pixels: -4 at the spot, 1 next to it, 0 across.
    assert sharpness(face) == pytest.approx(np.var([-4, 1, 1, 0]))
    assert json.loads(json.dumps(sharpness(np.ones((96, 96))))) == 0
