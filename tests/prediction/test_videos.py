import os
import struct

import numpy as np
import pytest

from distill.errors import BusyError, InputError
from distill.prediction.videos import VIDEO_SUFFIXES, Frames, video_written

cv2 = pytest.importorskip("cv2")


@pytest.fixture
def video(tmp_path):
    """Twenty frames at 10 a second; frame i is of the grey 10 i."""
    with video_written(tmp_path / "video.mp4", rate=10) as writer:
        for shade in range(0, 200, 10):
            writer.write(np.full((48, 64, 3), shade, np.uint8))
    return tmp_path / "video.mp4"


def test_gives_every_frame_with_its_time(video):
    frames = list(Frames(video))
    np.testing.assert_allclose([at for at, _ in frames], np.arange(20) / 10, atol=1e-3)
    np.testing.assert_allclose([frame.mean() for _, frame in frames], np.arange(0, 200, 10), atol=4)
    assert frames[0][1].shape == (48, 64, 3)
    assert frames[0][1].dtype == np.uint8


def test_leaves_out_what_lies_between(video):
    frames = Frames(video, every=0.5)
    assert frames.rate == 2
    np.testing.assert_allclose([at for at, _ in frames], [0, 0.5, 1, 1.5], atol=1e-3)


def test_keeps_to_the_seconds_where_frames_do_not_fall_on_them(video):
    np.testing.assert_allclose(
        [at for at, _ in Frames(video, every=0.25)], [0, 0.3, 0.5, 0.8, 1, 1.3, 1.5, 1.8], atol=1e-3
    )


@pytest.mark.parametrize("size", [(641, 479), (17, 333)])
def test_videos_of_odd_sizes_are_written(tmp_path, size):
    with video_written(tmp_path / "video.mp4", rate=10) as writer:
        writer.write(np.full((*size, 3), 120, np.uint8))
    ((_, frame),) = Frames(tmp_path / "video.mp4")
    assert all(abs(got - expected) <= 1 for got, expected in zip(frame.shape, size, strict=False))


def test_frames_of_another_size_take_that_of_the_first(tmp_path):
    with video_written(tmp_path / "video.mp4", rate=10) as writer:
        for shape in (48, 64, 3), (96, 128, 3), (48, 32, 3):
            writer.write(np.full(shape, 120, np.uint8))
    assert [frame.shape for _, frame in Frames(tmp_path / "video.mp4")] == [(48, 64, 3)] * 3


def test_colours_keep_their_order(tmp_path):
    with video_written(tmp_path / "video.mp4", rate=10) as writer:
        writer.write(np.broadcast_to(np.array([250, 10, 10], np.uint8), (48, 64, 3)))
    ((_, frame),) = Frames(tmp_path / "video.mp4")
    assert frame[24, 32, 0] > 200 > 50 > frame[24, 32, 2]


@pytest.mark.parametrize("content", [b"", b"no video", b"\0\0\0\x18ftypmp42" + bytes(500)])
def test_what_is_no_video_is_named(tmp_path, capfd, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InputError, match="a.mp4 cannot be opened: OpenCV knows no video in it"):
        Frames(tmp_path / "a.mp4")
    assert capfd.readouterr().err == ""


def test_a_truncated_video_gives_an_error_or_its_beginning(video, capfd):
    video.write_bytes(video.read_bytes()[:800])
    with pytest.raises(InputError, match="video.mp4 (cannot be opened|gave no frame)"):
        list(Frames(video))
    assert capfd.readouterr().err == ""


def test_a_video_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match="a.mp4 does not exist"):
        Frames(tmp_path / "a.mp4")


def test_a_camera_that_is_not_there_is_named(capfd):
    with pytest.raises(InputError, match="camera 73 cannot be opened: connect it, or give another number"):
        Frames(73)
    assert capfd.readouterr().err == ""


def test_a_video_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), video_written(tmp_path / "video.mp4", rate=10) as writer:  # noqa: PT012
        writer.write(np.zeros((48, 64, 3), np.uint8))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


