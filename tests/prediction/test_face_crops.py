import numpy as np
import pytest

from distill.data.rendering import render_numpy
from distill.data.views import IDENTITY
from distill.prediction.face_crops import face_pixels, square_region


def whole(photo):
    return 0, 0, photo.shape[1], photo.shape[0]


@pytest.mark.parametrize("source", [(48, 48), (40, 48)])
@pytest.mark.parametrize("target", [(48, 48), (84, 84)])
@pytest.mark.parametrize(("colours", "channels"), [(1, 1), (3, 1), (3, 3), (1, 3)])
def test_a_whole_photo_gives_the_pixels_that_students_learn_from(rng, source, target, colours, channels):
    photo = rng.integers(0, 256, (*source, colours), np.uint8)
    learned = render_numpy(photo[None], IDENTITY[None], image_shape=(*target, channels))[0]
    seen = face_pixels(np.broadcast_to(photo, (*source, 3)), whole(photo), (*target, channels))
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, learned, atol=0.05)


def test_averages_where_it_becomes_smaller():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(face_pixels(stripes, whole(stripes), (16, 16, 1))[:, 2:-2]) < 5


def test_grey_follows_the_eyes(rng):
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    np.testing.assert_allclose(face_pixels(red, whole(red), (4, 4, 1)), 0.299 * 200, atol=1e-3)


def test_cuts_out_the_region_alone(rng):
    photo = rng.integers(0, 256, (60, 80, 3), np.uint8)
    seen = face_pixels(photo, (10, 20, 26, 36), (16, 16, 3))
    np.testing.assert_allclose(seen, photo[20:36, 10:26])


@pytest.mark.parametrize("region", [(-8, -8, 8, 8), (72, 52, 88, 68), (-8, 20, 8, 36)])
def test_beyond_the_photo_its_edge_goes_on(rng, region):
    photo = rng.integers(0, 256, (60, 80, 3), np.uint8)
    padded = np.pad(photo, ((8, 8), (8, 8), (0, 0)), mode="edge")
    left, top, right, bottom = (edge + 8 for edge in region)
    np.testing.assert_allclose(face_pixels(photo, region, (16, 16, 3)), padded[top:bottom, left:right])


def test_a_region_between_pixels_is_moved_by_that_much():
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None], (50, 100, 3))
    seen = face_pixels(ramp, (10.25, 10, 26.25, 26), (16, 16, 1))
    np.testing.assert_allclose(seen[0, :, 0], np.arange(10.25, 26), atol=0.01)


def test_squares_keep_the_centre_or_lift_it():
    assert square_region((10, 10, 30, 20), margin=1.5) == (5, 0, 35, 30)
    assert square_region((10, 10, 30, 30), margin=1, lift=0.1) == (10, 8, 30, 28)
