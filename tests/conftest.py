"""Fixtures for all tests: tiny files of every layout, and the real data where it lies beside the project."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the project."""
    if not (SHARED / "tools" / "prepare_data.py").is_file():
        pytest.skip(f"real data is not there: {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def fer_layouts(shared, tmp_path_factory) -> Path:
    """A folder with five real faces per class and split, in every layout."""
    folder = tmp_path_factory.mktemp("layouts")
    tool = shared / "tools" / "prepare_data.py"
    subprocess.run([sys.executable, tool, folder, "--per-class", "5"], check=True, capture_output=True)
    return folder


@pytest.fixture
def write_csv(tmp_path):
    """Return a function that writes lines as a file of `tmp_path`, and gives its path."""

    def write(*lines: str, name: str = "fer2013.csv") -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return write


@pytest.fixture
def write_image(tmp_path):
    """Return a function that writes an image below `tmp_path`, and gives its path."""

    def write(name: str, pixels=7, *, size=(4, 4), mode="L") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else Image.new(mode, size, pixels)
        image.save(path)
        return path

    return write


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
