import shutil
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

import distill
from distill.errors import InputError
from distill.prediction import predictor as predictor_module
from distill.prediction.exported_model import EXPORTS
from distill.prediction.predictor import Face, Predictor
from tests.prediction.small_student import CLASSES, PORTRAIT, PORTRAIT_FACE

FACE = Face((1, 2, 3, 4), 0.98765432, {"sad": 0.1, "happy": 0.7000000001, "angry": 0.2})


def test_a_face_says_what_is_most_probable():
    assert FACE.expression == "happy"
    assert FACE.probability == pytest.approx(0.7)
    assert FACE.to_dict() == {
        "box": [1, 2, 3, 4],
        "score": 0.987654,
        "expression": "happy",
        "probability": 0.7,
        "probabilities": {"sad": 0.1, "happy": 0.7, "angry": 0.2},
    }


@pytest.mark.parametrize("detector", ["haar", "blazeface"])
def test_finds_and_names_the_face_in_a_portrait(exported, detector):
    (face,) = distill.Predictor(exported, face_detector=detector)(PORTRAIT)
    left, top, right, bottom = face.box
    assert abs(left + right - PORTRAIT_FACE[0] - PORTRAIT_FACE[2]) < 40
    assert abs(top + bottom - PORTRAIT_FACE[1] - PORTRAIT_FACE[3]) < 60
    assert tuple(face.probabilities) == CLASSES
    assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert (face.score is None) == (detector == "haar")


def test_a_path_an_image_and_an_array_are_the_same(exported):
    predictor = Predictor(exported)
    image = Image.open(PORTRAIT)
    faces = predictor(PORTRAIT)
    assert faces == predictor(str(PORTRAIT)) == predictor(image) == predictor(np.asarray(image))


def test_a_grey_array_may_lack_its_channel(exported, rng):
    predictor = Predictor(exported, face_detector="none")
    grey = rng.integers(0, 256, (40, 30), np.uint8)
    assert predictor(grey) == predictor(grey[..., None]) == predictor(np.repeat(grey[..., None], 3, axis=2))
    assert predictor(grey)[0].box == (0, 0, 30, 40)


def test_the_largest_face_comes_first_and_boxes_lie_within(exported, monkeypatch):
    boxes = np.array([[5, 5, 9, 9], [-10, -10, 30.4, 30], [60, 60, 80, 80]], float)
    predictor = Predictor(exported, face_detector="none")
    monkeypatch.setattr(predictor.faces, "_find_faces", lambda photo: (boxes, np.array([0.7, 0.8, 0.9])))
    faces = predictor(np.zeros((50, 60, 3), np.uint8))
    assert [(face.box, face.score) for face in faces] == [((0, 0, 30, 30), 0.8), ((5, 5, 9, 9), 0.7)]


def test_a_photo_without_faces_gives_none(exported):
    assert Predictor(exported)(np.zeros((50, 60, 3), np.uint8)) == []


def test_many_faces_at_once_are_each_as_alone(exported, rng):
    images = rng.integers(0, 256, (5, 48, 48, 1), np.uint8)
    alone = Predictor(exported, face_detector="none")
    rows = Predictor(exported, face_detector="none", threads=2).predict_faces(images)
    assert rows.shape == (5, 7)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [list(alone(image)[0].probabilities.values()) for image in images], atol=1e-6)
    assert alone.predict_faces(images[:0]).shape == (0, 7)


def test_probabilities_may_be_those_of_the_mean_logits_of_a_face_and_its_mirror_image(exported, rng):
    images = rng.integers(0, 256, (5, 48, 48, 1), np.uint8)
    plain, both = (Predictor(exported, face_detector="none", flip_average=flip) for flip in (False, True))
    logits = [np.log(np.float64(plain.predict_faces(each))) for each in (images, images[:, :, ::-1])]
    assert np.abs(np.diff(logits, axis=0)).max() > 0.1  # a mirror image makes a difference
    expected = keras.ops.softmax(np.mean(logits, axis=0))
    np.testing.assert_allclose(both.predict_faces(images), expected, atol=1e-6)
    np.testing.assert_allclose(list(both(images[0])[0].probabilities.values()), expected[0], atol=1e-6)
    assert both.predict_faces(images[:0]).shape == (0, 7)
    assert both(np.zeros((50, 60, 3), np.uint8))[0].probabilities.keys() == set(CLASSES)


