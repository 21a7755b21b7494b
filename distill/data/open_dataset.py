"""`open_dataset`: a path, or the word "synthetic", becomes a `Dataset`."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from distill.busy_files import cannot_read_now
from distill.data.dataset import Dataset
from distill.data.layouts import class_folders, fer2013_csv, ferplus_votes, image_folder, label_file, npy_pair
from distill.errors import InputError


class Layout(NamedTuple):
    """How a data set may lie on disk: a name for messages, a test, and a reader."""

    name: str
    recognise: Callable[[Path], bool]
    read: Callable[[Path], Dataset]


LAYOUTS = (
    Layout("FER+ votes beside fer2013.csv", ferplus_votes.recognise, ferplus_votes.read),
    Layout("fer2013.csv", fer2013_csv.recognise, fer2013_csv.read),
    Layout("X-images.npy with X-labels.npy", npy_pair.recognise, npy_pair.read),
    Layout("a file of PATH LABEL lines", label_file.recognise, label_file.read),
    Layout("class folders", class_folders.recognise, class_folders.read),
    Layout("a folder of unlabelled images", image_folder.recognise, image_folder.read),
)
"""The first layout that recognises a path reads it."""

SYNTHETIC = {"synthetic": 7, "synthetic-8": 8}
_SYNTHETIC_COUNT = 4000


def open_dataset(path: str | Path) -> Dataset:
    """Open labelled faces.

    Args:
        path: a file or folder of one of the `LAYOUTS`, a folder that holds exactly one, or "synthetic"
            (seven expressions) or "synthetic-8".

    Raises:
        InputError: the path does not exist, cannot be read, has no known layout, or holds several data
            sets; and whatever the layout's reader finds wrong.
    """
    if str(path) in SYNTHETIC:
        from distill.data.synthetic_faces import synthetic_faces

        return synthetic_faces(count=_SYNTHETIC_COUNT, classes=SYNTHETIC[str(path)], seed=0)
    path = Path(path).expanduser()
    try:
        return _open(path)
    except OSError as error:
        wrong = InputError(f"{error.filename or path} cannot be read: {error.strerror or error}")
        raise cannot_read_now(error, error.filename or path) or wrong from error


def _open(path: Path) -> Dataset:
    if not path.exists():
        raise InputError(f"{path} does not exist{_near(path)}; {_what_works()}")
    layout = _layout_of(path)
    if layout is None and path.is_dir():
        path = _only_dataset_in(path)
        layout = _layout_of(path)
    if layout is None:
        raise InputError(f"{path} has no known layout; {_what_works()}")
    return layout.read(path)


def _layout_of(path: Path) -> Layout | None:
    return next((layout for layout in LAYOUTS if layout.recognise(path)), None)


def _only_dataset_in(folder: Path) -> Path:
    """Return the one data set in `folder`, or `folder` itself if there is none."""
    visible = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    found = dict.fromkeys(npy_pair.first_of_pair(child) for child in visible if _layout_of(child))
    if len(found) > 1:
        names = ", ".join(str(path) for path in found)
        raise InputError(f"{folder} holds {len(found)} data sets, name one of them: {names}")
    return next(iter(found), folder)


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f", nor does its folder {path.parent}"
    names = [child.name for child in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, [*names, *SYNTHETIC])
    return f", did you mean {' or '.join(near)}?" if near else ""


def _what_works() -> str:
    return f"expected {', '.join(SYNTHETIC)}, or the path of {', '.join(layout.name for layout in LAYOUTS)}"
