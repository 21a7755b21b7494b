import numpy as np
import pytest
from PIL import Image

from distill.errors import InputError
from distill.prediction import fonts
from distill.prediction.drawing import annotated, cannot_be_written, save_picture
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


@pytest.mark.parametrize("name", ["радость", "χαρά", "glücklich"])
def test_names_are_written_in_their_own_letters(rng, name):
    assert cannot_be_written([name]) == []
    photo = rng.integers(0, 256, (400, 500, 3), np.uint8)
    pictures = [
        annotated(photo, [Face((100, 100, 300, 320), None, {each: 1.0})]) for each in (name, "\ufffe" * len(name))
    ]
    assert (pictures[0] != pictures[1]).any()


def test_a_name_that_no_font_has_the_letters_of_is_drawn_as_its_number(rng, monkeypatch):
    monkeypatch.setattr(fonts, "_fonts", lambda: (None,))
    name = "\u0f00\u0f01"  # Tibetan
    assert cannot_be_written(["happy", name]) == [name]
    photo = rng.integers(0, 256, (400, 500, 3), np.uint8)
    box = (100, 100, 300, 320)
    drawn = [annotated(photo, [Face(box, None, {"a": 0.0, each: 1.0})]) for each in (name, "class 1")]
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize(("name", "width"), [("a.webp", 16_384), ("a.jpg", 65_501)])
def test_a_picture_larger_than_its_format_allows_is_refused_by_name(tmp_path, name, width):
    with pytest.raises(InputError, match=f"{name} cannot be written, {width} x 2 pixels as .*: scale the photo down"):
        save_picture(np.zeros((2, width, 3), np.uint8), tmp_path / name)
    assert not list(tmp_path.iterdir())
    save_picture(np.zeros((2, width, 3), np.uint8), tmp_path / "a.png")
