"""Images that lie many in a file: gathered from shards once, into arrays of where each lies, and read by these."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from distill.data.class_labels import (
    CLASSES_FILE,
    MAX_CLASSES_BYTES,
    MOST_LABELS,
    ClassList,
    read_labels,
    with_classes_file,
    with_classes_in,
)
from distill.data.columns import Names, PickledTexts, count_distinct, text_column
from distill.data.dataset import UNLABELLED, Dataset, ImageSource
from distill.data.image_files import decoded, served_shape
from distill.data.layouts.ckplus_names import ckplus_subjects, subject_folds
from distill.data.pictures import Header, read_header
from distill.data.remote import is_url, open_url, read_if_there, read_ranges
from distill.data.shards import Shard, Shards
from distill.errors import InputError
from distill.files.busy_files import reading

NO_LABEL = "-1"
"""How the label is written of an image that has none, in a dataset where others have."""
_MAX_ID = 1000  # letters


class Found(NamedTuple):
    """An image in a shard."""

    key: str
    """Its name in the shard."""
    label: str | None
    """As it is written, a number or a name; None where nothing is written."""
    picture: bytes
    """Encoded."""
    offset: int = 0
    """Where it begins in the shard, bytes."""
    sample_id: str | None = None
    """Of the image in the dataset, where the shard says it."""


class Sample(NamedTuple):
    """An image to write into a shard."""

    id: str
    label: int
    """Position of its class, or `UNLABELLED`."""
    content: bytes
    """The encoded picture."""


class Index(NamedTuple):
    """Where N images lie: 12 bytes for each, and the names that they have anyway."""

    files: tuple[str, ...]
    starts: np.ndarray
    """int64 [len(files) + 1]: the number of the first image in each file, and N."""
    offsets: np.ndarray
    """uint64 [N], bytes."""
    sizes: np.ndarray
    """uint32 [N], bytes."""
    ids: np.ndarray
    """Text [N], for messages."""


class PackedImages:
    """Pictures at known places of larger files, all served at one shape, as `ImageFiles` serves them."""

    def __init__(self, index: Index, shape: tuple[int, int, int]):
        self.index, self.shape = index, shape

    def __len__(self) -> int:
        return len(self.index.offsets)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "index": self.index._replace(ids=PickledTexts.of(self.index.ids))}  # type: ignore[arg-type]

    def __setstate__(self, state: dict[str, Any]) -> None:
        index = state["index"]
        self.__dict__.update({**state, "index": index._replace(ids=index.ids.texts)})

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Decode the images at `indices`: uint8 [n, height, width, channels].

        Raises:
            InputError: a file is gone, has become shorter, or holds something else there. The message names it.
        """
        return decoded(self.encoded(indices), self.shape)

    def encoded(self, indices: np.ndarray) -> list[tuple[str, bytes]]:
        """Return what messages call the pictures at `indices`, and their bytes, as they are."""
        index, indices = self.index, np.asarray(indices)
        pictures: list[tuple[str, bytes]] = [("", b"")] * len(indices)
        of_file = np.searchsorted(index.starts, indices, side="right") - 1
        for number in np.unique(of_file):
            rows = np.flatnonzero(of_file == number)
            rows = rows[np.argsort(indices[rows], kind="stable")]  # forwards through the file
            path = index.files[number]
            chosen = indices[rows]
            contents = _pieces(path, index.offsets[chosen].tolist(), index.sizes[chosen].tolist())
            for row, at, content in zip(rows.tolist(), chosen.tolist(), contents, strict=True):
                pictures[row] = (f"{path}: {index.ids[at]}", content)
        return pictures


def opened(path: str) -> IO[bytes]:
    """Open a shard, by its path or URL.

    Raises:
        InputError: it is gone, or cannot be read now.
    """
    if is_url(path):
        return open_url(path)
    with reading(path):
        try:
            return open(path, "rb")
        except FileNotFoundError as error:
            raise InputError(f"{path} is gone: give it whole") from error


def with_classes_of(shards: Shards, given: ClassList | None) -> ClassList | None:
    """Return `given`, or else what `classes.txt` next to the shards names.

    Raises:
        InputError: both name classes, and not the same; or what `class_list` refuses.
    """
    if not is_url(shards.folder):
        return with_classes_file(given, Path(shards.folder))
    url = f"{shards.folder}/{CLASSES_FILE}"
    content = read_if_there(url, at_most=MAX_CLASSES_BYTES)
    return given if content is None else with_classes_in(given, content, url)


