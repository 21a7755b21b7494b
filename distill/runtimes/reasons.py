"""What other libraries say of a file, short enough for a one-line error."""

_LONGEST = 200


def reason(error: Exception) -> str:
    """Return the first line of an error's message, or its kind where it has none."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
