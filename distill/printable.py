"""Text as it may be shown: whatever a name contains, a message stays one line and gives the terminal no commands."""

import json
import unicodedata
from typing import Any

_LONGEST, _END = 2000, 400  # letters; what would work stands at the end
_SPACES = ("Zs",)  # such as that of French numbers: no letter, but harmless


def is_utf8(name: str) -> bool:
    """Whether a name can be written in UTF-8: in that of a file, bytes of another encoding are surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def counted(number: int, noun: str) -> str:
    """Return a number of things: "1 face", "2,000 faces"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def printable(text: str) -> str:
    """Return `text` with control characters, breaks of lines, marks of direction and lone surrogates escaped."""
    if text.isprintable():
        return text
    return "".join(
        each
        if each.isprintable() or unicodedata.category(each) in _SPACES
        else each.encode("unicode_escape", "surrogatepass").decode()
        for each in text
    )


def json_line(document: Any) -> str:
    """Return a document as one line of JSON that is `printable` as it is: what is not stands as an escape of JSON."""
    return "".join(
        each if each.isprintable() or unicodedata.category(each) in _SPACES else json.dumps(each)[1:-1]
        for each in json.dumps(document, ensure_ascii=False)
    )


def one_line(message: str) -> str:
    """Return a message as one `printable` line; of a very long one the middle is left out."""
    line = printable(message)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - _END]} ... {line[-_END:]}"


def printable_lines(text: str) -> str:
    """Return `text` with its line breaks, and every line `printable`."""
    return "\n".join(map(printable, text.split("\n")))
