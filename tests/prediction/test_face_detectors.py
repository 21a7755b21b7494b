import sys
import types
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from distill.errors import InputError
from distill.prediction.blazeface import merged
from distill.prediction.face_detectors import DETECTORS, detector_row
from distill.prediction.photos import open_photo
from tests.prediction.small_student import PORTRAIT, PORTRAIT_FACE

NEEDS = {"haar": "cv2", "blazeface": "ai_edge_litert", "none": "numpy"}
FINDING = ["haar", "blazeface"]


def opened(name):
    if find_spec(NEEDS[name]) is None:
        pytest.skip(f"{name} needs {NEEDS[name]}, which is not installed")
    return DETECTORS[name].make()


def overlap(box, other):
    """Intersection over union."""
    width, height = (min(box[2 + i], other[2 + i]) - max(box[i], other[i]) for i in (0, 1))
    shared = max(width, 0) * max(height, 0)
    return shared / (area(box) + area(other) - shared)


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


@pytest.fixture(scope="module")
def portrait():
    return open_photo(PORTRAIT)


@pytest.mark.parametrize("name", FINDING)
def test_finds_the_one_face_in_a_portrait(name, portrait):
    boxes, scores = opened(name)(portrait)
    assert boxes.shape == (1, 4)
    assert overlap(boxes[0], PORTRAIT_FACE) > 0.6
    assert scores is None or 0.6 < scores[0] <= 1


@pytest.mark.parametrize("name", FINDING)
@pytest.mark.parametrize("scale", [0.25, 5])
def test_finds_it_in_small_and_large_photos(name, scale, portrait):
    height, width = (round(side * scale) for side in portrait.shape[:2])
    boxes, _ = opened(name)(np.asarray(Image.fromarray(portrait).resize((width, height))))
    assert len(boxes) == 1
    assert overlap(boxes[0] / scale, PORTRAIT_FACE) > 0.6


@pytest.mark.parametrize("name", FINDING)
def test_finds_several_faces_of_several_sizes(name, portrait):
    ground = np.full((700, 1200, 3), 120, np.uint8)
    ground[:600, :512] = portrait
    for left, width in ((600, 256), (900, 180)):
        height = width * 600 // 512
        face = Image.fromarray(portrait[:, ::-1]).resize((width, height))
        ground[100 : 100 + height, left : left + width] = np.asarray(face)
    boxes, _ = opened(name)(ground)
    assert len(boxes) == 3


@pytest.mark.parametrize("name", FINDING)
def test_finds_no_face_where_there_is_none(name, rng):
    find = opened(name)
    for photo in (np.full((300, 400, 3), 90, np.uint8), rng.integers(0, 256, (300, 400, 3), np.uint8)):
        boxes, _ = find(photo)
        assert boxes.shape == (0, 4)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2000), (2000, 3), (20, 20)])
def test_takes_photos_of_any_shape(name, shape):
    boxes, _ = opened(name)(np.zeros((*shape, 3), np.uint8))
    assert boxes.tolist() == ([[0, 0, shape[1], shape[0]]] if name == "none" else [])


def test_a_tilted_face_is_found_by_blazeface(portrait):
    tilted = np.asarray(Image.fromarray(portrait).rotate(20, expand=True))
    assert len(opened("blazeface")(tilted)[0]) == 1


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    message = r'OpenCV: pip install "distill-faces\[faces\]"; --face-detector blazeface needs nothing'
    with pytest.raises(InputError, match=message):
        DETECTORS["haar"].make()


def test_opencv_without_cascades_is_named(monkeypatch):
    logging = types.SimpleNamespace(setLogLevel=lambda level: None, LOG_LEVEL_SILENT=0)
    later = types.SimpleNamespace(__version__="5.0.0", utils=types.SimpleNamespace(logging=logging))
    monkeypatch.setitem(sys.modules, "cv2", later)
    with pytest.raises(InputError, match=r"OpenCV 4, this is OpenCV 5.0.0: pip install .*<5"):
        DETECTORS["haar"].make()


def test_an_unknown_detector_is_named():
    with pytest.raises(InputError, match='unknown face detector "mtcnn": choose one of haar, blazeface, none'):
        detector_row("mtcnn")


def test_boxes_of_one_face_become_one():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 12], [2, 2, 5, 5], [50, 50, 60, 60]], float)
    faces, scores = merged(boxes, np.array([0.9, 0.9, 0.7, 0.8]))
    np.testing.assert_allclose(faces, [[0, 0, 10, 11], [50, 50, 60, 60]])
    assert scores.tolist() == [0.9, 0.8]
