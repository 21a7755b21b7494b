"""What is wrong with flags, in a line: tyro draws a box of it."""

import io
import re
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import TypeVar

from distill.errors import InputError
from distill.refusals import without_colors

Parsed = TypeVar("Parsed")

_FRAME = "│─╭╮╰╯|+- "
_FLAG = re.compile(r"(--[\w.-]+) [A-Z\[{(]")  # and what it takes; help that mentions one goes on otherwise
_UNKNOWN = "Unrecognized options"


def parsed_flags(parse: Callable[[], Parsed], *, prog: str) -> Parsed:
    """Return what `parse` returns, which calls tyro.

    Raises:
        InputError: a flag is unknown, missing, or of another kind.
        SystemExit: help was asked for, and printed.
    """
    drawn = io.StringIO()
    try:
        with redirect_stderr(drawn):
            return parse()
    except SystemExit as ended:
        if ended.code in (None, 0):
            raise
    raise InputError(f"{_said(drawn.getvalue())} ({prog} --help lists all)")


def _file_like_a_flag(lines: list[str]) -> str | None:
    """Return the first of the unknown options, where it is the name of a file."""
    name = " ".join(lines).removeprefix(f"{_UNKNOWN}: ").partition(",")[0]
    return name if name.startswith("-") and Path(name).exists() else None


def _said(box: str) -> str:
    """Return what a box of tyro says, without the help on flags that it quotes."""
    # The frame is │, or | where that cannot be shown; a line without words divides the box.
    lines = [line.strip().strip("│|").strip() for line in without_colors(box).splitlines()]
    title, *lines = [line for line in lines if line] or ["the flags cannot be understood"]
    title = title.strip(_FRAME)
    if lines and not lines[0].strip(_FRAME):  # where there is no frame at all, a line stands below the title
        lines = lines[1:]
    rule = next((number for number, line in enumerate(lines) if not line.strip(_FRAME)), len(lines))
    first, others = lines[:rule], lines[rule:]
    if first and first[0].startswith("Missing from"):
        flags = [found[1] for line in first[1:] if (found := _FLAG.match(line))]
        return f"{title.lower()} are missing: {', '.join(flags)}"
    if title == _UNKNOWN and (name := _file_like_a_flag(first)):
        return f"{name} looks like a flag: write ./{name}"
    near = [found[1] for line in others if (found := _FLAG.match(line))] if title == _UNKNOWN else []
    return " ".join(first or [title]).rstrip(".") + (f": did you mean {' or '.join(near[:3])}?" if near else "")
