"""Shards: files of many images each, found by a folder, a pattern or the name of one of them, with their splits."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from glob import glob
from pathlib import Path
from typing import NamedTuple

from distill.data.image_files import is_visible
from distill.data.split_names import split_named, split_of_shard, what_works
from distill.errors import InputError
from distill.files.busy_files import reading

WILDCARDS = re.compile(r"[*?\[]")
"""What makes a pattern of a path."""
_OF = re.compile(r"(.*?)-(\d+)-of-(\d+)(.*)")
_OTHER_DATA = (".csv", ".csv.gz", ".csv.zip", ".npy", ".tar", ".parquet", ".tfrecord", ".tfrecords", ".tfrec")
_SHOWN = 3
IsShard = Callable[[str], bool]


class Shard(NamedTuple):
    """A file of many images."""

    path: str
    name: str
    """As ids begin: the path relative to the folder that was opened, without the format's suffix."""
    split: str
    """ "" where its name names none."""


class Shards(NamedTuple):
    """The files of a dataset, sorted by their names."""

    source: str
    """As it was given, for messages."""
    folder: str
    """Where they lie, or the folders of splits that they lie in."""
    files: tuple[Shard, ...]
    notes: tuple[str, ...]


def is_pattern(path: str | os.PathLike) -> bool:
    """Whether `path` is not a file, but a pattern with *, ? or [...] of several."""
    return bool(WILDCARDS.search(str(path))) and not os.path.exists(path)


def shard_paths(path: Path, is_shard: IsShard) -> list[str]:
    """Return the shards that `path` means, sorted: itself, those in a folder or in its folders of splits, or matches.

    A folder that holds data of other layouts, too, has none: which of them is meant is not known.
    """
    if is_pattern(path):
        return sorted(each for each in glob(str(path)) if is_shard(each) and os.path.isfile(each))
    if not path.is_dir():
        return [str(path)] if is_shard(path.name) and path.is_file() else []
    names = _names(path)
    if any(name.lower().endswith(_OTHER_DATA) and not is_shard(name) for name in names):
        return []
    inside = [f"{folder}/{name}" for folder in names if split_named(folder) for name in _names(path / folder)]
    return sorted(str(path / name) for name in (*names, *inside) if is_shard(name) and (path / name).is_file())


def find_shards(path: Path, is_shard: IsShard, suffix: re.Pattern) -> Shards:
    """Return the shards that `path` means, with what their names say.

    Args:
        is_shard: whether a file is of the format, by its name.
        suffix: of the format, which is no part of a shard's name.

    Raises:
        InputError: there are none, or names say the splits of some, but not of others.
    """
    folder = _folder(path)
    return named_shards(str(path), str(folder), shard_paths(path, is_shard), suffix)


def named_shards(source: str, folder: str, paths: Sequence[str], suffix: re.Pattern) -> Shards:
    """Return `paths`, which lie in `folder` or below, as shards.

    Raises:
        InputError: as `find_shards`.
    """
    if not paths:
        raise InputError(f"{source} holds no shards: expected files such as train-00000.tar")
    relative = [os.path.relpath(path, folder) if "://" not in path else path[len(folder) + 1 :] for path in paths]
    files = tuple(
        Shard(path, suffix.sub("", name), _split(name, suffix, path))
        for path, name in zip(paths, (Path(each).as_posix() for each in relative), strict=True)
    )
    unnamed = [shard.path for shard in files if not shard.split]
    if unnamed and len(unnamed) < len(files):
        named = next(shard.path for shard in files if shard.split)
        raise InputError(f"{named} is named as a split, {unnamed[0]} is not: {what_works()}, each or none")
    return Shards(source, folder, files, _missing(relative))


def _names(folder: Path) -> list[str]:
    with reading(folder):
        return [name for name in os.listdir(folder) if is_visible(name)]


def _folder(path: Path) -> Path:
    """Return the folder that names are relative to: that of a file, or the one before the first wildcard."""
    if path.is_dir():
        return path
    folder = path.parent
    while is_pattern(folder):
        folder = folder.parent
    return folder


def _split(name: str, suffix: re.Pattern, path: str) -> str:
    """Return the split that a shard's name or the folder that it lies in names."""
    folders = {split for folder in Path(name).parts[:-1] if (split := split_named(folder))}
    own = split_of_shard(suffix.sub("", Path(name).name), path)
    found = {*folders, own} - {""}
    if len(found) > 1:
        raise InputError(f"{path} is named as {' and '.join(sorted(found))}: rename the file or its folder")
    return next(iter(found), "")


def _missing(names: Iterable[str]) -> tuple[str, ...]:
    """Return a note where the names say that there should be more: "train-00000-of-00002"."""
    there: dict[tuple[str, str, str], set[int]] = {}
    for match in filter(None, map(_OF.fullmatch, names)):
        before, number, count, behind = match.groups()
        there.setdefault((before, count, behind), set()).add(int(number))
    lacking = [
        f"{int(count) - len(numbers):,} of {int(count):,} shards {before}-*-of-{count}{behind}"
        for (before, count, behind), numbers in there.items()
        if len(numbers) < int(count)
    ]
    more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
    return (f"not there: {', '.join(lacking[:_SHOWN])}{more}",) if lacking else ()