def _pieces(path: str, offsets: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
    if is_url(path):
        contents = read_ranges(path, offsets, sizes)
    else:
        with opened(path) as file, reading(path):
            contents = [_piece(file, offset, size) for offset, size in zip(offsets, sizes, strict=True)]
    if any(len(content) < size for content, size in zip(contents, sizes, strict=True)):
        raise InputError(f"{path} has become shorter since it was opened: give it whole")
    return contents


def _piece(file: IO[bytes], offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def gather(
    shards: Shards,
    found_in: Callable[[Shard], Iterator[Found]],
    classes: ClassList | None,
    *,
    images: Callable[[Index, tuple[int, int, int]], ImageSource] = PackedImages,
    numbers: str = "label",
) -> Dataset:
    """Read what shards hold into a dataset, going through them once.

    Ids are those that the shards say, or else shard and key. Labels are those of `classes`, or names.

    Args:
        shards: the files.
        found_in: reads one of them.
        classes: who has named the classes, if anybody.
        images: makes the source that reads the images.
        numbers: what messages call a label in this format.

    Raises:
        InputError: there are no images; two have one id; some have a label and others none; whatever `read_labels`
            and `read_header` refuse.
    """
    gathered = _Gathered(numbers)
    for shard in shards.files:
        gathered.add(shard, found_in(shard))
    count = len(gathered.codes)
    if not count:
        raise InputError(f"{shards.source} holds no images")
    ids = np.concatenate(gathered.ids)
    _check_unique(ids, shards.source)
    class_names, labels, label_notes = gathered.labels(shards, classes)
    shape, image_notes = served_shape(gathered.headers)
    starts = np.cumsum([0, *map(len, gathered.ids)])
    files = tuple(shard.path for shard in shards.files)
    index = Index(files, starts, _column(gathered.offsets), _column(gathered.sizes), ids)
    subjects, subject_notes = ckplus_subjects(each.rpartition("/")[2] for each in ids)
    return Dataset(
        name=shards.source,
        ids=ids,
        labels=labels,
        class_names=class_names,
        images=images(index, shape),
        splits=Names.of([shard.split for shard in shards.files])[np.repeat(np.arange(len(files)), np.diff(starts))],
        folds=None if subjects is None else subject_folds(subjects),
        subjects=subjects,
        notes=shards.notes + label_notes + subject_notes + image_notes,
    )


class _Gathered:
    """What was found so far, in columns of numbers: no Python object is kept for an image."""

    def __init__(self, numbers: str):
        self.ids: list[np.ndarray] = []
        self.offsets, self.sizes, self.codes = array("Q"), array("I"), array("i")
        self.headers: Counter[Header] = Counter()
        self._written: dict[str, int] = {}
        self._where: dict[str, str] = {}
        self._unlabelled = ""
        self._numbers = numbers

    def add(self, shard: Shard, found: Iterable[Found]) -> None:
        ids = []
        for each in found:
            name = f"{shard.path}: {each.key}"
            self.headers[read_header(name, BytesIO(each.picture))] += 1
            self.offsets.append(each.offset)
            self.sizes.append(len(each.picture))
            self.codes.append(self._code(each.label, name))
            ids.append(_checked_id(f"{shard.name}/{each.key}" if each.sample_id is None else each.sample_id, name))
        self.ids.append(text_column(ids, what="file name", of=shard.path))

    def _code(self, label: str | None, name: str) -> int:
        if label is None:
            self._unlabelled = self._unlabelled or name
            return UNLABELLED
        if label not in self._written:
            if len(self._written) >= MOST_LABELS:
                raise InputError(f"{name}: {MOST_LABELS:,} different labels came before, expected no more")
            self._written[label] = len(self._written)
            self._where[label] = name
        return self._written[label]

    def labels(
        self, shards: Shards, classes: ClassList | None
    ) -> tuple[tuple[str, ...], np.ndarray, tuple[str, ...]]:
        """Return the class names, the labels, int32 [N], and notes."""
        if self._written and self._unlabelled:
            raise InputError(
                f"{self._unlabelled} has no {self._numbers}, other images have: write {NO_LABEL} where there is none"
            )
        codes = np.frombuffer(self.codes, np.int32)
        written = [label for label in self._written if label != NO_LABEL]
        if not written:
            names = () if classes is None else classes.names
            return names, np.full(len(codes), UNLABELLED, np.int32), ("these images have no labels",)
        meaning = read_labels(
            written,
            classes,
            source=shards.source,
            where=self._where.__getitem__,
            classes_file=f"{shards.folder}/{CLASSES_FILE}",
        )
        positions = np.array([meaning.positions.get(label, UNLABELLED) for label in self._written], np.int32)
        return meaning.class_names, positions[codes], meaning.notes


def _checked_id(text: str, name: str) -> str:
    if not 0 < len(text) <= _MAX_ID or "\0" in text:
        raise InputError(
            f"{name}: its id has {len(text):,} letters, expected 1 to {_MAX_ID:,}, and none that is zero"
        )
    return text


def _check_unique(ids: np.ndarray, source: str) -> None:
    if count_distinct(ids) != len(ids):
        ordered = np.sort(ids)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        raise InputError(f"{source} has two images with the id {twice[0]}: each needs one of its own")


def _column(numbers: array) -> np.ndarray:
    return np.frombuffer(numbers, numbers.typecode)
