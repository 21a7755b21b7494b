"""`files_in`: the photos and videos that a folder holds, and all folders within it."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from distill.data.class_labels import CLASSES_FILE
from distill.data.image_files import is_image_name, is_visible
from distill.errors import BusyError
from distill.files.busy_files import reading
from distill.prediction.videos import is_video_name


class FilesIn(NamedTuple):
    """What a folder, and those within, hold that is visible."""

    pictures: list[str]
    """Images and videos, relative to it, sorted. A link that leads nowhere is one of them: why it gives no face is
    said, as of a damaged picture."""
    others: Counter[str]
    """How many files are neither, nor name the classes, by suffix."""
    unreadable: list[str]
    """Folders within that cannot be read now."""


def files_in(root: Path, *, without: Sequence[Path] = ()) -> FilesIn:
    """Look through a folder and those within: each once, under its own name, or else under that of a link to it.

    Args:
        without: folders, resolved, that are passed by.

    Raises:
        BusyError: the folder itself cannot be read.
    """
    found = FilesIn([], Counter(), [])
    folders, links, seen = [root], list[Path](), {*without}
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        try:
            with reading(folder):
                real = folder.resolve()
                entries = list(os.scandir(folder)) if real not in seen else []
        except (BusyError, RuntimeError):  # a link to itself is a RuntimeError before Python 3.13
            if folder == root:
                raise
            found.unreadable.append(folder.relative_to(root).as_posix())
            continue
        seen.add(real)
        for entry in sorted(entries, key=lambda entry: entry.name, reverse=True):  # the last one is taken first
            path = folder / entry.name
            if not is_visible(entry.name):
                continue
            if _asked(entry.is_dir):
                (links if entry.is_symlink() else folders).append(path)
            elif is_image_name(entry.name) or is_video_name(entry.name):
                if _asked(entry.is_file) or not os.path.exists(path):
                    found.pictures.append(path.relative_to(root).as_posix())
            elif entry.name != CLASSES_FILE:
                found.others[path.suffix.lower() or "without a suffix"] += 1
    found.pictures.sort()
    return found


def _asked(about: Callable[[], bool]) -> bool:
    try:
        return about()
    except OSError:  # such as a link to itself
        return False
