"""`distill-faces-device`: what `predict` and `Predictor` need is listed, and the rest ends in a line that says so."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib")  # of Python 3.11 and later

ROOT = Path(__file__).parents[1]
DEVICE = tomllib.loads((ROOT / "device" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FRAMEWORK = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMPORTED_AS = {"pillow": "PIL", "ai-edge-litert": "ai_edge_litert", "opencv-python-headless": "cv2"}
ONLY_FOR_ONNX = {"onnxruntime"}
TRAINING_STACK = ("tensorflow", "keras", "h5py", "scipy", "matplotlib", "tensorboard", "jinja2", "onnxruntime", "cv2")


def distribution(requirement: str) -> str:
    return re.split(r"[<>=;\[~ ]", requirement)[0]


def listed() -> set[str]:
    """Names that the distribution's dependencies and extras are imported as."""
    extras = [each for extra in DEVICE["optional-dependencies"].values() for each in extra]
    names = {distribution(requirement) for requirement in [*DEVICE["dependencies"], *extras]}
    return {IMPORTED_AS.get(name, name) for name in names}


def imports(file: Path) -> set[str]:
    """Full names that a module imports, within functions, too; not those for type checkers alone."""
    tree, names = ast.parse(file.read_text(encoding="utf-8")), set()
    unseen = {
        each
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for each in ast.walk(node)
    }
    for node in set(ast.walk(tree)) - unseen:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages_of_prediction() -> set[str]:
    """External packages that distill.prediction and whatever it imports need."""
    waiting, seen, packages = sorted((ROOT / "distill" / "prediction").glob("*.py")), set(), set()
    waiting.append(ROOT / "distill" / "predict.py")
    while waiting:
        file = waiting.pop()
        seen.add(file)
        for name in imports(file):
            top = name.partition(".")[0]
            if top != "distill":
                packages |= {top} - sys.stdlib_module_names
            elif "command_line" not in name:  # of records and presets, too, which predict has none of
                path = ROOT.joinpath(*name.split("."))
                found = {path.with_suffix(".py"), path.parent.with_suffix(".py"), path / "__init__.py"}
                waiting += [each for each in found if each.is_file() and each not in seen]
    return packages


def test_the_distribution_lists_what_prediction_imports():
    assert packages_of_prediction() - ONLY_FOR_ONNX <= listed()


def test_the_distribution_lists_nothing_that_the_framework_does_not():
    framework = {distribution(each) for each in FRAMEWORK["dependencies"]}
    assert {distribution(each) for each in DEVICE["dependencies"]} <= framework


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a command where the training stack is not installed."""

    def run(module: str, *args: object) -> subprocess.CompletedProcess:
        code = (
            "import runpy, sys\n"
            f"sys.modules.update(dict.fromkeys({TRAINING_STACK!r}))\n"
            f"sys.argv = {[module, *map(str, args)]!r}\n"
            f"runpy.run_module({module!r}, run_name='__main__')"
        )
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
        )

    return run


def test_a_face_is_found_and_recognised_on_a_device(run):
    done = run("distill.predict", ROOT / "docs" / "portrait.jpg")
    assert (done.returncode, done.stderr) == (0, "")
    assert ": neutral 0." in done.stdout


def test_a_command_that_a_device_lacks_the_packages_of_says_so(run):
    done = run("distill.train_student", "--data", "synthetic", "--out", "student")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: this needs keras, which is not installed: it comes with pip install distill-faces\n"


def test_a_name_of_the_library_that_a_device_lacks_the_packages_of_says_so(monkeypatch):
    import distill

    monkeypatch.setitem(sys.modules, "keras", None)
    monkeypatch.delitem(sys.modules, "distill.training.train", raising=False)
    monkeypatch.delitem(vars(distill), "train", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"distill\.train needs keras, which is not installed"):
        _ = distill.train
