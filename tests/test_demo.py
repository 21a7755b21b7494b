"""`python -m distill.demo`: the page in a browser, what it shows for photos, and what is refused."""

import http.client
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from urllib.parse import urlsplit

import keras
import numpy as np
import pytest
from PIL import Image

import distill.demo as demo_module
from distill.command_line.stage import run_stage
from distill.demo import DemoSettings, demo, page_served, shown
from distill.errors import InputError
from distill.evaluation import side_by_side
from distill.evaluation.side_by_side import SideBySide
from distill.exporting import litert_metadata
from distill.exporting.graph import probabilities_network
from distill.exporting.litert import litert_flatbuffer
from distill.prediction.description import ModelDescription
from distill.prediction.predictor import Predictor
from distill.runs import trained_networks
from students import MicroExpNet
from tests.prediction.small_student import CLASSES, DESCRIPTION, PORTRAIT, write_students
from tests.training.small_runs import RECORD

WRONG_INPUT = 2
OTHER_ORDER = tuple(reversed(CLASSES))


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    """A folder with small.tflite and small.onnx, the same network with its classes in another order, and others."""
    folder = tmp_path_factory.mktemp("students")
    write_students(folder)
    for name, classes in (("reordered", OTHER_ORDER), ("others", (*CLASSES[:-1], "contempt"))):
        write_student(folder / f"{name}.tflite", classes)
    keras.utils.set_random_seed(2)
    MicroExpNet(classes=7, input_shape=(24, 24)).save(folder / "seven.keras")
    MicroExpNet(classes=5, input_shape=(24, 24)).save(folder / "five.keras")
    return folder


def write_student(path, class_names) -> None:
    keras.utils.set_random_seed(1)
    network = probabilities_network(MicroExpNet(classes=7, input_shape=(32, 32)))
    description = ModelDescription(**{**vars(DESCRIPTION), "class_names": class_names})
    path.write_bytes(litert_metadata.described_file(litert_flatbuffer(network, "float32"), description))


@pytest.fixture
def grey(tmp_path):
    """Path of a photo without a face."""
    Image.new("RGB", (200, 100), (90, 90, 90)).save(tmp_path / "grey.png")
    return tmp_path / "grey.png"


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def gradio():
    return pytest.importorskip("gradio", reason="gradio is not installed")


@pytest.fixture
def run(students, capfd):
    """Return a function that runs the command: its exit code, and the lines of its errors."""

    def run(*args) -> tuple[int, list[str]]:
        args = ["--model", students / "small.tflite", "--face-detector", "none", "--no-browser", *args]
        with pytest.raises(SystemExit) as ended:
            run_stage(demo, DemoSettings, list(map(str, args)), backend=None)
        return ended.value.code, capfd.readouterr().err.splitlines()

    return run


