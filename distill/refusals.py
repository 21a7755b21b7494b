"""What refusals have in common: near names, ranges, and the first line of a reason."""

import difflib
import math
import re
from collections.abc import Iterable
from pathlib import Path

from distill.errors import InputError

OF_TENSORFLOW = {
    "ResourceExhaustedError": "there is not enough memory ({}): smaller batches need less",
    "UnimplementedError": "TensorFlow cannot compute this on this processor ({}): TF_ENABLE_ONEDNN_OPTS=1 in the "
    "environment may help, as with channels first",
}
"""Errors of TensorFlow, which is not imported here -> what is said of them."""
_LONGEST_REASON = 300
# What Keras puts before the reason: the class that it was building, with all of its settings.
_PREAMBLE = re.compile(
    r".*(Exception encountered: |Exception encountered when calling [^\n]*\n|"
    r"Example error message for object [^\n]*:\n|"
    r"Graph execution error:\s*(Detected at node [^\n]*\n|[ \t]*File \"[^\n]*\n|[ \t]*\n)*)",
    re.DOTALL,
)
_COLORS = re.compile(r"\x1b\[[0-9;]*m")
_NEAR = 3  # names, at most


def alternatives(name: str, known: Iterable[str]) -> str:
    """Return what to say after an unknown name: "did you mean a or b?", or all of them where none is near."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=_NEAR)
    return f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(known)}"


def check_known(name: str, known: Iterable[str], *, what: str) -> None:
    """Refuse a name that is not among `known`; `what` says what it would be a name of.

    Raises:
        InputError: it is not.
    """
    known = list(known)
    if name not in known:
        raise InputError(f'unknown {what} "{name}": {alternatives(name, known)}')


def near_paths(path: Path, also: Iterable[str] = ()) -> str:
    """Return what to say after "PATH does not exist": " (did you mean a or b?)", of its folder or `also`; or ""."""
    if not path.parent.is_dir():
        return f", nor does its folder {path.parent}"
    near = difflib.get_close_matches(path.name, [*(child.name for child in path.parent.iterdir()), *also])
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def missing_package(error: ModuleNotFoundError) -> str:
    """Return what to say where a package is missing that the whole framework brings, such as on a device."""
    package = (error.name or str(error)).partition(".")[0]
    return f"needs {package}, which is not installed: it comes with pip install distill-faces"


def flag(name: str) -> str:
    """Return the name of a setting as its flag is written."""
    return name.strip("_").replace("_", "-")


def check_at_least(least: float, **values: float | None) -> None:
    """Refuse settings below `least`, or that are no number; None is not checked.

    Raises:
        InputError: one is.
    """
    for name, value in values.items():
        if value is not None and not least <= value < math.inf:
            raise InputError(f"{flag(name)} must be at least {least:g}, received {value}")


def check_within(low: float, high: float, **values: float | None) -> None:
    """Refuse settings outside `low`..`high`, both of which are allowed; None is not checked.

    Raises:
        InputError: one is outside.
    """
    for name, value in values.items():
        if value is not None and not low <= value <= high:
            raise InputError(f"{flag(name)} must lie in {low:g}..{high:g}, received {value}")


def without_colors(text: str) -> str:
    """Return what a library wrote for a terminal, without its colours."""
    return _COLORS.sub("", text)


def reason(error: BaseException) -> str:
    """Return the innermost cause that an error's message names, one line; its kind where it has no message."""
    text = without_colors(str(error))
    inner = _PREAMBLE.sub("", text).strip()
    line = next((line.strip() for line in (inner or text).splitlines() if line.strip()), type(error).__name__)
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}..."
