"""`file_stamp`: what changes when a file is replaced, or written to."""

import os


def file_stamp(file: int | str | os.PathLike) -> tuple[int, ...]:
    """Return device, number, size and time of change of a file, given as its path or its descriptor."""
    found = os.stat(file)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
