"""Streams over HTTP, from a server in this process: what they give, how they are reached again, and how they end."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from distill.command_line.stage import run_stage
from distill.errors import InputError
from distill.predict import PredictSettings, _file_name, predict
from distill.prediction import captures
from distill.prediction.captures import is_stream, name_of
from distill.prediction.videos import Frames, video_written
from tests.prediction.small_student import PORTRAIT, write_students

cv2 = pytest.importorskip("cv2")

WRONG_INPUT = 2


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """Nothing waits, and nothing lies between this process and its server."""
    monkeypatch.setattr(captures, "_PAUSE", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def served(answer):
    """Answer each request by a function of (handler, number of the request); yield the address, and the requests."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            requests.append(self.path)
            answer(self, len(requests) - 1)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()
            thread.join()


def send_motion_jpeg(handler, frames):
    handler.send_response(200)
    handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
    handler.end_headers()
    for frame in frames:
        jpeg = cv2.imencode(".jpg", frame)[1].tobytes()
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
        handler.wfile.write(head + jpeg + b"\r\n")


def camera_that_gives(*shades_of_each_connection):
    """A camera that breaks off after each row of shades, and is gone then; FFmpeg wants three for a start."""

    def answer(handler, number):
        if number >= len(shades_of_each_connection):
            handler.send_error(404)
            return
        shades = shades_of_each_connection[number]
        send_motion_jpeg(handler, [np.full((48, 64, 3), shade, np.uint8) for shade in shades])

    return answer


def shades_seen(frames):
    """Return the shades of the frames that are given, and the message at their end."""
    shades = []
    with pytest.raises(InputError) as error:
        shades.extend(round(float(frame.mean()) / 10) * 10 for _, frame in frames)
    return shades, str(error.value)


def test_a_stream_that_breaks_off_is_reached_again_and_ends_in_a_line():
    with served(camera_that_gives([10, 20, 30, 40], [110, 120, 130], [210, 220, 230])) as (address, requests):
        shades, message = shades_seen(Frames(f"{address}/live"))
    assert shades == [10, 20, 30, 40, 110, 120, 130, 210, 220, 230]
    assert message.startswith(f"{address}/live ended after 10 frames and ")
    assert message.endswith("it broke off, and could not be reached again for good (5 tries)")
    assert len(requests) == 1 + 2 + 3


def test_a_stream_that_always_breaks_off_is_given_up_too():
    with served(camera_that_gives(*[[50] * 3] * 100)) as (address, requests):
        shades, message = shades_seen(Frames(address))
    assert shades == [50] * 3 * 6
    assert "(5 tries)" in message
    assert len(requests) == 6


def test_tries_are_forgotten_where_the_stream_was_steady(monkeypatch):
    monkeypatch.setattr(captures, "_STEADY", -1.0)
    with served(camera_that_gives(*[[50] * 3] * 20)) as (address, _):
        shades, _ = shades_seen(Frames(address))
    assert shades == [50] * 3 * 20


def test_nothing_is_tried_that_is_not_allowed():
    with served(camera_that_gives([10, 20, 30], [40, 50, 60])) as (address, requests):
        shades, message = shades_seen(Frames(address, reconnect=0))
    assert shades == [10, 20, 30]
    assert "it gives no further frame" in message
    assert len(requests) == 1


def test_pauses_grow_only_as_far_as_the_time_that_is_given(monkeypatch):
    pauses = []
    monkeypatch.setattr(captures, "_PAUSE", 1.0)
    monkeypatch.setattr(captures.time, "sleep", pauses.append)
    with served(camera_that_gives([10, 20, 30])) as (address, _):
        shades_seen(Frames(address, reconnect=5))
    assert pauses == [1, 2, 4][: len(pauses)]
    assert len(pauses) in (2, 3)


def video_file(folder):
    with video_written(folder / "video.mp4", rate=10) as writer:
        for shade in range(0, 200, 10):
            writer.write(np.full((48, 64, 3), shade, np.uint8))
    return (folder / "video.mp4").read_bytes()


