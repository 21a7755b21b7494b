import numpy as np
import pytest

from distill.errors import InputError
from distill.prediction.films import FILM_SUFFIXES, Frames, film_written

cv2 = pytest.importorskip("cv2")


@pytest.fixture
def film(tmp_path):
    """Twenty frames at 10 a second; frame i is of the grey 10 i."""
    with film_written(tmp_path / "film.mp4", rate=10) as writer:
        for shade in range(0, 200, 10):
            writer.write(np.full((48, 64, 3), shade, np.uint8))
    return tmp_path / "film.mp4"


def test_gives_every_frame_with_its_time(film):
    frames = list(Frames(film))
    np.testing.assert_allclose([at for at, _ in frames], np.arange(20) / 10, atol=1e-3)
    np.testing.assert_allclose([frame.mean() for _, frame in frames], np.arange(0, 200, 10), atol=4)
    assert frames[0][1].shape == (48, 64, 3)
    assert frames[0][1].dtype == np.uint8


def test_leaves_out_what_lies_between(film):
    frames = Frames(film, every=0.5)
    assert frames.rate == 2
    np.testing.assert_allclose([at for at, _ in frames], [0, 0.5, 1, 1.5], atol=1e-3)


def test_keeps_to_the_seconds_where_frames_do_not_fall_on_them(film):
    np.testing.assert_allclose(
        [at for at, _ in Frames(film, every=0.25)], [0, 0.3, 0.5, 0.8, 1, 1.3, 1.5, 1.8], atol=1e-3
    )


@pytest.mark.parametrize("size", [(641, 479), (17, 333)])
def test_films_of_odd_sizes_are_written(tmp_path, size):
    with film_written(tmp_path / "film.mp4", rate=10) as writer:
        writer.write(np.full((*size, 3), 120, np.uint8))
    ((_, frame),) = Frames(tmp_path / "film.mp4")
    assert all(abs(got - asked) <= 1 for got, asked in zip(frame.shape, size, strict=False))


def test_colours_keep_their_order(tmp_path):
    with film_written(tmp_path / "film.mp4", rate=10) as writer:
        writer.write(np.broadcast_to(np.array([250, 10, 10], np.uint8), (48, 64, 3)))
    ((_, frame),) = Frames(tmp_path / "film.mp4")
    assert frame[24, 32, 0] > 200 > 50 > frame[24, 32, 2]


@pytest.mark.parametrize("content", [b"", b"no film", b"\0\0\0\x18ftypmp42" + bytes(500)])
def test_what_is_no_film_is_named(tmp_path, capfd, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InputError, match="a.mp4 cannot be opened: OpenCV knows no film in it"):
        Frames(tmp_path / "a.mp4")
    assert capfd.readouterr().err == ""


def test_a_truncated_film_gives_an_error_or_its_beginning(film, capfd):
    film.write_bytes(film.read_bytes()[:800])
    with pytest.raises(InputError, match="film.mp4 (cannot be opened|gave no frame)"):
        list(Frames(film))
    assert capfd.readouterr().err == ""


def test_a_film_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match="a.mp4 does not exist"):
        Frames(tmp_path / "a.mp4")


def test_a_camera_that_is_not_there_is_named(capfd):
    with pytest.raises(InputError, match="camera 73 cannot be opened: connect it, or give another number"):
        Frames(73)
    assert capfd.readouterr().err == ""


def test_a_film_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), film_written(tmp_path / "film.mp4", rate=10) as writer:  # noqa: PT012
        writer.write(np.zeros((48, 64, 3), np.uint8))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_films_are_known_by_their_suffix():
    assert FILM_SUFFIXES == (".mp4", ".avi", ".mov", ".mkv", ".webm")