@pytest.mark.parametrize(
    "probabilities", [([1.0, 0.0], [0.0, 1.0]), ([1.0, 0.0], [1.0, 0.0])], ids=["opposed", "agreed"]
)
def test_a_probability_that_rounds_to_zero_does_not_spoil_the_mean(exported, monkeypatch, probabilities):
    predictor = Predictor(exported, face_detector="none", flip_average=True)
    rows = iter(np.float32([[each] for each in probabilities]))
    monkeypatch.setattr(predictor, "model", SimpleNamespace(probabilities=lambda pixels: next(rows)))
    given = predictor._probabilities(np.zeros((1, 48, 48, 1), np.float32))
    np.testing.assert_allclose(given, np.mean(probabilities, axis=0)[None], atol=1e-6)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros(4, np.uint8)]
)
def test_other_arrays_are_refused(exported, image):
    with pytest.raises(ValueError, match=r"An image must be uint8 \[H, W\] or \[H, W, 1 or 3\]"):
        Predictor(exported, face_detector="none")(image)


def test_faces_of_another_shape_are_refused(exported):
    with pytest.raises(ValueError, match=r"Faces must be uint8 \[B, H, W, 1 or 3\]. Received: uint8 \[4, 4, 3\]"):
        Predictor(exported, face_detector="none").predict_faces(np.zeros((4, 4, 3), np.uint8))


def test_an_onnx_file_says_the_same(students):
    pytest.importorskip("onnxruntime")
    litert, onnx = (Predictor(students / f"small.{suffix}")(PORTRAIT)[0] for suffix in ("tflite", "onnx"))
    assert litert.box == onnx.box
    for name in CLASSES:
        assert litert.probabilities[name] == pytest.approx(onnx.probabilities[name], abs=1e-4)


@pytest.fixture
def folder(exported, tmp_path):
    """As an export writes it: the student, and a file that names it."""
    shutil.copy(exported, tmp_path / "student.tflite")
    (tmp_path / EXPORTS).write_text('{"recommended": "student.tflite"}')
    return tmp_path


def test_opens_the_folder_of_a_card(folder):
    assert Predictor(folder).model.path == folder / "student.tflite"


def test_by_default_the_student_of_the_package_is_opened(folder, monkeypatch):
    monkeypatch.setattr(predictor_module, "DEFAULT_STUDENT", str(folder))
    assert Predictor().class_names == CLASSES


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_a_damaged_model_is_refused(students, tmp_path, suffix):
    if suffix == "onnx":
        pytest.importorskip("onnxruntime")
    content = bytearray((students / f"small.{suffix}").read_bytes())
    content[len(content) // 2] ^= 1  # in the weights, which are most of the file
    (tmp_path / f"a.{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=f"a.{suffix} is damaged: the network in it is not the one"):
        Predictor(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.keras", b"PK", "a.keras is not an exported student: .*; export it first"),
        ("a.tflite", b"\x1c\0\0\0TFL3" + bytes(100), "a.tflite is damaged, or was not exported here"),
        ("a.tflite", b"text", "a.tflite is not a LiteRT file, or was not exported here"),
        ("a.tflite", None, "a.tflite does not exist"),
        ("folder", None, "folder is not an exported student"),
    ],
)
def test_other_files_are_no_models(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        Predictor(tmp_path / name)


def test_a_folder_without_an_export_is_no_model(tmp_path):
    with pytest.raises(InputError, match="give a folder that python -m distill.export wrote"):
        Predictor(tmp_path)


def test_what_to_give_for_a_run_is_named(tmp_path):
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(InputError, match="python -m distill.export --model .* exports it"):
        Predictor(tmp_path)
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "exports.json").write_text("{}")
    with pytest.raises(InputError, match="holds no exports.json: give .*export"):
        Predictor(tmp_path)


def test_no_threads_are_refused(exported):
    with pytest.raises(InputError, match="threads must be 1 or more, received 0"):
        Predictor(exported, threads=0)


@pytest.mark.parametrize("detector", ["haar", "blazeface", "none"])
def test_neither_tensorflow_nor_keras_is_loaded(exported, detector):
    program = f"""
import sys, distill
distill.Predictor({str(exported)!r}, face_detector={detector!r})({str(PORTRAIT)!r})
print([name for name in ("tensorflow", "keras", "matplotlib", "h5py") if name in sys.modules])
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
    assert answer.stderr == ""