WRITTEN = {
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".3gp", ".3g2"), "mp4v"),
    **dict.fromkeys((".avi", ".mkv"), "MJPG"),
    **dict.fromkeys((".wmv", ".asf"), "WMV2"),
    **dict.fromkeys((".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts"), "MPG2"),
    **{".webm": "VP80", ".flv": "FLV1"},
}
"""Suffix -> a codec that OpenCV can write."""
NOT_WRITTEN = {".ogv"}


def write_video(path, frames):
    codec = WRITTEN[path.suffix]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV cannot write {codec}")
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_video_of_every_suffix_is_read(tmp_path, suffix):
    shades = np.arange(40, 200, 4)
    path = write_video(tmp_path / f"video{suffix}", [np.full((48, 64, 3), shade, np.uint8) for shade in shades])
    times, frames = zip(*Frames(path), strict=True)
    np.testing.assert_allclose(times, np.arange(len(shades)) / 25, atol=2e-3)
    np.testing.assert_allclose([frame.mean() for frame in frames], shades, atol=6)


def test_every_suffix_is_tried():
    assert set(VIDEO_SUFFIXES) == WRITTEN.keys() | NOT_WRITTEN


def noisy_video(path, rng):
    """A hundred frames, all of whose bytes matter."""
    texture = rng.integers(0, 256, (48, 64, 3), np.uint8)
    return write_video(path, [np.roll(texture, shift, axis=1) for shift in range(100)])


def zeros(size, _):
    return bytes(size)


def noise(size, rng):
    return rng.bytes(size)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".flv", ".ts"])
@pytest.mark.parametrize("damage", [zeros, noise])
def test_a_video_that_is_damaged_in_the_middle_says_so_in_the_end(tmp_path, rng, capfd, suffix, damage):
    path = noisy_video(tmp_path / f"video{suffix}", rng)
    assert len(list(Frames(path))) == 100
    content = bytearray(path.read_bytes())
    middle = slice(int(0.4 * len(content)), int(0.6 * len(content)))
    content[middle] = damage(middle.stop - middle.start, rng)
    path.write_bytes(content)
    capfd.readouterr()
    seen = []
    with pytest.raises(InputError, match=r"is damaged, or breaks off: \d\d of \d+ frames could be read") as error:
        seen.extend(at for at, _ in Frames(path))
    assert f"breaks off: {len(seen)} of" in str(error.value)
    assert 60 <= len(seen) < 100
    assert capfd.readouterr().err == ""


def test_a_video_that_is_cut_off_says_so(tmp_path, rng):
    path = noisy_video(tmp_path / "video.avi", rng)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged, or breaks off: (49|50) of 100 frames"):
        list(Frames(path))


def test_a_video_that_is_trimmed_by_an_edit_list_is_not_damaged(tmp_path, rng):
    """As telephones trim: all frames are in the file, and a list says which to show."""
    path = noisy_video(tmp_path / "video.mp4", rng)
    content = bytearray(path.read_bytes())
    _, media_duration = struct.unpack_from(">II", content, content.find(b"mdhd") + 16)
    edits = content.find(b"elst") + 12
    duration, start = struct.unpack_from(">Ii", content, edits)
    assert start == 0
    struct.pack_into(">Ii", content, edits, duration * 60 // 100, media_duration * 30 // 100)
    path.write_bytes(content)
    assert len(list(Frames(path))) == 60


def test_a_video_that_cannot_be_read_now_is_not_called_no_video(put_unreadable):
    with pytest.raises(BusyError, match=r"video.mp4 cannot be read now .*try again"):
        Frames(put_unreadable("video.mp4"))


def test_a_name_that_is_no_utf8_is_refused(tmp_path):
    name = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    try:
        name.write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(InputError, match="has a name that is not UTF-8, which OpenCV cannot open: rename it"):
        Frames(name)


def test_a_video_that_a_full_disk_cuts_off_leaves_nothing(tmp_path, rng):
    resource = pytest.importorskip("resource")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def write():
        with video_written(tmp_path / "a.mp4", rate=10) as writer:
            for _ in range(30):
                writer.write(rng.integers(0, 256, (96, 128, 3), np.uint8))

    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match="not all 30 frames could be written, is the disk full") as raised:
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert raised.value.filename == str(tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())
