import numpy as np
import pytest
from PIL import Image

from distill.prediction.drawing import annotated, save_picture
from distill.prediction.predictor import Face


def face(*box):
    return Face(box, None, {"happy": 0.75, "sad": 0.25})


def changed(photo, faces):
    return (annotated(photo, faces) != photo).any(axis=2)


def test_the_face_itself_is_left_as_it_is(rng):
    photo = rng.integers(0, 256, (400, 500, 3), np.uint8)
    before = photo.copy()
    differs = changed(photo, [face(100, 100, 300, 320)])
    assert not differs[100:320, 100:300].any()
    assert differs[330:].sum() == differs[:, 310:].sum() == differs[:, :90].sum() == 0
    assert differs[98:322, 99].all()
    assert differs[60:96, 100:150].mean() > 0.5  # the label
    np.testing.assert_array_equal(photo, before)


def test_a_label_moves_where_there_is_room(rng):
    photo = rng.integers(0, 256, (400, 500, 3), np.uint8)
    assert changed(photo, [face(100, 0, 300, 300)])[310:330, 100:150].mean() > 0.5  # below
    assert changed(photo, [face(100, 0, 300, 400)])[2:20, 100:150].mean() > 0.5  # within
    assert changed(photo, [face(440, 200, 500, 260)])[185:195, 440:].any()


def test_a_small_photo_is_enlarged_for_its_label():
    assert annotated(np.zeros((48, 48, 3), np.uint8), [face(0, 0, 48, 48)]).shape == (336, 336, 3)


def test_without_faces_nothing_is_drawn(rng):
    assert not changed(rng.integers(0, 256, (400, 500, 3), np.uint8), []).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 2), (3000, 2000)])
def test_any_shape_can_be_drawn_on(shape):
    annotated(np.zeros((*shape, 3), np.uint8), [face(0, 0, shape[1], shape[0])])


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "webp", "bmp"])
def test_pictures_are_saved_whole(tmp_path, suffix):
    save_picture(np.full((20, 30, 3), 99, np.uint8), tmp_path / f"a.{suffix}")
    assert Image.open(tmp_path / f"a.{suffix}").size == (30, 20)
    assert [path.name for path in tmp_path.iterdir()] == [f"a.{suffix}"]
