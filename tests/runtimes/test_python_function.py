"""`module:function` is imported as `python -m` would, given images, and identified by its source or fingerprint."""

import hashlib
import sys

import numpy as np
import pytest

from distill.runtimes.input_format import InputFormat
from distill.runtimes.open_model import open_model
from tests.runtimes.conftest import refusal

GIVEN = InputFormat(size=6, channels=1, range=(0, 1))
IMAGES = np.random.default_rng(1).uniform(0, 255, (4, 6, 6, 1)).astype(np.float32)
GOOD = """
import numpy as np

def score(images):
    return np.stack([images.mean((1, 2, 3)), images.max((1, 2, 3)) - 2], axis=1)
"""


@pytest.fixture
def write(in_tmp_path, request, monkeypatch):
    """A function that writes a module, by a name that no other test uses."""
    names = iter(range(100))
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])

    def written(text, folder="") -> str:
        name = f"module_{abs(hash(request.node.name))}_{next(names)}"
        (in_tmp_path / folder).mkdir(exist_ok=True)
        (in_tmp_path / folder / f"{name}.py").write_text(text)
        return f"{folder}.{name}" if folder else name

    return written


@pytest.mark.parametrize("folder", ["", "package"])
def test_a_function_in_the_folder_of_the_user_is_found(write, in_tmp_path, folder):
    name = write(GOOD, folder)
    model = open_model(f"{name}:score", input_format=GIVEN)
    expected = np.stack([IMAGES.mean((1, 2, 3)) / 255, IMAGES.max((1, 2, 3)) / 255 - 2], axis=1)
    np.testing.assert_allclose(model.predict(IMAGES), expected, rtol=1e-5)
    assert model.name == f"{name}:score"
    source = (in_tmp_path / f"{name.replace('.', '/')}.py").read_bytes()
    assert model.sha256 == hashlib.sha256(source).hexdigest()


def test_a_function_may_bring_its_own_fingerprint(write):
    model = open_model(f"{write(GOOD + 'score.fingerprint = str(7)')}:score", input_format=GIVEN)
    assert model.sha256 == "7"


def test_an_object_that_can_be_called(write):
    text = f"{GOOD}\nclass Network:\n    __call__ = staticmethod(score)\nnetwork = Network()\n"
    assert open_model(f"{write(text)}:network", input_format=GIVEN).classes == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def other(images): ...", "has no function score: its functions are other"),
        ("score = 7", "has no function score: its functions are none"),
        ("import no_such_package", "cannot be imported, ModuleNotFoundError: No module named 'no_such_package'"),
        ("def score(:", "cannot be imported, SyntaxError: "),
        ("raise RuntimeError('two\\nlines')", "cannot be imported, RuntimeError: two"),
        ("def score(images): return images[9, 9]", "failed on images [8, 6, 6, 1] with IndexError: "),
        (
            "def score(images): return images.mean((1, 2, 3))",
            "gives float32 [8] for 8 images, expected floats [8, clas",
        ),
        ("def score(images): return images", "gives float32 [8, 6, 6, 1] for 8 images"),
        ("def score(images): return None", "gives object [] for 8 images"),
    ],
)
def test_what_does_not_work_is_said_in_one_line(write, text, message):
    assert message in refusal(open_model, f"{write(text)}:score", input_format=GIVEN)


def test_a_module_that_is_not_there():
    assert "cannot be imported, ModuleNotFoundError" in refusal(open_model, "no_such:function", input_format=GIVEN)


def test_a_function_without_source_needs_a_fingerprint(monkeypatch):
    import itertools

    monkeypatch.setattr(itertools, "score", lambda images: images.reshape(len(images), -1) - 1, raising=False)
    message = refusal(open_model, "itertools:score", input_format=GIVEN)
    assert message == "itertools:score has no source file to identify it: give the function an attribute fingerprint"
