"""`open_dataset`: a path, or the word "synthetic", becomes a `Dataset`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from distill.data.class_labels import ClassList, class_list
from distill.data.dataset import Dataset, with_class_names
from distill.data.image_files import is_visible
from distill.data.layouts import (
    class_folders,
    fer2013_csv,
    ferplus_votes,
    image_folder,
    label_file,
    npy_pair,
    parquet_shards,
    tfrecord_shards,
    webdataset_shards,
)
from distill.data.packed_csv import is_csv
from distill.data.remote import is_url, list_files, local_path
from distill.data.shards import is_pattern, named_shards
from distill.errors import InputError
from distill.files.busy_files import cannot_read_now
from distill.files.home import expanded
from distill.python_function import call_function, recognise
from distill.refusals import near_paths


class Layout(NamedTuple):
    """How a dataset may lie on disk: a name for messages, a test, and a reader."""

    name: str
    recognise: Callable[[Path], bool]
    read: Callable[[Path, ClassList | None], Dataset]


LAYOUTS = (
    Layout("FER+ votes next to fer2013.csv", ferplus_votes.recognise, ferplus_votes.read),
    Layout("fer2013.csv", fer2013_csv.recognise, fer2013_csv.read),
    Layout("X-images.npy with X-labels.npy", npy_pair.recognise, npy_pair.read),
    Layout("a file of PATH LABEL lines", label_file.recognise, label_file.read),
    Layout("class folders", class_folders.recognise, class_folders.read),
    Layout("a folder of unlabelled images", image_folder.recognise, image_folder.read),
    Layout(".tar shards of WebDataset", webdataset_shards.recognise, webdataset_shards.read),
    Layout(".parquet shards with pictures", parquet_shards.recognise, parquet_shards.read),
    Layout(".tfrecord shards", tfrecord_shards.recognise, tfrecord_shards.read),
)
"""The first layout that recognises a path reads it."""
_OF_SHARDS = (webdataset_shards, parquet_shards, tfrecord_shards)
"""Those that are read from URLs, too."""

SYNTHETIC = {"synthetic": 7, "synthetic-8": 8}
_SYNTHETIC_COUNT = 4000


def open_dataset(path: str | Path, *, class_names: str | Sequence[str] | None = None) -> Dataset:
    """Open labelled images.

    Args:
        path: a file or folder of one of the `LAYOUTS`, a folder that holds exactly one, "synthetic" (seven
            expressions of drawn faces), "synthetic-8", or `module:function`, which takes nothing and returns a
            `Dataset`; that is a program. A pattern of shards, "faces/train-*.tar", or the URL of such in an object
            store, "s3://bucket/faces".
        class_names: what numbers mean as labels, and the order of the classes: a row of `CLASS_ORDERS`, such as
            "rafdb", names in order, or with their numbers, "1=surprise,2=fear". By default what the data says.

    Raises:
        InputError: the path does not exist, cannot be read, has no known layout, or holds several
            datasets; its classes are numbers that nobody has named; whatever the layout's reader finds wrong; the
            function fails, or returns something else.
    """
    classes = class_list(class_names)
    if str(path) in SYNTHETIC:
        from distill.data.synthetic_faces import synthetic_faces

        faces = synthetic_faces(count=_SYNTHETIC_COUNT, classes=SYNTHETIC[str(path)], seed=0)
        return faces if classes is None else with_class_names(faces, classes.names)
    if recognise(str(path)) and not Path(path).exists():
        dataset = _from_function(str(path))
        return dataset if classes is None else with_class_names(dataset, classes.names)
    if is_url(str(path)) and local_path(str(path)) is None:
        return _open_url(str(path), classes)
    path = expanded(local_path(str(path)) or path)
    try:
        return _open(path, classes)
    except OSError as error:
        wrong = InputError(f"{error.filename or path} cannot be read: {error.strerror or error}")
        raise cannot_read_now(error, error.filename or path) or wrong from error


def _from_function(source: str) -> Dataset:
    dataset = call_function(source)
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"{source} returned {type(dataset).__name__}, expected a distill.Dataset: Dataset.from_arrays makes one"
        )
    return replace(dataset, name=source)


def _open(path: Path, classes: ClassList | None) -> Dataset:
    if not path.exists() and not is_pattern(path):
        raise InputError(f"{path} does not exist{near_paths(path, SYNTHETIC)}; {_what_works()}")
    layout = _layout_of(path)
    if layout is None and path.is_dir():
        path = _only_dataset_in(path)
        layout = _layout_of(path)
    if layout is None and is_csv(path):
        return fer2013_csv.read(path)  # which says what its columns lack
    if layout is None:
        raise InputError(f"{path} has no known layout; {_what_works()}")
    return layout.read(path, classes)


def _open_url(url: str, classes: ClassList | None) -> Dataset:
    folder, files = list_files(url, lambda name: any(layout.is_shard(name) for layout in _OF_SHARDS))
    layouts = [layout for layout in _OF_SHARDS if any(layout.is_shard(file.rpartition("/")[2]) for file in files)]
    if len(layouts) != 1:
        known = "shards of WebDataset (.tar), Parquet or TFRecord"
        raise InputError(f"{url} holds {'several kinds of shards' if layouts else 'no shards'}: expected {known}")
    return layouts[0].read_shards(named_shards(url, folder, files, layouts[0].SUFFIX), classes)


def _layout_of(path: Path) -> Layout | None:
    return next((layout for layout in LAYOUTS if layout.recognise(path)), None)


def _only_dataset_in(folder: Path) -> Path:
    """Return the one dataset in `folder`, or `folder` itself if there is none."""
    visible = sorted(child for child in folder.iterdir() if is_visible(child.name))
    found = dict.fromkeys(npy_pair.first_of_pair(child) for child in visible if _layout_of(child))
    if len(found) > 1:
        names = ", ".join(str(path) for path in found)
        raise InputError(f"{folder} holds {len(found)} datasets, name one of them: {names}")
    return next(iter(found), folder)


def _what_works() -> str:
    layouts = ", ".join(layout.name for layout in LAYOUTS)
    return f"expected {', '.join(SYNTHETIC)}, MODULE:FUNCTION, or the path of {layouts}"
