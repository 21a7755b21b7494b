"""A folder for photos that were given to be looked at: pictures of people, so none is kept for long."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

SECONDS, PHOTOS = 60, 20
"""How long a photo is kept, and how many of them at most."""
_PREFIX, _LOCK = "distill-demo-", ".lock"
_JUST_MADE = 10  # seconds in which a folder may not have its lock yet


@contextmanager
def photo_folder() -> Iterator[Path]:
    """Yield an empty folder that only this user can read; photos in it are deleted soon, and all of them at the end.

    What a process that was killed has left is deleted at the next start.
    """
    _delete_what_was_left()
    ended = threading.Event()
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as folder,
        FileLock(Path(folder) / _LOCK),
    ):
        deleting = threading.Thread(target=_delete_old, args=(Path(folder), ended), daemon=True)
        deleting.start()
        try:
            yield Path(folder)
        finally:
            ended.set()
            deleting.join()


def delete_old(folder: Path, *, seconds: float = SECONDS, photos: int = PHOTOS) -> None:
    """Delete what has lain in a folder for some seconds, and all but the newest `photos`, however deep."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != _LOCK]
    with suppress(FileNotFoundError):
        files.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        oldest = time.time() - seconds
        for number, path in enumerate(files):
            if number >= photos or path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)


def _delete_old(folder: Path, ended: threading.Event) -> None:
    while not ended.wait(1):
        delete_old(folder)


def _delete_what_was_left() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another process has it, or another user
            if folder.is_symlink() or time.time() - folder.stat().st_mtime < _JUST_MADE:
                continue
            if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
                continue
            with FileLock(folder / _LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
