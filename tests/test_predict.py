"""`python -m distill.predict` from end to end, and what it says to wrong input."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.command_line.stage import run_stage
from distill.predict import PredictSettings, predict
from distill.prediction import predictor, videos
from distill.prediction.predictor import Predictor
from tests.prediction.small_student import CLASSES, PORTRAIT, write_students

WRONG_INPUT, INTERRUPTED = 2, 130


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Path of an untrained exported student."""
    folder = tmp_path_factory.mktemp("model")
    write_students(folder)
    return folder / "small.tflite"


@pytest.fixture
def run(model, tmp_path, monkeypatch, capfd):
    """Return a function that runs the command in an empty folder: its exit code, and lines of both outputs."""
    monkeypatch.chdir(tmp_path)

    def run(*args) -> tuple[int, list[str], list[str]]:
        args = [*map(str, args), *([] if "--model" in args else ["--model", str(model)])]
        with pytest.raises(SystemExit) as ended:
            run_stage(predict, PredictSettings, args, backend=None)
        output = capfd.readouterr()
        return ended.value.code, output.out.splitlines(), output.err.splitlines()

    return run


@pytest.fixture
def portrait(tmp_path):
    return shutil.copy(PORTRAIT, tmp_path / "portrait.jpg")


@pytest.fixture
def empty(tmp_path):
    """A photo without a face."""
    Image.new("RGB", (200, 100), (90, 90, 90)).save(tmp_path / "empty.png")
    return "empty.png"


@pytest.fixture
def video(tmp_path):
    """Ten frames at 10 a second, the first five with a face."""
    face = np.asarray(Image.open(PORTRAIT).resize((256, 300)))
    with videos.video_written(tmp_path / "video.mp4", rate=10) as writer:
        for frame in range(10):
            picture = np.full((320, 480, 3), 90, np.uint8)
            if frame < 5:
                picture[10:310, 10 + 8 * frame : 266 + 8 * frame] = face
            writer.write(picture)
    return "video.mp4"


def test_one_photo_gives_one_line(run, portrait):
    code, out, err = run("portrait.jpg")
    assert (code, err) == (0, [])
    (line,) = out
    words = line.split()
    assert words[0] == "portrait.jpg:"
    assert words[1] in CLASSES
    assert 0 < float(words[2]) <= 1
    assert words[3:5] == ["in", "box"]
    assert len([int(edge) for edge in words[5:]]) == 4


@pytest.mark.parametrize("detector", ["haar", "blazeface", "none"])
def test_every_detector_can_be_chosen(run, portrait, detector):
    code, out, err = run("portrait.jpg", "--face-detector", detector)
    assert (code, len(out), err) == (0, 1, [])


def test_json_lines_hold_all_classes(run, portrait, empty):
    code, out, err = run("portrait.jpg", empty, "--json")
    assert (code, err) == (0, ["no face was found in empty.png"])
    first, second = map(json.loads, out)
    (face,) = first["faces"]
    assert first["file"] == "portrait.jpg"
    assert tuple(face["probabilities"]) == CLASSES
    assert face["probabilities"][face["expression"]] == face["probability"]
    assert second == {"version": 1, "file": "empty.png", "faces": []}


def test_a_photo_without_a_face_is_no_wrong_input(run, empty):
    code, out, err = run(empty)
    assert (code, out, len(err)) == (0, [], 1)
    assert err[0].startswith("no face was found in empty.png; --face-detector none takes the whole photo")


def test_boxes_are_printed_as_opencv_has_them(run, portrait):
    (left, top, right, bottom), xywh = (
        map(int, run("portrait.jpg", *flags)[1][0].split()[-4:]) for flags in ((), ("--boxes", "xywh"))
    )
    assert list(xywh) == [left, top, right - left, bottom - top]
    (line,) = run("portrait.jpg", "--boxes", "xywh", "--json")[1]
    assert json.loads(line)["faces"][0]["box"] == [left, top, right - left, bottom - top]


def test_a_batch_goes_on_after_bad_files(run, portrait, empty, tmp_path):
    (tmp_path / "text.png").write_text("text")
    code, out, err = run("gone.png", "text.png", empty, "portrait.jpg")
    assert code == WRONG_INPUT
    assert [line.split()[0] for line in out] == ["portrait.jpg:"]
    assert err[0] == "error: gone.png does not exist"
    assert err[1].startswith("error: text.png cannot be read as an image")
    assert err[2:] == ["no face was found in empty.png", "error: 2 of 4 files could not be read"]


