import pytest

from tests.prediction.small_student import write_students


@pytest.fixture(scope="session")
def students(tmp_path_factory):
    """A folder with the same untrained student as small.tflite and small.onnx: 7 classes, 32 x 32, grey."""
    folder = tmp_path_factory.mktemp("students")
    write_students(folder)
    return folder


@pytest.fixture(scope="session")
def exported(students):
    """Path of small.tflite."""
    return students / "small.tflite"
