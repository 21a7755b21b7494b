"""Files that cannot be read now: another program holds them, or the system, a disk or a network fails.

Nothing is known of what such a file holds, so none of them is called damaged, and none is removed or replaced.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distill.errors import BusyError

_CHUNK = 1 << 20
# These a library also gets where it follows an offset or a name that a damaged file gave it.
_OF_THE_CONTENT = {errno.EINVAL, errno.EOVERFLOW, errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
_MENDS = {
    errno.EAGAIN: "close the program that holds it",
    errno.EACCES: "give yourself permission to read it",
    errno.EPERM: "give yourself permission to read it",
    errno.EMFILE: "close other files",
    errno.ENFILE: "close other programs",
    errno.EIO: "look at its disk",
    errno.ESTALE: "look at its network share",
}


def cannot_read_now(
    error: BaseException | None, path: str | os.PathLike, *files: str | os.PathLike
) -> BusyError | None:
    """Return what to raise where the system could not read `path`; None where it could, and the content is at fault.

    Libraries pass on what the system says, or wrap it, or drop it: where it is found nowhere, all bytes are read.

    Args:
        error: what the attempt ended in, if that is known.
        files: what was read, where that is not the file `path`, or the files in the folder `path`.
    """
    number = _of_system(error) or _failure_to_read(files or (path,))
    if number is None:
        return None
    mend = _MENDS.get(number)
    what_works = f"{mend}, and try again" if mend else "try again"
    return BusyError(f"{path} cannot be read now ({os.strerror(number)}): {what_works}")


@contextmanager
def reading(path: str | os.PathLike) -> Iterator[None]:
    """Raise a `BusyError` where the system cannot read `path` within the block.

    One that is not there is a `FileNotFoundError` still.
    """
    try:
        yield
    except OSError as error:
        busy = cannot_read_now(error, path)
        if busy is None:
            raise
        raise busy from error


def is_there(path: str | os.PathLike) -> bool:
    """Whether there is a file or folder; one that cannot be looked at is not taken for absent.

    `Path.exists` does that, from Python 3.14 on.

    Raises:
        BusyError: the system cannot say.
    """
    with reading(path):
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


def _of_system(error: BaseException | None) -> int | None:
    """Return the number of the system's own error among `error` and what led to it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno and error.errno not in _OF_THE_CONTENT:
            return error.errno
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _failure_to_read(paths: tuple[str | os.PathLike, ...]) -> int | None:
    """Read all bytes of files, or of those in folders; return the number of the system's first error."""
    try:
        for path in map(Path, paths):
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if stat.S_ISREG(file.stat().st_mode):
                    with open(file, "rb", buffering=0) as opened:
                        while opened.read(_CHUNK):
                            pass
    except OSError as error:
        return _of_system(error)
    return None
