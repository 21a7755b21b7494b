"""`convert`: a dataset of any layout, written as shards."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from distill.data.class_labels import CLASSES_FILE, check_not_numbered_otherwise, with_classes_file
from distill.data.columns import Names
from distill.data.dataset import Dataset
from distill.data.layouts import parquet_shards, tfrecord_shards, webdataset_shards
from distill.data.packed_images import Sample
from distill.data.pictures import encode
from distill.errors import InputError
from distill.files.documents import read_document
from distill.files.whole_files import atomic_file, write_bytes, write_json
from distill.progress import progress_bar


class Format(NamedTuple):
    """How shards are written."""

    suffix: str
    write: Callable[[Path, Iterable[Sample], tuple[str, ...]], None]


FORMATS = {
    "webdataset": Format(".tar", webdataset_shards.write),
    "parquet": Format(".parquet", parquet_shards.write),
    "tfrecord": Format(".tfrecord", tfrecord_shards.write),
}

_PLAN, _LOCK = "plan.json", ".lock"
_WITHOUT_SPLIT = "images"
_ROWS = 64  # pictures in memory at once
_VERSION = "1"  # of what is written


@dataclass(frozen=True)
class _Plan:
    """What is to be written, so that the same call, and no other, goes on."""

    sha256: str


class _Part(NamedTuple):
    """A shard to write: its name, and the images in it."""

    name: str
    rows: np.ndarray


def convert(dataset: Dataset, out: Path, *, format: str, images_per_shard: int = 10_000) -> list[Path]:
    """Write a dataset as shards of `FORMATS`, such as OUT/train-00000-of-00012.tar, with OUT/classes.txt.

    Pictures that lie encoded in the source keep their bytes; others become PNG files. Ids, labels, class names and
    splits are kept, and the order within each split, so that cached logits of the source fit. Where some images have
    a split, those without are written as train, as which `with_splits` takes them. `out` appears when all of it is
    there; what a killed process wrote lies in a hidden folder next to it, and the same call goes on.

    Returns:
        The shards.

    Raises:
        InputError: `out` exists; another process writes it, or another call has begun it; the names of the classes
            could not be read again.
    """
    if out.exists() or out.name == "..":
        raise InputError(f"{out} exists: name a new folder for the shards")
    parts = list(_parts(dataset, FORMATS[format].suffix, images_per_shard))
    with _unfinished(out, _Plan(_sha256(dataset, parts))) as folder:
        _write_classes(folder, dataset)
        with progress_bar(total=len(dataset), desc="writing", unit="image") as bar:
            for part in parts:
                if not (folder / part.name).is_file():
                    with atomic_file(folder / part.name) as shard:
                        FORMATS[format].write(shard, _samples(dataset, part.rows, bar.update), dataset.class_names)
                else:
                    bar.update(len(part.rows))
    return [out / part.name for part in parts]


def not_kept(dataset: Dataset) -> list[str]:
    """Return notes on what shards do not hold of a dataset."""
    lost = []
    if dataset.label_probs is not None:
        lost.append("soft labels are left out: shards hold the most probable class of each image")
    if dataset.folds is not None:
        lost.append("folds are left out, but for those that CK+ file names give")
    without_split = np.count_nonzero(dataset.splits == "")
    if 0 < without_split < len(dataset):
        lost.append(f"{without_split:,} images of no split are written as train, as which commands take them")
    return lost


def _parts(dataset: Dataset, suffix: str, images_per_shard: int) -> Iterator[_Part]:
    splits = Names.of(dataset.splits)
    without_split = splits == ""
    if not without_split.all():  # shards are named as splits each or not at all
        splits = splits.replaced(without_split, "train")
    for split in np.unique(splits).tolist():
        rows = np.flatnonzero(splits == split)
        count = -(-len(rows) // images_per_shard)
        for number in range(count):
            name = f"{split or _WITHOUT_SPLIT}-{number:05d}-of-{count:05d}{suffix}"
            yield _Part(name, rows[number * images_per_shard : (number + 1) * images_per_shard])


def _samples(dataset: Dataset, rows: np.ndarray, done: Callable[[int], object]) -> Iterator[Sample]:
    encoded = getattr(dataset.images, "encoded", None)
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        contents = map(encode, dataset.read(block)) if encoded is None else (content for _, content in encoded(block))
        for row, content in zip(block.tolist(), contents, strict=True):
            yield Sample(str(dataset.ids[row]), int(dataset.labels[row]), content)
        done(len(block))


@contextmanager
def _unfinished(out: Path, plan: _Plan) -> Iterator[Path]:
    """Yield the hidden folder that becomes `out` when the block ends."""
    folder = out.with_name(f".{out.name}-unfinished")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"{out} is being written by another process: wait for it, or name another folder") from None
    try:
        if not (folder / _PLAN).is_file():
            write_json(folder / _PLAN, {"sha256": plan.sha256})
        elif read_document(folder / _PLAN, _Plan, what="plan of shards") != plan:
            raise InputError(f"{folder} was begun with other data or flags: remove it, or name another folder")
        yield folder
    finally:
        lock.release()
    folder.rename(out)  # with its plan: where that fails, or the process ends, nobody takes it for other data
    (out / _PLAN).unlink()
    (out / _LOCK).unlink(missing_ok=True)


def _write_classes(folder: Path, dataset: Dataset) -> None:
    names = dataset.class_names
    if not names:
        return
    check_not_numbered_otherwise(names, dataset.name)
    lines = [f"{number} {name}\n" for number, name in enumerate(names)]
    write_bytes(folder / CLASSES_FILE, "".join(lines).encode())
    try:
        read = with_classes_file(None, folder)
    except InputError:
        read = None
    if read is None or read.names != names:
        raise InputError(f"{dataset.name} has class names that no line of text holds as they are: {', '.join(names)}")


def _sha256(dataset: Dataset, parts: Iterable[_Part]) -> str:
    """Return what tells this call from any other, all but the pixels."""
    digest = hashlib.sha256(repr((_VERSION, dataset.image_shape, dataset.class_names)).encode())
    for part in parts:
        digest.update(repr((part.name, dataset.ids[part.rows].tolist())).encode())
        digest.update(dataset.labels[part.rows].astype(np.int64).tobytes())
    return digest.hexdigest()
