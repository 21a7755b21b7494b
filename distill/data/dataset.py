"""`Dataset`: what every layout of labelled images is read into."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from distill.data.arrays import MAX_CLASSES, no_probabilities
from distill.data.columns import Names, PickledTexts, blocks, check_texts, count_distinct, rows_in_order, text_column
from distill.data.expressions import canonical_name
from distill.data.split_policy import SplitPolicy
from distill.errors import InputError
from distill.files.numpy_files import RowsOnDisk

SPLITS = ("train", "validation", "test")
UNLABELLED = -1
_HASH_BYTES = 16
_READ_ROWS = 1024
_READ_BYTES = 64 * 2**20  # at once, at most, where an image is no larger than that


class ImageSource(Protocol):
    """Images by position: in memory, read row by row from a file, or decoded when they are read."""

    shape: tuple[int, int, int]
    """Height, width and channels (1 or 3) that every image is served at."""

    def __len__(self) -> int: ...

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Return uint8 [len(indices), height, width, channels], in the order of `indices`."""
        ...


class ArrayImages:
    """Images that are one uint8 array [N, H, W, C], in memory or on disk."""

    def __init__(self, array: np.ndarray | RowsOnDisk):
        if array.ndim != 4 or array.dtype != np.uint8 or array.shape[-1] not in (1, 3):
            raise ValueError(
                f"Images must be uint8 [N, height, width, 1 or 3]. Received: shape={array.shape}, dtype={array.dtype}"
            )
        _, height, width, channels = array.shape
        self.array = array
        self.shape = (height, width, channels)

    def __len__(self) -> int:
        return len(self.array)

    def read(self, indices: np.ndarray) -> np.ndarray:
        return np.asarray(self.array[indices])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images: ids, labels, class names, splits, and images by index.

    Every image has an id that is the same on every machine, and a content hash of its pixels, so that
    what was computed for an image can be joined to it and a changed pixel is noticed.
    """

    name: str
    """Where it came from, for messages: a path or "synthetic"."""
    ids: np.ndarray
    """Text [N], unique: the relative path, or split and row. Any array of text becomes one of NumPy's `StringDType`,
    the texts of which take 16 bytes up to 15 letters, and their own length besides from there on."""
    labels: np.ndarray
    """int32 [N]: index into `class_names`, or `UNLABELLED`."""
    class_names: tuple[str, ...]
    images: ImageSource
    splits: np.ndarray
    """Text [N]: "train", "validation", "test", or "" throughout where the layout knows no splits. Any array of text
    becomes `Names`, a byte each, which compares and counts as one."""
    label_probs: np.ndarray | None = None
    """float32 [N, C] soft labels that sum to 1, where the layout has them; those of an unlabelled image may be 0."""
    folds: np.ndarray | None = None
    """int64 [N]: number of the cross-validation fold, where the layout has them."""
    subjects: np.ndarray | None = None
    """Text [N], as `ids`: who is in the image, where the names say it."""
    split_policy: SplitPolicy | None = None
    """How `splits` came about, where `with_splits` or `fold_splits` made them."""
    class_map: Mapping[str, str] = field(default_factory=dict)
    """What classes were merged or renamed, {old: new}, so that those of teachers are, too; see `with_class_map`."""
    notes: tuple[str, ...] = field(default=())
    """What a reader should know about how it was read, such as rows left out."""

    def __post_init__(self):
        columns = {"labels": self.labels, "splits": self.splits, "images": self.images}
        optional = {"label_probs": self.label_probs, "folds": self.folds, "subjects": self.subjects}
        columns.update({name: column for name, column in optional.items() if column is not None})
        for name, column in columns.items():
            if len(column) != len(self.ids):
                raise ValueError(f"{len(self.ids)} ids but {len(column)} {name} in {self.name}")
        kept = {
            "ids": text_column(self.ids, what="file name", of=self.name),
            "labels": _label_column(self.labels, of=self.name),
            "splits": Names.of(self.splits),
        }
        if self.subjects is not None:
            kept["subjects"] = text_column(self.subjects, what="subject", of=self.name)
        for name, value in kept.items():
            object.__setattr__(self, name, value)
        if count_distinct(self.ids) != len(self.ids):
            raise ValueError(f"Sample ids of {self.name} are not unique")
        check_texts(self.class_names, what="class name", of=self.name)
        if len(self.class_names) > MAX_CLASSES:
            raise InputError(f"{self.name} has {len(self.class_names):,} classes, expected {MAX_CLASSES:,} at most")
        _check_values(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "ids": PickledTexts.of(self.ids)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({**state, "ids": state["ids"].texts})

    @staticmethod
    def from_arrays(
        images: np.ndarray,
        labels: np.ndarray | Sequence | None = None,
        *,
        class_names: Sequence[str] | None = None,
        splits: str | Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        pixel_range: tuple[float, float] | None = None,
        name: str = "arrays",
    ) -> "Dataset":
        """Return a dataset of arrays that are in memory, or mapped into it. uint8 images are not copied.

        Args:
            images: [N, height, width] or [N, height, width, 1 or 3]; uint8 of 0..255, or what `pixel_range` says.
            labels: integers [N] or [N, 1], `UNLABELLED` (-1) for none; rows [N, C] that sum to 1, one-hot or soft;
                names of classes [N]; None: no image has a label.
            class_names: of the C classes, in the order of the labels; by default "0", "1", ..., or the names found.
            splits: "train", "validation" or "test", for all images or for each; None: there are no splits.
            ids: N different texts, by which stored logits are found again; by default the rows' numbers.
            pixel_range: what black and white are, such as (0, 1) or (-1, 1): never guessed.
            name: for messages.

        Raises:
            InputError: something is not as above.
        """
        from distill.data.from_memory import from_arrays

        options: dict[str, Any] = {"class_names": class_names, "splits": splits, "ids": ids}
        return from_arrays(images, labels, **options, pixel_range=pixel_range, name=name)

    @staticmethod
    def from_tf_data(
        data: Any,
        *,
        class_names: Sequence[str] | None = None,
        splits: str | Sequence[str] | None = None,
        pixel_range: tuple[float, float] | None = None,
        name: str = "tf.data",
    ) -> "Dataset":
        """Return a dataset of what a `tf.data.Dataset` gives. It is read into memory once, N x H x W x C bytes.

        An image is known by its number in this pass, and by its pixels: a pipeline that shuffles or augments gives
        other images every time, which stored logits then do not fit. Leave both to the training.

        Args:
            data: a pipeline of images [H, W, 1 or 3], of (image, label) pairs or of dictionaries of "image" and
                "label", in batches or not; or {split: pipeline}.
            class_names: by default the attribute `class_names` that Keras' pipelines have; else as in `from_arrays`.
            splits: as in `from_arrays`, where `data` is one pipeline.
            pixel_range: as in `from_arrays`; of `keras.utils.image_dataset_from_directory` it is (0, 255).
            name: for messages.

        Raises:
            InputError: something is not as above, or the pipeline has no end.
        """
        from distill.data.from_memory import from_tf_data

        return from_tf_data(data, class_names=class_names, splits=splits, pixel_range=pixel_range, name=name)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def class_counts(self) -> np.ndarray:
        """int64 [C]: how many images have the label of each class."""
        return np.bincount(self.labels[self.labels != UNLABELLED], minlength=self.num_classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.images.shape

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Return the images at `indices`, which may count from the end, as uint8 [n, height, width, channels].

        Raises:
            IndexError: there is no such image.
        """
        return self.images.read(_positions(indices, len(self)))

    def blocks(self, rows: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
        """Go through all images once, `rows` at a time, by default up to 64 MiB: (slice, uint8 images)."""
        rows = rows or max(1, min(_READ_ROWS, _READ_BYTES // math.prod(self.image_shape)))
        for start in range(0, len(self), rows):
            block = slice(start, min(start + rows, len(self)))
            yield block, self.read(np.arange(block.start, block.stop))

    @cached_property
    def content_hashes(self) -> np.ndarray:
        """uint8 [N, 16]: BLAKE2b of each image's shape and pixels. Reads every image once."""
        hashes = np.empty((len(self), _HASH_BYTES), np.uint8)
        for block, images in self.blocks():
            hashes[block] = _image_hashes(images)
        return hashes

    @cached_property
    def mirrored_hashes(self) -> np.ndarray:
        """uint8 [N, 16]: what `content_hashes` would be if left and right were exchanged.

        Reads every image once, and keeps `content_hashes`, too.
        """
        hashes, mirrored = np.empty((2, len(self), _HASH_BYTES), np.uint8)
        for block, images in self.blocks():
            hashes[block], mirrored[block] = _image_hashes(images), _image_hashes(images[:, :, ::-1])
        self.__dict__.setdefault("content_hashes", hashes)
        return mirrored

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over class names and the (id, content hash, labels) rows, whatever order they stand in."""
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        for rows in rows_in_order(self.ids):
            for some in blocks(len(rows), _READ_ROWS):
                digest.update(b"".join(self._fingerprinted(rows[some])))
        return digest.hexdigest()

    def _fingerprinted(self, rows: np.ndarray) -> Iterator[bytes]:
        hashes = self.content_hashes[rows].view(f"V{_HASH_BYTES}")[:, 0]
        label_probs = np.empty((len(rows), 0)) if self.label_probs is None else self.label_probs[rows]
        columns = (self.ids[rows].tolist(), self.labels[rows].tolist(), hashes.tolist(), label_probs)
        for sample_id, label, content_hash, probs in zip(*columns, strict=True):
            yield f"\n{sample_id}\t{label}\t".encode() + content_hash + probs.tobytes()

    def labels_among(self, class_names: Sequence[str]) -> np.ndarray:
        """Return the labels as positions in `class_names`, found by name: int32 [N].

        A class that is not among them is `UNLABELLED`.
        """
        positions = {canonical_name(name): position for position, name in enumerate(class_names)}
        # The last entry is where UNLABELLED, -1, is looked up.
        own = [*(positions.get(canonical_name(name), UNLABELLED) for name in self.class_names), UNLABELLED]
        if own[:-1] == list(range(len(own) - 1)):
            return self.labels
        return np.array(own, np.int32)[self.labels]

    def subset(self, indices: np.ndarray) -> "Dataset":
        """Return the dataset of the images at `indices` (or where a mask is true), in that order.

        Hashes already known are kept.
        """
        indices = np.asarray(indices)
        if indices.dtype == bool:
            indices = np.flatnonzero(indices)

        def pick(column):
            return None if column is None else column[indices]

        part = replace(
            self,
            ids=self.ids[indices],
            labels=self.labels[indices],
            images=Subset(self.images, indices),
            splits=self.splits[indices],
            label_probs=pick(self.label_probs),
            folds=pick(self.folds),
            subjects=pick(self.subjects),
        )
        for known in self.__dict__.keys() & {"content_hashes", "mirrored_hashes"}:
            part.__dict__[known] = self.__dict__[known][indices]
        return part

    def split(self, *names: str) -> "Dataset":
        """Return the images of the named splits.

        Raises:
            InputError: the dataset has no image in one of them.
        """
        for name in names:
            if name not in self.splits:
                present = [split for split in SPLITS if split in self.splits]
                hint = f"it has {', '.join(present)}" if present else "distill.with_splits gives it one"
                if present and name == "test":
                    hint += "; training with --splits random --test-share 0.15 holds one out, by subject where known"
                raise InputError(f"{self.name} has no {name} split: {hint}")
        return self.subset(np.flatnonzero(Names.of(self.splits).isin(names)))


def _positions(indices: np.ndarray, count: int) -> np.ndarray:
    """Return positions, int [n] in -count..count-1 or a mask, as int64 [n] from 0 on, as sources count."""
    given = np.asarray(indices)
    if given.dtype == bool and given.shape == (count,):
        return np.flatnonzero(given)
    if given.size and given.dtype.kind not in "iu":
        raise IndexError(f"images are found by whole numbers, received {given.dtype}")
    given = given.astype(np.int64)
    outside = (given < -count) | (given >= count)
    if outside.any():
        raise IndexError(f"image {given[outside][0]} of {count}")
    return np.where(given < 0, given + count, given)


class Subset:
    """Some positions of another source; a subset of a subset goes straight to the source."""

    def __init__(self, source: ImageSource, indices: np.ndarray):
        if isinstance(source, Subset):
            indices, source = source.indices[indices], source.source
        indices = _positions(indices, len(source))
        self.source: ImageSource = source
        self.indices: np.ndarray = indices.astype(np.min_scalar_type(len(source)), copy=False)
        self.shape = source.shape

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, indices: np.ndarray) -> np.ndarray:
        return self.source.read(self.indices[indices].astype(np.int64))


def check_is_dataset(dataset: Any) -> None:
    """Refuse what is not a `Dataset`, and say what makes one.

    Raises:
        InputError: it is none.
    """
    if isinstance(dataset, Dataset):
        return
    of_tf_data = hasattr(dataset, "as_numpy_iterator")
    maker = "distill.Dataset.from_tf_data" if of_tf_data else "distill.Dataset.from_arrays, or distill.open_dataset,"
    raise InputError(f"expected a distill.Dataset, received {type(dataset).__name__}: {maker} makes one")


def _check_values(dataset: Dataset) -> None:
    """Refuse labels, splits and soft labels that would be taken for something else.

    Raises:
        InputError: one is none of those that `Dataset` names.
    """
    count, labels = dataset.num_classes, dataset.labels
    if len(labels) and not UNLABELLED <= labels.min() <= labels.max() < count:
        row = int(np.argmax((labels < UNLABELLED) | (labels >= count)))
        raise InputError(f"{dataset.name} row {row}: label {labels[row]}, expected -1..{count - 1}, -1 for none")
    unknown = {name for name in Names.of(dataset.splits).names if name in dataset.splits} - {*SPLITS, ""}
    if unknown:
        raise InputError(f'{dataset.name} has the split "{min(unknown)}", expected {", ".join(SPLITS)} or ""')
    if dataset.label_probs is not None:
        probs = np.asarray(dataset.label_probs)
        if probs.shape != (len(labels), count):
            raise InputError(f"{dataset.name} has label_probs {probs.shape}, expected ({len(labels)}, {count})")
        wrong = no_probabilities(probs) & (probs != 0).any(axis=1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"{dataset.name} row {row}: label_probs {probs[row].tolist()}, expected 0..1 that sum to 1"
            )


def _image_hashes(images: np.ndarray) -> np.ndarray:
    """Return the hash of each image, uint8 [n, 16]."""
    shape = repr(images.shape[1:]).encode()
    digests = [hashlib.blake2b(shape + image.tobytes(), digest_size=_HASH_BYTES).digest() for image in images]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, _HASH_BYTES)


def _label_column(labels: np.ndarray, *, of: str) -> np.ndarray:
    """Return labels, int [N], as int32."""
    given = np.asarray(labels)
    column = given.astype(np.int32, casting="same_kind", copy=False)
    if not np.array_equal(column, given):
        raise ValueError(f"Labels of {of} must be numbers of classes. Received: {given.min()}..{given.max()}")
    return column


def replace_splits(dataset: Dataset, splits: Any, policy: SplitPolicy | None = None) -> Dataset:
    """Return `dataset` with other splits, which came about by `policy`; hashes already known are kept."""
    split = replace(dataset, splits=splits, split_policy=policy)
    for known in dataset.__dict__.keys() & {"content_hashes", "mirrored_hashes", "fingerprint"}:
        split.__dict__[known] = dataset.__dict__[known]  # none depends on the splits
    return split


def with_class_names(dataset: Dataset, class_names: Sequence[str]) -> Dataset:
    """Return `dataset`, whose classes are known by name, with these classes in this order.

    Raises:
        InputError: a class of the data is not among them.
    """
    own = [canonical_name(name) for name in dataset.class_names]
    if not set(own) <= set(class_names):
        raise InputError(
            f"{dataset.name} has the classes {', '.join(own)}, expected some of {', '.join(class_names)}: "
            "omit --data-classes"
        )
    probs = None
    if dataset.label_probs is not None:
        probs = np.zeros((len(dataset), len(class_names)), np.float32)
        probs[:, [class_names.index(name) for name in own]] = dataset.label_probs
    return replace(
        dataset, labels=dataset.labels_among(class_names), class_names=tuple(class_names), label_probs=probs
    )
