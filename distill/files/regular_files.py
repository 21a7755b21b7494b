"""Files that are read as a whole: regular ones, no larger than what they should hold can be.

To open a pipe waits for whoever writes into it, and a device may have no end.
"""

import os
import stat
from pathlib import Path

from distill.errors import InputError
from distill.files.busy_files import reading


def check_regular(path: str | os.PathLike) -> None:
    """Refuse what is there and neither a file nor a folder, before anything opens it.

    Raises:
        InputError: it is a pipe, a socket or a device.
        BusyError: the system cannot say.
    """
    with reading(path):
        try:
            mode = os.stat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{path} is {_kind(mode)}: expected a file")


def check_regular_files(folder: Path) -> None:
    """Refuse a folder in which something, however deep, is neither a file nor a folder.

    Raises:
        InputError: it has a pipe, a socket or a device.
    """
    with reading(folder):
        for path in folder.rglob("*"):
            check_regular(path)


def read_regular(path: str | os.PathLike, *, at_most: int) -> bytes:
    """Return the content of a regular file.

    Args:
        at_most: how many bytes it may have, also of a file that grows while it is read.

    Raises:
        InputError: it is not a regular file, or larger.
        BusyError: the system cannot read it now.
        OSError: it is not there.
    """
    check_regular(path)
    with reading(path), open(path, "rb") as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise InputError(f"{path} is larger than {at_most:,} bytes, which is more than such a file needs")
    return content


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
