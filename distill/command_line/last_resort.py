"""An error that nobody foresaw: the user is told in a line, and what a maintainer needs is kept in a file."""

import platform
import sys
import tempfile
import traceback
from importlib.metadata import PackageNotFoundError, version

INTERNAL_ERROR = "an internal error of distill-faces, please report it"
_FILES = "distill-faces-fault-"
_PACKAGES = ("distill-faces", "keras", "tensorflow", "numpy", "h5py", "pillow", "tyro")


def kept_fault(error: BaseException) -> str:
    """Write the traceback of `error`, the command and the versions to a file; return the line that says so."""
    said = "".join(traceback.format_exception(error))
    try:
        handle, path = tempfile.mkstemp(prefix=_FILES, suffix=".txt")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{sys.argv}\n{_installed()}\n\n{said}")
    except OSError as full:
        path = f"lost ({full.strerror}), it was {type(error).__name__}"
    return f"{INTERNAL_ERROR}: the details are in {path} (--debug shows them)"


def _installed() -> dict[str, str]:
    """Versions, without importing anything: that may be what failed."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
