"""TFRecord files of `tf.train.Example`, with the features that TensorFlow's own image datasets have.

https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.data.class_labels import ClassList
from distill.data.dataset import UNLABELLED, Dataset
from distill.data.expressions import canonical_name
from distill.data.packed_images import NO_LABEL, Found, Sample, gather, opened, with_classes_of
from distill.data.pictures import suffix_of
from distill.data.remote import local_copy
from distill.data.shards import Shard, Shards, find_shards, shard_paths
from distill.errors import InputError
from distill.files.busy_files import cannot_read_now
from distill.keras_import import import_tensorflow_quietly

if TYPE_CHECKING:
    import tensorflow as tf

SUFFIX = re.compile(r"\.tfrec(?:ords?)?(?=$|-\d+-of-\d+$)", re.IGNORECASE)
"""Of a name such as "train.tfrecord-00000-of-00010", too."""
PICTURE, LABEL, TEXT, SAMPLE_ID = "image/encoded", "image/class/label", "image/class/text", "image/sample_id"
_AROUND = 8 + 4, 4  # bytes of a record before its content, its length and their checksum; and behind, its checksum
_BATCH = 64  # records
_PACKINGS = {b"\x1f\x8b": "gzip", b"\x78\x9c": "zlib", b"\x78\x01": "zlib"}


def is_shard(name: str) -> bool:
    """Whether a file is called as one of TFRecord."""
    return bool(SUFFIX.search(name))


def recognise(path: Path) -> bool:
    """Whether `path` means files of TFRecord, by their names."""
    return bool(shard_paths(path, is_shard))


def read(path: Path, classes: ClassList | None = None) -> Dataset:
    """Read records; pictures stay in them, and are decoded when `Dataset.read` needs them.

    The feature "image/encoded" is the picture, "image/class/label" its class: -1 is none. What numbers mean is said
    by `classes`, by `classes.txt` next to the files, or by "image/class/text", the name of the class. Ids are file
    and number of the record, "train-00000/00042", or "image/sample_id". Splits are those that the files, or the
    folders that they lie in, are called by. Checksums are checked once, here.

    Raises:
        InputError: a file is truncated, packed or damaged, or a record is not a `tf.train.Example` with a picture; a
            number has two names; some have a label and others none; whatever `gather` refuses.
    """
    return read_shards(find_shards(path, is_shard, SUFFIX), classes)


def read_shards(shards: Shards, classes: ClassList | None = None) -> Dataset:
    """Read files that were found, wherever they lie; see `read`."""
    names = _Names()
    return gather(
        shards,
        lambda shard: _found(shard, names),
        with_classes_of(shards, classes),
        numbers=f"{LABEL} and no {TEXT}",
    )


def write(path: Path, samples: Iterable[Sample], class_names: tuple[str, ...]) -> None:
    """Write a file of records, the same bytes whenever it is written."""
    tf = import_tensorflow_quietly()
    with tf.io.TFRecordWriter(str(path)) as file:
        for sample in samples:
            features: dict[str, bytes | int] = {
                PICTURE: sample.content,
                "image/format": suffix_of(sample.content, sample.id).removeprefix(".").encode(),
                SAMPLE_ID: sample.id.encode(),
            }
            if class_names:
                features[LABEL] = sample.label
            if sample.label != UNLABELLED:
                features[TEXT] = class_names[sample.label].encode()
            file.write(_example(tf, features).SerializeToString(deterministic=True))


def _example(tf: Any, features: dict[str, bytes | int]) -> "tf.train.Example":
    feature = {
        name: tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        if isinstance(value, int)
        else tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=feature))


class _Names:
    """Which name goes with which number, where records say both."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}
        self._number: dict[str, str] = {}

    def label(self, number: str | None, text: str | None, where: str) -> str | None:
        """Return the label of a record: its name, or else its number."""
        if number in (None, NO_LABEL) or not text:
            return text or number
        name = canonical_name(text)
        for known, key, value in ((self._of, number, name), (self._number, name, number)):
            if known.setdefault(key, value) != value:
                raise InputError(
                    f"{where} has {LABEL} {number} and {TEXT} {name}, an earlier record {key} and {known[key]}"
                )
        return text


def _found(shard: Shard, names: _Names) -> Iterator[Found]:
    for number, (start, record) in enumerate(_records(shard.path)):
        key = f"{number:05d}"
        where = f"{shard.path}: record {number}"
        features = _features(record, where)
        picture = _value(features, PICTURE, "bytes_list", where)
        if not picture:
            raise InputError(f"{where} has no {PICTURE}: its features are {', '.join(sorted(features)) or 'none'}")
        label = _value(features, LABEL, "int64_list", where)
        text = _text(features, TEXT, where)
        written = names.label(None if label is None else str(label), text, where)
        yield Found(key, written, picture, start + record.index(picture), _text(features, SAMPLE_ID, where))


def _records(path: str) -> Iterator[tuple[int, bytes]]:
    """Go through the records of a file: where the content of each begins, and the content, its checksums checked."""
    with local_copy(path) as local:
        yield from _records_of(path, local)


def _records_of(path: str, local: str) -> Iterator[tuple[int, bytes]]:
    tf = import_tensorflow_quietly()
    before, behind = _AROUND
    end = 0
    try:
        for batch in tf.data.TFRecordDataset(local).batch(_BATCH).as_numpy_iterator():
            for record in batch:
                yield end + before, record
                end += before + len(record) + behind
    except tf.errors.OpError as error:
        damaged = InputError(f"{path} is not a whole TFRecord file ({_reason(local, error)}): write it again")
        raise cannot_read_now(error, local) or damaged from error
    with opened(local) as file:
        size = file.seek(0, 2)
    if size != end:  # a header that is cut off is taken for the end
        raise InputError(f"{path} is not a whole TFRecord file (its records end after {end:,} of {size:,} bytes)")


def _reason(path: str, error: Exception) -> str:
    with opened(path) as file:
        packing = _PACKINGS.get(file.read(2))
    return f"it is packed with {packing}" if packing else str(getattr(error, "message", error)).splitlines()[0]


def _features(record: bytes, where: str) -> Any:
    tf = import_tensorflow_quietly()
    try:
        return tf.train.Example.FromString(record).features.feature
    except Exception as error:  # protobuf's, whose module depends on its version
        raise InputError(f"{where} is not a tf.train.Example: expected one with {PICTURE}") from error


def _value(features: Any, name: str, kind: str, where: str) -> Any:
    """Return the one value of a feature; None where it is absent or empty."""
    if name not in features:
        return None
    values = getattr(features[name], kind).value
    if len(values) > 1 or (not values and features[name].WhichOneof("kind") not in (None, kind)):
        raise InputError(f"{where} has {len(values)} values of {kind} as {name}, expected one")
    return values[0] if values else None


def _text(features: Any, name: str, where: str) -> str | None:
    value = _value(features, name, "bytes_list", where)
    try:
        return value.decode().strip() if value else None
    except UnicodeDecodeError as error:
        raise InputError(f"{where} has a {name} that is not in UTF-8") from error