def test_a_folder_is_a_batch(run, portrait, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("b.jpg", "a.jpg"):
        shutil.copy(PORTRAIT, tmp_path / "photos" / name)
    code, out, err = run("photos")
    assert (code, err) == (0, [])
    assert [line.split()[0] for line in out] == ["photos/a.jpg:", "photos/b.jpg:"]


def test_folders_within_are_taken_where_that_is_asked_for(run, portrait, tmp_path):
    (tmp_path / "photos" / "within").mkdir(parents=True)
    for name in ("a.jpg", "within/b.jpg"):
        shutil.copy(PORTRAIT, tmp_path / "photos" / name)
    code, out, err = run("photos", "--recursive")
    assert (code, err) == (0, [])
    assert [line.split()[0] for line in out] == ["photos/a.jpg:", "photos/within/b.jpg:"]


def test_several_threads_say_the_same_in_the_same_order(run, portrait, empty, tmp_path):
    (tmp_path / "text.png").write_text("text")
    args = ("portrait.jpg", empty, "text.png", *["portrait.jpg"] * 6)
    assert run(*args, "--threads", "3") == run(*args)


@pytest.mark.parametrize("threads", [1, 2])
def test_mirror_images_can_be_asked_about_too(run, model, portrait, threads):
    args = ("portrait.jpg", "portrait.jpg", "--json", "--threads", threads)
    code, out, err = run(*args, "--flip-average")
    assert (code, err) == (0, [])
    expected = [face.to_dict() for face in Predictor(model, flip_average=True)(portrait)]
    assert [json.loads(line)["faces"] for line in out] == [expected, expected]
    assert out != run(*args)[1]


def test_a_higher_score_leaves_faces_out(run, portrait):
    assert run("portrait.jpg", "--min-face-score", "0.5")[0] == 0
    code, _, err = run("portrait.jpg", "--min-face-score", "1")
    assert (code, err[0].startswith("no face was found")) == (0, True)
    assert run("portrait.jpg", "--face-detector", "haar", "--min-face-score", "0.5")[2] == [
        "error: --face-detector haar gives no scores: omit --min-face-score"
    ]


def test_what_is_left_out_of_a_folder_is_counted(run, portrait, tmp_path):
    (tmp_path / "photos" / "within").mkdir(parents=True)
    for name in ("a.jpg", "within/b.jpg", "photo.heic", "video.mp4", ".hidden"):
        shutil.copy(PORTRAIT, tmp_path / "photos" / name)
    code, out, err = run("photos", "portrait.jpg")
    assert (code, len(out)) == (0, 2)
    assert sorted(err) == [
        "note: photos: files with suffixes of other formats are left out: 1 .heic, 1 .mp4",
        "note: photos: images in other folders than those that are read are left out: 1 in photos/within",
    ]


def test_what_is_left_out_is_counted_for_each_folder_and_all_within(run, tmp_path):
    for name in ("one/a.jpg", "one/a.txt", "two/within/b.jpg", "two/texts/b.csv", "two/.hidden/c.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PORTRAIT, tmp_path / name)
    code, out, err = run("one", "two", "--recursive")
    assert (code, len(out)) == (0, 2)
    assert err == [
        "note: one: files with suffixes of other formats are left out: 1 .txt",
        "note: two: files with suffixes of other formats are left out: 1 .csv",
    ]


def test_of_an_animation_the_first_frame_is_looked_at(run, tmp_path):
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 200)]
    frames[0].save(tmp_path / "animated.gif", save_all=True, append_images=frames[1:])
    code, out, err = run("animated.gif", "--face-detector", "none")
    assert (code, len(out)) == (0, 1)
    assert err == ["note: animated.gif is animated or has several pages: the first is looked at"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "nothing to look at: give photos, videos or folders, or --camera 0"),
        (("gone.png",), "gone.png does not exist"),
        (("gone.mp4",), "gone.mp4 does not exist"),
        ((".",), "is a folder without images"),
        (("text.mp4",), "text.mp4 cannot be opened"),
        (("--camera", "73"), "camera 73 cannot be opened"),
        (("--camera", "-1"), "--camera counts from 0"),
        (("a.png", "--camera", "0"), "--camera stands in place of files"),
        (("a.png", "--every", "-1"), "--every must be 0 or more seconds"),
        (("a.png", "--every", "nan"), "--every must be 0 or more seconds"),
        (("a.png", "--threads", "0"), "threads must be 1 or more"),
        (("a.png", "--boxes", "xyxy"), 'unknown order of boxes "xyxy": choose one of ltrb, xywh'),
        (("a.png", "--model", "student.keras"), "student.keras is not an exported student"),
        (("a.png", "--model", "gone.tflite"), "gone.tflite does not exist"),
        (("empty.png", "--save", "text.mp4"), "text.mp4 is a file: name a folder for the copies"),
    ],
)
def test_wrong_input_gives_one_line(run, tmp_path, request, args, message):
    if args and args[0] == "empty.png":
        request.getfixturevalue("empty")
    (tmp_path / "text.mp4").write_text("text")
    code, out, err = run(*args)
    assert (code, out, len(err)) == (WRONG_INPUT, [], 1)
    assert err[0].startswith("error: ")
    assert message in err[0]