class TestThePage:
    @pytest.fixture
    def address(self, gradio, students, free_port):
        networks = SideBySide(students / "small.tflite", teacher=students / "reordered.tflite", face_detector="none")
        with page_served(gradio, networks, port=free_port) as address:
            yield address

    def test_shows_what_both_say_about_a_photo(self, browser_page, address, tmp_path):
        page = browser_page.page
        page.set_viewport_size({"width": 1100, "height": 800})
        page.goto(address)
        page.locator("input[type=file]").first.set_input_files(PORTRAIT)
        page.wait_for_selector(".faces table", timeout=15_000)
        assert page.locator(".faces th").all_inner_texts() == ["class", "student", "teacher"]
        rows = [row.inner_text().split("\t") for row in page.locator(".faces tbody tr").all()]
        assert [row[0].strip() for row in rows] == list(CLASSES)
        for column in (1, 2):
            assert sum(float(row[column].split()[0]) for row in rows) == pytest.approx(100, abs=1)
        times = page.locator(".faces .times").inner_text()
        assert re.fullmatch(r"finding faces [\d.]+ ms · student [\d.]+ ms · teacher [\d.]+ ms", times)
        page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        page.screenshot(path=tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 10_000
        hosts = {urlsplit(url).hostname for url in browser_page.requested if url.startswith(("http", "ws"))}
        assert hosts == {"127.0.0.1"}
        ended_by_gradio = f"failed: {address}/gradio_api/queue/data"  # its stream of events, when there are no more
        assert [each for each in browser_page.problems if not each.startswith(ended_by_gradio)] == []

    def test_says_what_is_wrong_with_a_file(self, browser_page, address, tmp_path):
        (tmp_path / "photo.png").write_bytes(b"no image")
        page = browser_page.page
        page.goto(address)
        page.locator("input[type=file]").first.set_input_files(tmp_path / "photo.png")
        page.wait_for_selector("text=This photo cannot be used", timeout=15_000)
        assert page.locator(".faces table").count() == 0

    def test_answers_only_to_names_of_this_machine(self, address):
        port = urlsplit(address).port
        names = {"evil.example": 403, "127.0.0.1.evil.example": 403, "[": 403, "localhost": 200, "[::1]": 200}
        for host, expected in names.items():
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/", headers={"Host": f"{host}:{port}"})
            assert connection.getresponse().status == expected
            connection.close()

    def test_takes_no_photo_from_the_page_of_another_web_site(self, address):
        port = urlsplit(address).port
        photo = b"--x\r\n" + b'Content-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n1\r\n--x--\r\n'
        senders = {"https://evil.example": 403, "null": 403, "http://[": 403, address: 200, "http://localhost:9": 200}
        for origin, expected in senders.items():
            connection = http.client.HTTPConnection("127.0.0.1", port)
            headers = {"Content-Type": "multipart/form-data; boundary=x", "Origin": origin}
            connection.request("POST", "/gradio_api/upload", body=photo, headers=headers)
            assert connection.getresponse().status == expected
            connection.close()

    def test_takes_no_photo_that_is_too_large(self, address):
        port = urlsplit(address).port
        body = b"--x\r\n" + b'Content-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        body += bytes(26_000_000) + b"\r\n--x--\r\n"
        connection = http.client.HTTPConnection("127.0.0.1", port)
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        connection.request("POST", "/gradio_api/upload", body=body, headers=headers)
        assert connection.getresponse().status == 413
        connection.close()


class TestLook:
    def test_predicts_what_the_predictor_predicts(self, students):
        pytest.importorskip("cv2", reason="OpenCV is not installed")
        look = SideBySide(students / "small.tflite").look(PORTRAIT)
        (face,) = Predictor(students / "small.tflite")(PORTRAIT)
        (row,) = look.rows
        assert row.student == face.probabilities
        assert row.teacher is None
        left, top, right, bottom = face.box
        assert row.crop.shape == (bottom - top, right - left, 3)
        assert list(look.milliseconds) == ["finding faces", "student"]

    def test_a_teacher_of_another_order_is_read_by_name(self, students):
        photo = np.asarray(Image.open(PORTRAIT).convert("RGB"))
        alone, compared = (
            SideBySide(model, teacher=teacher, face_detector="none").look(photo).rows[0]
            for model, teacher in (
                (students / "reordered.tflite", None),
                (students / "small.tflite", students / "reordered.tflite"),
            )
        )
        assert list(compared.teacher) == list(CLASSES)
        assert compared.teacher == alone.student

    def test_an_exported_onnx_file_is_a_teacher(self, students):
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
        networks = SideBySide(students / "small.tflite", teacher=students / "small.onnx", face_detector="none")
        (row,) = networks.look(PORTRAIT).rows
        assert row.teacher == pytest.approx(row.student, abs=1e-4)

    def test_a_keras_file_is_shown_faces_at_its_own_size(self, students):
        networks = SideBySide(students / "small.tflite", teacher=students / "seven.keras", face_detector="none")
        assert networks.teacher.input_shape == (24, 24, 1)
        look = networks.look(PORTRAIT)
        assert sum(look.rows[0].teacher.values()) == pytest.approx(1, abs=1e-5)
        assert list(look.milliseconds) == ["finding faces", "student", "teacher"]

    def test_a_run_is_a_teacher_if_it_learned_the_same_classes(self, students, tmp_path):
        shutil.copy(students / "seven.keras", tmp_path / "best.keras")
        data = replace(RECORD.data, class_names=tuple(CLASSES))
        replace(RECORD, data=data).write(tmp_path)
        by_run, by_file = (
            SideBySide(students / "small.tflite", teacher=teacher, face_detector="none").look(PORTRAIT).rows[0]
            for teacher in (tmp_path, students / "seven.keras")
        )
        assert by_run.teacher == pytest.approx(by_file.teacher, abs=1e-5)
        replace(RECORD, data=replace(data, class_names=tuple(OTHER_ORDER))).write(tmp_path)
        for teacher in (tmp_path, tmp_path / "best.keras"):
            with pytest.raises(InputError, match="was trained on the classes neutral"):
                SideBySide(students / "small.tflite", teacher=teacher, face_detector="none")

    def test_a_photo_without_a_face_gives_a_message(self, students, grey):
        pytest.importorskip("cv2", reason="OpenCV is not installed")
        picture, said = shown(SideBySide(students / "small.tflite"), str(grey))
        assert picture.shape == (100, 200, 3)
        assert "No face was found in this photo; --face-detector" in said
        assert "<table" not in said

    def test_no_photo_and_no_image_give_a_message(self, students, tmp_path):
        networks = SideBySide(students / "small.tflite", face_detector="none")
        assert shown(networks, None) == (None, shown(networks, None)[1])
        (tmp_path / "<b>.png").write_text("no image")
        picture, said = shown(networks, str(tmp_path / "<b>.png"))
        assert picture is None
        assert "This photo cannot be used" in said
        assert "<b>" not in said

    def test_softmax_does_not_overflow(self):
        rows = side_by_side._softmax(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32))
        np.testing.assert_array_equal(rows, [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("others.tflite", "give one that knows all of these classes"),
        ("five.keras", "five gives 5 logits, the classes are 7"),
        ("none.tflite", "does not exist"),
        ("none.keras", "does not exist"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(teacher, message, students):
    with pytest.raises(InputError, match=message):
        SideBySide(students / "small.tflite", teacher=students / teacher, face_detector="none")


def test_a_missing_gradio_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert run() == (WRONG_INPUT, ['error: the page needs Gradio: pip install "distill-faces[demo]"'])


def test_a_busy_port_gives_one_line(gradio, run):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        code, (line,) = run("--port", port)
    assert code == WRONG_INPUT
    assert line.startswith(f"error: port {port} cannot be used (")
    assert line.endswith("): give another one with --port")


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_does_not_exist_is_refused(gradio, run, port):
    assert run("--port", port) == (WRONG_INPUT, [f"error: --port must be 1 to 65535, received {port}"])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no interrupts to one process")
def test_ctrl_c_ends_it(gradio, students, free_port):
    flags = (
        "--model",
        students / "small.tflite",
        "--face-detector",
        "none",
        "--port",
        str(free_port),
        "--no-browser",
    )
    with subprocess.Popen(
        [sys.executable, "-m", "distill.demo", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores interrupts, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            assert process.stdout.readline() == f"http://127.0.0.1:{free_port} shows the page until Ctrl-C\n"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")


def test_the_trained_network_stands_next_to_the_student_of_the_package(monkeypatch, tmp_path):
    monkeypatch.setattr(demo_module, "trained_networks", lambda: {"shipped": tmp_path})
    monkeypatch.setattr(trained_networks, "trained_networks", lambda: {"shipped": tmp_path})
    shown = {
        None: str(tmp_path),
        "none": None,
        "shipped": str(tmp_path),
        "other.keras": "other.keras",
    }
    for teacher, expected in shown.items():
        assert demo_module._teacher(DemoSettings(teacher=teacher)) == expected
    assert demo_module._teacher(DemoSettings(model="mine.tflite")) is None  # it may have other classes
    monkeypatch.setattr(demo_module, "find_spec", lambda package: None)
    assert demo_module._teacher(DemoSettings()) is None
