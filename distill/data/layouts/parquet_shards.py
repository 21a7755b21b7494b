"""Parquet files with pictures in them, as image datasets of the Hugging Face Hub lie there.

https://huggingface.co/docs/datasets/about_dataset_features#image-feature
"""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from distill.data.class_labels import (
    ClassList,
    both_named,
    check_not_numbered_otherwise,
    numbered_classes,
)
from distill.data.columns import PickledTexts
from distill.data.dataset import Dataset
from distill.data.image_files import decoded
from distill.data.packed_images import Found, Index, Sample, gather, opened, with_classes_of
from distill.data.shards import Shard, Shards, find_shards, shard_paths
from distill.errors import InputError
from distill.extras import install_command
from distill.files.busy_files import cannot_read_now
from distill.files.documents import ClassNames, parse_json, parsed
from distill.refusals import reason

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet as pq

SUFFIX = re.compile(r"\.parquet$", re.IGNORECASE)
PICTURES, LABELS, SAMPLE_ID = ("image", "img"), ("label", "labels"), "sample_id"
"""What the columns are called, in the order in which they are looked for."""
ROW_GROUP = 100
"""Rows that are written, and read, at once: as many as `datasets` writes of images."""
_METADATA = b"huggingface"
_KEPT_BYTES = 64 * 2**20  # of row groups that were read last, and one at least
_BATCH = 64  # rows


@dataclass(frozen=True)
class _ClassLabel:
    """A feature of the metadata, if it has the names of classes."""

    names: ClassNames = ()


@dataclass(frozen=True)
class _Info:
    features: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Metadata:
    """What `datasets` writes into the schema."""

    info: _Info = field(default_factory=_Info)


class _Columns(NamedTuple):
    """The columns of a file that are read."""

    picture: str
    """Its bytes, such as "image.bytes"."""
    label: str | None
    sample_id: str | None


def is_shard(name: str) -> bool:
    """Whether a file is called as one of Parquet."""
    return bool(SUFFIX.search(name))


def recognise(path: Path) -> bool:
    """Whether `path` means Parquet files, by their names."""
    return bool(shard_paths(path, is_shard))


def read(path: Path, classes: ClassList | None = None) -> Dataset:
    """Read Parquet files; pictures stay in them, and are decoded when `Dataset.read` needs them.

    The column "image" or "img" holds encoded pictures, as bytes or as `datasets` has them, in a field "bytes"; the
    column "label" or "labels" the number of the class, or its name; -1 or nothing is none. What numbers mean is said
    by `classes`, by `classes.txt` next to the files, or by the metadata that `datasets` writes. Ids are file and
    row, "train-00000/00042", or a column "sample_id". Splits are those that the files, or the folders that they lie
    in, are called by. Files are read a row group at a time, and the last ones are kept.

    Raises:
        InputError: pyarrow is missing; a file is truncated or damaged, or lacks these columns; a picture is
            missing; some images have a label and others none; whatever `gather` refuses.
    """
    return read_shards(find_shards(path, is_shard, SUFFIX), classes)


def read_shards(shards: Shards, classes: ClassList | None = None) -> Dataset:
    """Read files that were found, wherever they lie; see `read`."""
    classes = _classes(shards.files, with_classes_of(shards, classes))
    return gather(shards, _found, classes, images=ParquetImages, numbers=" or ".join(LABELS))


def write(path: Path, samples: Iterable[Sample], class_names: tuple[str, ...]) -> None:
    """Write a Parquet file that `datasets` reads with its classes, with a checksum for each page."""
    pa, pq = _arrow()
    schema = _schema(pa, class_names)
    rows = iter(samples)
    with pq.ParquetWriter(path, schema, compression="none", write_page_checksum=True) as file:
        while group := list(islice(rows, ROW_GROUP)):
            columns: dict[str, list[Any]] = {"image": [{"bytes": sample.content, "path": None} for sample in group]}
            if class_names:
                columns["label"] = [sample.label for sample in group]
            columns[SAMPLE_ID] = [sample.id for sample in group]
            file.write_table(pa.Table.from_pydict(columns, schema=schema), row_group_size=ROW_GROUP)


def _schema(pa: Any, class_names: Sequence[str]) -> "pa.Schema":
    fields = [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))]
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if class_names:
        fields.append(("label", pa.int64()))
        features["label"] = {"names": list(class_names), "_type": "ClassLabel"}
    fields.append((SAMPLE_ID, pa.string()))
    features[SAMPLE_ID] = {"dtype": "string", "_type": "Value"}
    return pa.schema(fields, metadata={_METADATA: json.dumps({"info": {"features": features}})})