def test_a_missing_package_gives_one_line(run, portrait, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert run("portrait.jpg", "--face-detector", "haar")[::2] == (
        WRONG_INPUT,
        [
            'error: --face-detector haar needs OpenCV: pip install "distill-faces[faces]"; '
            "--face-detector blazeface needs nothing"
        ],
    )
    assert run("portrait.jpg", "--face-detector", "none")[0] == 0


def test_a_video_gives_a_line_per_face_with_its_time(run, video):
    code, out, err = run(video, "--every", "0.2")
    assert (code, err) == (0, [])
    assert [line.split(":")[0] for line in out] == [f"video.mp4 at {time:.2f} s" for time in (0, 0.2, 0.4)]


def test_a_video_gives_an_object_per_frame(run, video):
    code, out, err = run(video, "--json")
    assert (code, err) == (0, [])
    frames = [json.loads(line) for line in out]
    assert [frame["time"] for frame in frames] == [frame / 10 for frame in range(10)]
    assert [len(frame["faces"]) for frame in frames] == [1] * 5 + [0] * 5
    assert {frame["file"] for frame in frames} == {"video.mp4"}


def test_saves_an_annotated_video(run, video):
    code, _, err = run(video, "--save", "out")
    assert (code, err) == (0, [])
    frames = [frame for _, frame in videos.Frames(Path("out/video.mp4"))]
    assert len(frames) == 10
    assert frames[0].shape == (320, 480, 3)
    plain = [frame for _, frame in videos.Frames(Path("video.mp4"))]
    assert np.abs(frames[0].astype(int) - plain[0]).max() > 100
    assert np.abs(frames[9].astype(int) - plain[9]).max() < 20


def test_an_interrupted_video_keeps_what_was_seen(run, video, monkeypatch):
    whole = videos.Frames.__iter__

    def interrupted(self):
        for number, frame in enumerate(whole(self)):
            if number == 3:
                raise KeyboardInterrupt
            yield frame

    with monkeypatch.context() as patched:
        patched.setattr(videos.Frames, "__iter__", interrupted)
        code, out, err = run(video, "--save", "out")
    assert (code, len(out)) == (INTERRUPTED, 3)
    assert err == ["interrupted: what was printed and saved is whole, the rest was not looked at"]
    assert len(list(videos.Frames(Path("out/video.mp4")))) == 3


def test_saves_an_annotated_photo(run, portrait):
    code, out, err = run("portrait.jpg", "--save", "out")
    assert (code, err) == (0, [])
    saved = np.asarray(Image.open("out/portrait.jpg")).astype(int)
    original = np.asarray(Image.open(PORTRAIT)).astype(int)
    left, top, right, bottom = map(int, out[0].split()[-4:])
    inside = np.abs(saved - original)[top + 8 : bottom - 8, left + 8 : right - 8]
    assert np.abs(saved - original).max() > 100
    assert inside.mean() < 3  # JPEG, once more


def test_no_input_is_overwritten(run, portrait, tmp_path):
    before = (tmp_path / "portrait.jpg").read_bytes()
    assert run("portrait.jpg", "--save", ".")[0] == 0
    assert (tmp_path / "portrait.jpg").read_bytes() == before
    assert (tmp_path / "portrait-2.jpg").is_file()


def test_inputs_of_one_name_are_saved_apart(run, tmp_path):
    for name in ("a/x.jpg", "b/x.jpg", "c/X.JPG", "x-2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(PORTRAIT, tmp_path / name)
    assert run("a/x.jpg", "b/x.jpg", "c/X.JPG", "x-2.jpg", "--save", "out")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "X-3.jpg",
        "x-2-2.jpg",
        "x-2.jpg",
        "x.jpg",
    ]


def test_the_students_folder_is_the_default(run, model, portrait, tmp_path, monkeypatch, capfd):
    (tmp_path / "student").mkdir()
    shutil.copy(model, tmp_path / "student" / "small.tflite")
    (tmp_path / "student" / "exports.json").write_text('{"recommended": "small.tflite"}')
    monkeypatch.setattr(predictor, "DEFAULT_STUDENT", str(tmp_path / "student"))
    with pytest.raises(SystemExit) as ended:
        run_stage(predict, PredictSettings, ["portrait.jpg"], backend=None)
    assert ended.value.code == 0


def test_help_loads_nothing_large():
    program = (
        "import sys, distill.predict as c; sys.argv[1:] = ['--help']\n"
        "try: c.main()\nfinally: print([m for m in ('tensorflow', 'keras', 'cv2', 'PIL') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "python -m distill.predict" in answer.stdout
    assert answer.stdout.endswith("[]\n")


@pytest.mark.parametrize("detector", ["haar", "none"])
def test_neither_tensorflow_nor_keras_is_imported(model, detector):
    args = [sys.executable, "-X", "importtime", "-m", "distill.predict", str(PORTRAIT), "--model", str(model)]
    answer = subprocess.run([*args, "--face-detector", detector], capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in answer.stderr.splitlines()}
    assert "numpy" in imported
    assert not imported & {"tensorflow", "keras", "matplotlib", "h5py"}