def test_a_video_that_lies_on_a_server_has_an_end(tmp_path):
    content = video_file(tmp_path)

    def answer(handler, _):
        first = int(handler.headers.get("Range", "bytes=0-")[len("bytes=") :].split("-")[0])
        handler.send_response(206)
        handler.send_header("Content-Length", str(len(content) - first))
        handler.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        handler.send_header("Accept-Ranges", "bytes")
        handler.end_headers()
        handler.wfile.write(content[first:])

    with served(answer) as (address, _):
        frames = list(Frames(f"{address}/video.mp4"))
    np.testing.assert_allclose([at for at, _ in frames], np.arange(20) / 10, atol=1e-3)


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_an_address_where_nobody_answers_is_named(capfd, scheme):
    with served(camera_that_gives()) as (address, _):
        port = address.rpartition(":")[2]
    with pytest.raises(InputError, match=rf"{scheme}://127.0.0.1:{port}/a cannot be opened: nothing answers there"):
        Frames(f"{scheme}://user:secret@127.0.0.1:{port}/a")
    assert capfd.readouterr().err == ""


def test_what_is_an_address():
    assert all(map(is_stream, ("rtsp://camera/1", "HTTP://camera", "https://a/b.mp4")))
    assert not any(map(is_stream, ("video.mp4", "ftp://a/b.mp4", "http:/a", "a http://b", 0)))


def test_passwords_are_not_shown():
    assert name_of("rtsp://user:p@ss@10.0.0.1:554/live?channel=1") == "rtsp://10.0.0.1:554/live?channel=1"
    for password in ("pa#ss", "pa[ss", "pa/ss", "pa?ss"):  # none may stand so in an address
        assert name_of(f"rtsp://user:{password}@host/live") == "rtsp://host/live"
    for address in ("https://host:8080/@somebody/live", "rtsp://[::1]:554/@1"):
        assert name_of(address) == address


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("rtsp://user:pa[ss@Host:554/a/live.sdp?x=1/2#3", "host-live"),
        ("rtsp://user:pa#ss@host", "host"),
        ("rtsp://[::1]:554/live", "::1-live"),
    ],
)
def test_a_video_of_a_stream_is_called_by_its_host_and_last_name(address, name):
    assert _file_name(address) == name


def test_a_malformed_address_is_wrong_input(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write_students(tmp_path)
    capfd.readouterr()  # what the converter has to say
    for address in ("rtsp://[::1/live", "rtsp://user:pa[ss@[::1/live"):
        with pytest.raises(SystemExit) as ended:
            run_stage(predict, PredictSettings, [address, "--model", "small.tflite", "--save", "out"], backend=None)
        assert ended.value.code == 2
        assert capfd.readouterr().err.startswith("error: rtsp://[::1/live cannot be opened: ")


def test_the_command_shows_a_stream_and_keeps_its_video(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write_students(tmp_path)
    capfd.readouterr()  # what the converter has to say
    face = np.asarray(Image.open(PORTRAIT).resize((256, 300)))[..., ::-1]

    def answer(handler, number):
        if number:
            handler.send_error(404)
        else:
            send_motion_jpeg(handler, [face] * 3)

    flags = ["--face-detector", "none", "--model", "small.tflite", "--save", "out"]
    with served(answer) as (address, _), pytest.raises(SystemExit) as ended:
        run_stage(predict, PredictSettings, [f"{address}/live", *flags], backend=None)
    output = capfd.readouterr()
    assert ended.value.code == WRONG_INPUT
    assert [line.split(" at ")[0] for line in output.out.splitlines()] == [f"{address}/live"] * 3
    assert output.err.startswith(f"error: {address}/live ended after 3 frames and ")
    assert len(output.err.splitlines()) == 1
    assert len(list(Frames(tmp_path / "out" / "127.0.0.1-live.mp4"))) == 3
