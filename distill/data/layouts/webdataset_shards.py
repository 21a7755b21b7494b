"""WebDataset: tar archives in which files of one name but for the suffix are a sample: KEY.jpg with KEY.cls.

https://github.com/webdataset/webdataset
"""

import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

from distill.data.class_labels import ClassList
from distill.data.dataset import Dataset
from distill.data.image_files import MAX_BYTES, is_image_name, is_visible
from distill.data.packed_images import Found, Sample, gather, opened, with_classes_of
from distill.data.pictures import suffix_of
from distill.data.shards import Shard, Shards, find_shards, shard_paths
from distill.errors import InputError
from distill.files.documents import parse_json, parsed

SUFFIX = re.compile(r"\.tar$", re.IGNORECASE)
_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")  # everything behind the first dot is the suffix, as there
_BLOCK, _CHUNK = 512, 1 << 20
_PEEKED = 100  # members
_MAX_LABEL_BYTES = 1 << 16
_LABELS = ("cls", "json")


class _Member(NamedTuple):
    """A file in an archive."""

    key: str
    suffix: str
    offset: int
    size: int


@dataclass(frozen=True)
class _Described:
    """A .json file, as far as it is read."""

    label: int | str | None = None
    sample_id: str | None = None


@dataclass
class _Group:
    """The files of one key."""

    key: str
    pictures: list[_Member] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)


def is_shard(name: str) -> bool:
    """Whether a file is called as a tar archive; whether it is one of WebDataset, `recognise` finds out."""
    return bool(SUFFIX.search(name))


def recognise(path: Path) -> bool:
    """Whether `path` means tar archives, of which the first has labels, or cannot be read.

    Other archives of pictures, such as one of class folders, are none.
    """
    paths = shard_paths(path, is_shard)
    try:
        return bool(paths) and any(member.suffix in _LABELS for member in islice(_members_of(paths[0]), _PEEKED))
    except InputError:
        return True  # `read` says why


def read(path: Path, classes: ClassList | None = None) -> Dataset:
    """Read tar archives; pictures stay in them, and are decoded when `Dataset.read` needs them.

    A label stands in KEY.cls, or as "label" in KEY.json: a number, or the name of a class; -1 is none. What numbers
    mean is said by `classes`, or by `classes.txt` next to the archives. Ids are archive and key, "train-00000/0042",
    or "sample_id" in KEY.json. Splits are those that the archives, or the folders that they lie in, are called by.

    Raises:
        InputError: an archive is truncated, packed or damaged; a key has two pictures, or a label and no picture;
            some have a label and others none; whatever `gather` refuses.
    """
    return read_shards(find_shards(path, is_shard, SUFFIX), classes)


def read_shards(shards: Shards, classes: ClassList | None = None) -> Dataset:
    """Read archives that were found, wherever they lie; see `read`."""
    return gather(shards, _found, with_classes_of(shards, classes), numbers=".cls, and no label in .json")


def write(path: Path, samples: Iterable[Sample], class_names: tuple[str, ...]) -> None:
    """Write an archive of KEY.png (or .jpg, ...), KEY.cls and KEY.json, the same bytes whenever it is written."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for number, sample in enumerate(samples):
            described = json.dumps({"sample_id": sample.id}).encode()
            files = {suffix_of(sample.content, sample.id): sample.content, ".json": described}
            if class_names:
                files[".cls"] = str(sample.label).encode()
            for suffix, content in files.items():
                member = tarfile.TarInfo(f"{number:08d}{suffix}")
                member.size = len(content)
                tar.addfile(member, BytesIO(content))


def _found(shard: Shard) -> Iterator[Found]:
    with opened(shard.path) as file:
        for group in _groups(file, shard.path):
            name = f"{shard.path}: {group.key}"
            label, sample_id = _label(group, name)
            if len(group.pictures) > 1:
                suffixes = " and ".join(f".{member.suffix}" for member in group.pictures)
                raise InputError(f"{name} has the pictures {suffixes}: expected one for each key")
            if group.pictures:
                offset = group.pictures[0].offset
                yield Found(group.key, label, _content(file, group.pictures[0], shard.path), offset, sample_id)
            elif group.texts:
                raise InputError(
                    f"{name} has a label and no picture: expected {group.key}.jpg, .png or the like next to it"
                )


def _content(file: IO[bytes], member: _Member, path: str, *, at_most: int = MAX_BYTES) -> bytes:
    if member.size > at_most:
        raise InputError(
            f"{path}: {member.key}.{member.suffix} has {member.size:,} bytes, expected {at_most:,} at most"
        )
    file.seek(member.offset)
    content = file.read(member.size)
    if len(content) < member.size:
        raise InputError(
            f"{path} is not a whole tar archive (it ends within {member.key}.{member.suffix}): give it whole"
        )
    return content


def _groups(file: IO[bytes], path: str) -> Iterator[_Group]:
    group = _Group("")
    for key, suffix, offset, size in _members(file, path):
        if key != group.key:
            if group.key:
                yield group
            group = _Group(key)
        if is_image_name(f".{suffix}"):
            group.pictures.append(_Member(key, suffix, offset, size))
        elif suffix in _LABELS:
            group.texts[suffix] = _content(file, _Member(key, suffix, offset, size), path, at_most=_MAX_LABEL_BYTES)
    if group.key:
        yield group


def _label(group: _Group, name: str) -> tuple[str | None, str | None]:
    """Return the label of a key and its id, where they are written."""
    label, described = None, _Described()
    if "cls" in group.texts:
        try:
            label = group.texts["cls"].decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise InputError(f"{name}.cls is not text in UTF-8 ({error.reason}): save it as UTF-8") from error
    if "json" in group.texts:
        what = 'object with a "label"'
        document = parse_json(group.texts["json"], source=f"{name}.json", what=what)
        described = parsed(document, _Described, source=f"{name}.json", what=what)
    if described.label is None:
        return label, described.sample_id
    also = str(described.label).strip()
    if label not in (None, also):
        raise InputError(f'{name} has two labels, "{label:.80}" in .cls and "{also:.80}" in .json: omit one of them')
    return also, described.sample_id


def _members_of(path: str) -> Iterator[_Member]:
    with opened(path) as file:
        yield from _members(file, path)


def _members(file: IO[bytes], path: str) -> Iterator[_Member]:
    """Go through the files in an archive, which must be whole; hidden ones, folders and links are none."""
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # which would keep a kilobyte for each
                if member.size < 0 or member.offset_data < end:
                    raise tarfile.ReadError("a header leads backwards")
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                match = _NAME.fullmatch(member.name.removeprefix("./"))
                if match and member.isfile() and not member.issparse() and is_visible(match[0].rpartition("/")[2]):
                    yield _Member(match[1], match[2].lower(), member.offset_data, member.size)
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError) as error:
        raise InputError(f"{path} is not a whole tar archive ({error}): give it whole, and not packed") from error
    _check_end(file, end, path)


def _check_end(file: IO[bytes], end: int, path: str) -> None:
    """Refuse an archive that ends without saying so, or goes on behind its end: `tarfile` would be silent."""
    file.seek(end)
    rest = file.read(_CHUNK)
    if len(rest) < _BLOCK:
        raise InputError(f"{path} is not a whole tar archive (it ends after {end:,} bytes without a mark of its end)")
    while rest:
        if rest.count(0) < len(rest):
            raise InputError(
                f"{path} is damaged, or several archives in one: {end:,} bytes are read, and more follow"
            )
        rest = file.read(_CHUNK)
