"""Fixtures for all tests: tiny files of every layout, real data where it lies next to the project, and a browser."""

import ctypes
import gc
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from distill.keras_import import set_tensorflow_defaults

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
set_tensorflow_defaults()  # as the commands have it, so that what they and the tests compute is the same bit for bit
SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--hostile-inputs", type=int, default=30, help="how many of each kind of file are tried")


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Every test begins with the same random numbers: what holds once holds again, in any order of tests."""
    random.seed(0)
    np.random.seed(0)
    for name in ("keras", "tf_keras"):  # where a test has imported it
        if (library := sys.modules.get(name)) is not None:
            library.utils.set_random_seed(0)


@pytest.fixture(scope="module", autouse=True)
def memory_given_back() -> Iterator[None]:
    """After a file of tests, collect its networks and give their memory back: glibc would keep it for the process."""
    yield
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").malloc_trim(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data next to the project."""
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
def put_unreadable(tmp_path):
    """Return a function that makes a file below `tmp_path` which can be opened, but not read, and gives its path."""
    failing = Path("/proc/self/mem")  # the system fails to read its beginning, as that of a broken disk
    if not failing.exists():
        pytest.skip("only Linux has a file that cannot be read")

    def put(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(failing)
        return path

    return put


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@dataclass(frozen=True)
class BrowserPage:
    """An empty page of Chromium, and what went wrong on it."""

    page: "Page"
    problems: list[str] = field(default_factory=list)
    """Errors on the console, exceptions, and requests that failed."""
    requested: list[str] = field(default_factory=list)
    """The URLs of all requests."""

    def watch(self) -> None:
        """Note what happens from now on."""
        self.page.on("console", lambda each: each.type == "error" and self.problems.append(each.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("requestfailed", lambda request: self.problems.append(f"failed: {request.url}"))
        self.page.on("request", lambda request: self.requested.append(request.url))


@pytest.fixture
def browser_page() -> Iterator[BrowserPage]:
    """A page in the system's Chromium, driven by Playwright.

    Each test starts its own: Playwright's event loop would be in the way of other tests.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_FLAGS))
        opened = BrowserPage(browser.new_page())
        opened.watch()
        yield opened
        browser.close()
