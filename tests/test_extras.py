"""What is missing is named as an extra of the distribution that is installed."""

import re
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from distill import extras

tomllib = pytest.importorskip("tomllib", reason="it came with Python 3.11")
ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("here", ["distill-faces", "distill-faces-device"])
def test_the_command_names_the_distribution_that_is_here(monkeypatch, here):
    def distribution(name):
        if name != here:
            raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "distribution", distribution)
    assert extras.install_command("onnx") == f'pip install "{here}[onnx]"'


def asked_for(*folders: str) -> set[str]:
    """The extras that modules in some folders name."""
    sources = [path.read_text() for folder in folders for path in (ROOT / "distill").glob(folder)]
    return {extra for source in sources for extra in re.findall(r"install_command\([\"'](\w+)", source)}


def test_every_extra_that_is_named_exists_on_a_device_too_where_its_code_runs():
    whole, device = (tomllib.loads((ROOT / path).read_text()) for path in ("pyproject.toml", "device/pyproject.toml"))
    assert asked_for("**/*.py") <= whole["project"]["optional-dependencies"].keys()
    assert asked_for("prediction/*.py", "demo.py") == device["project"]["optional-dependencies"].keys()
