"""What other libraries say of a file, short enough for a one-line error."""

import re

_LONGEST = 300
# What Keras puts before the reason: the class that it was building, with all of its settings.
_PREAMBLE = re.compile(
    r".*(Exception encountered: |Exception encountered when calling [^\n]*\n|"
    r"Example error message for object [^\n]*:\n)",
    re.DOTALL,
)
_COLORS = re.compile(r"\x1b\[[0-9;]*m")


def reason(error: BaseException) -> str:
    """Return the innermost cause that an error's message names, one line; its kind where it has no message."""
    text = _COLORS.sub("", str(error))
    inner = _PREAMBLE.sub("", text).strip()
    line = next((line.strip() for line in (inner or text).splitlines() if line.strip()), type(error).__name__)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