class ParquetImages:
    """Pictures in Parquet files, all served at one shape, as `ImageFiles` serves them.

    Nothing is held for an image, and a file's footer for each file. Images that are asked for together are read
    together, a row group at a time.
    """

    def __init__(self, index: Index, shape: tuple[int, int, int]):
        self.ids, self.shape = index.ids, shape
        self._groups: list[tuple[str, int]] = []
        starts = [0]
        for path in index.files:
            with _file(path) as file:
                for number in range(file.num_row_groups):
                    self._groups.append((path, number))
                    starts.append(starts[-1] + file.metadata.row_group(number).num_rows)
        if starts[-1] != len(index.ids):
            raise InputError(f"{index.files[0]} and the like hold {len(index.ids)} rows, and say {starts[-1]}")
        self._starts = np.array(starts)
        self._kept: OrderedDict[int, pa.Array] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "ids": PickledTexts.of(self.ids), "_kept": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({**state, "ids": state["ids"].texts, "_lock": threading.Lock()})

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Decode the images at `indices`: uint8 [n, height, width, channels].

        Raises:
            InputError: a file is gone, or holds something else than before. The message names it.
        """
        return decoded(self.encoded(indices), self.shape)

    def encoded(self, indices: np.ndarray) -> list[tuple[str, bytes]]:
        """Return what messages call the pictures at `indices`, and their bytes, as they are."""
        indices = np.asarray(indices)
        pictures: list[tuple[str, bytes]] = [("", b"")] * len(indices)
        of_group = np.searchsorted(self._starts, indices, side="right") - 1
        for number in np.unique(of_group):
            group, path = self._group(int(number)), self._groups[number][0]
            for row in np.flatnonzero(of_group == number).tolist():
                at = int(indices[row] - self._starts[number])
                content = group[at].as_py() if at < len(group) else None
                pictures[row] = (f"{path}: {self.ids[indices[row]]}", content or b"")
        return pictures

    def _group(self, number: int) -> "pa.Array":
        """Return the pictures of a row group, kept from before or read."""
        with self._lock:
            if number not in self._kept:
                path, group = self._groups[number]
                with _file(path) as file:
                    column = _columns(file, path).picture
                    self._kept[number] = _flat(file.read_row_group(group, columns=[column]).column(0))
                while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > _KEPT_BYTES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(number)
            return self._kept[number]


def _found(shard: Shard) -> Iterator[Found]:
    with _file(shard.path) as file:
        columns = _columns(file, shard.path)
        row = 0
        for batch in file.iter_batches(_BATCH, columns=[each for each in columns if each]):
            table = {name: batch.column(name.partition(".")[0]) for name in columns if name}
            pictures = _flat(table[columns.picture])
            for at in range(len(pictures)):
                key, content = f"{row:05d}", pictures[at].as_py()
                if not content:
                    raise InputError(
                        f"{shard.path}: row {row} has no picture, expected its bytes in {columns.picture}"
                    )
                label = "-1" if columns.label and not table[columns.label][at].is_valid else None
                if columns.label and label is None:
                    label = str(table[columns.label][at].as_py())
                sample_id = table[columns.sample_id][at].as_py() if columns.sample_id else None
                yield Found(key, label, content, sample_id=sample_id)
                row += 1


def _flat(column: Any) -> "pa.Array":
    """Return a column of pictures as an array of their bytes."""
    pa, _ = _arrow()
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column.field(0) if pa.types.is_struct(column.type) else column


def _columns(file: "pq.ParquetFile", path: str) -> _Columns:
    pa, _ = _arrow()
    schema = file.schema_arrow
    picture = next((name for name in PICTURES if name in schema.names), None)
    label = next((name for name in LABELS if name in schema.names), None)
    if picture is None:
        listed = ", ".join(schema.names[:12])
        raise InputError(f"{path} has no column {' or '.join(PICTURES)}, its columns are {listed}: expected pictures")
    kind = schema.field(picture).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        picture, kind = f"{picture}.bytes", kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(f"{path} holds {kind!s:.80} as {picture}, expected the bytes of encoded pictures")
    if label is not None and not _is_label(pa, schema.field(label).type):
        raise InputError(f"{path} holds {schema.field(label).type!s:.80} as {label}, expected whole numbers or names")
    sample_id = SAMPLE_ID if SAMPLE_ID in schema.names else None
    if sample_id is not None and not _is_text(pa, schema.field(sample_id).type):
        raise InputError(f"{path} holds {schema.field(sample_id).type!s:.80} as {sample_id}, expected text")
    return _Columns(picture, label, sample_id)


def _is_label(pa: Any, kind: Any) -> bool:
    return _is_text(pa, kind) or pa.types.is_integer(_plain(pa, kind))


def _is_text(pa: Any, kind: Any) -> bool:
    types, kind = pa.types, _plain(pa, kind)
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _plain(pa: Any, kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _classes(shards: Sequence[Shard], given: ClassList | None) -> ClassList | None:
    """Return the classes that somebody has named, or else the metadata of the files.

    Raises:
        InputError: two of them name classes, and not the same.
    """
    for shard in shards:
        with _file(shard.path) as file:
            names = _named(file, shard.path)
        if names:
            check_not_numbered_otherwise(names, shard.path)
            given = both_named(given, numbered_classes(names, shard.path))
    return given


def _named(file: "pq.ParquetFile", path: str) -> tuple[str, ...]:
    metadata: Mapping[bytes, bytes] = file.schema_arrow.metadata or {}
    label = _columns(file, path).label
    if _METADATA not in metadata or label is None:
        return ()
    what = "description of features"
    document = parse_json(metadata[_METADATA], source=path, what=what)
    feature = parsed(document, _Metadata, source=path, what=what).info.features.get(label)
    return parsed(feature, _ClassLabel, source=path, what=what).names if isinstance(feature, dict) else ()


@contextmanager
def _file(path: str) -> Iterator["pq.ParquetFile"]:
    """Open a file of Parquet, and refuse whatever is found wrong with it within the block."""
    pa, pq = _arrow()
    with opened(path) as file:
        try:
            yield pq.ParquetFile(file, page_checksum_verification=True)
        except (pa.ArrowException, OSError, ValueError, KeyError, IndexError) as error:
            damaged = InputError(f"{path} is not a whole Parquet file ({reason(error)}): write it again")
            raise cannot_read_now(error, path) or damaged from error


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"Parquet files need pyarrow: {install_command('parquet')}") from error
    return pyarrow, parquet
