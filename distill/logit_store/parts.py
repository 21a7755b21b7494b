"""A store in parts: what a writer has left in a folder, or several writers in several."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from distill.errors import InputError
from distill.files.busy_files import is_there
from distill.files.whole_files import atomic_file
from distill.logit_store.header import (
    LogitHeader,
    differences,
    feature_differences,
    has_all_of,
    has_more_than,
    training_differences,
    with_what_is_known,
)
from distill.logit_store.layout import COMMAND, PART, STORE, Columns, Extent, write_content
from distill.logit_store.reading import Content, read_blocks, read_content, read_header, read_logits
from distill.logit_store.stored_features import FeaturePlace
from distill.logit_store.stored_samples import read_samples, stored_differences

PART_FILES = "part-*.h5"
MERGE = "python -m distill.cache merge"


@dataclass(frozen=True)
class Shard:
    """Which share of the parts one of several writers writes: every `of`-th, beginning with `number` - 1.

    Raises:
        InputError: it is none of the shares.
    """

    number: int
    """1 to `of`."""
    of: int

    def __post_init__(self):
        if not 1 <= self.number <= self.of:
            raise InputError(f"a shard must be one of 1/{self.of} to {self.of}/{self.of}, received {self}")

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Return the shard that a text such as "2/4" means."""
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal()):
            raise InputError(f'a shard is written NUMBER/OF, such as 2/4, received "{text}"')
        return cls(int(number), int(of))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parts_folder(path: str | os.PathLike) -> Path:
    """Return where the parts of the store `path` lie until they are merged."""
    return Path(f"{path}.parts")


def part_path(folder: Path, rows: slice, rows_per_part: int) -> Path:
    """Return where the part of `rows` lies."""
    return folder / f"part-{rows.start // rows_per_part:05d}.h5"


def gather_parts(folders: Sequence[str | os.PathLike], *, merged_into: LogitHeader | None = None) -> list[Content]:
    """Read and check the parts of one store, wherever they lie; return them in the order of their rows.

    Equal parts in two folders count once. Those whose logits a store of `merged_into` holds count for nothing:
    a merge leaves them, and shards that add views or features write over them.

    Raises:
        InputError: no part, parts of different runs, rows that are missing or there twice with other logits,
            a part that shares some of its rows with the next one or ends within a block, or a damaged part.
    """
    paths = [path for folder in folders for path in sorted(Path(folder).glob(PART_FILES))]
    where = ", ".join(map(str, folders))
    if not paths:
        raise InputError(
            f"there are no parts of a logit store in {where}: expected folders with files {PART_FILES} that "
            f"{COMMAND} wrote; whole stores need no merge, several teachers are given as --logits A.h5 B.h5"
        )
    found: dict[int, Content] = {}
    for path in paths:
        part = read_content(path, kind=PART)
        if merged_into is not None and has_all_of(merged_into, part.header):
            continue
        _check_same_store(part, next(iter(found.values()), part))
        if _same_rows(found.setdefault(part.extent.first_row, part), part):
            continue
        raise InputError(
            f"{found[part.extent.first_row].path} and {path} hold other logits of the same rows: keep one"
        )
    parts = [found[first_row] for first_row in sorted(found)]
    if parts:
        _check_complete(parts, where)
    return parts


def header_of_all(parts: Sequence[Content]) -> LogitHeader:
    """Return the header of the store that `parts` make up."""
    return with_what_is_known(*(part.header for part in parts))


def merge_parts(folders: Sequence[str | os.PathLike], out: str | os.PathLike) -> Path:
    """Write the store whose parts lie in `folders`, and return `out`; the parts stay as they are.

    A store in the place of `out` is replaced by one that adds views or features to it, and by no other.

    Raises:
        InputError: the parts are not those of one whole store (see `gather_parts`), or `out` is something else
            already.
    """
    out = Path(out)
    stored = _content_to_replace(out) if is_there(out) else None
    parts = gather_parts(folders, merged_into=None if stored is None else stored.header)
    if stored is None:
        header = header_of_all(parts)
    else:
        header = header_of_all(parts) if parts else stored.header
        _check_adds(stored, header, parts)
        header = with_what_is_known(header, stored.header)
    blocks = (block for part in parts for block in read_blocks(part))
    with atomic_file(out) as temporary:
        write_store(temporary, header, blocks, extent=parts[0].extent, id_bytes=parts[0].id_bytes)
    return out


def remove_merged_parts(folder: Path, header: LogitHeader) -> None:
    """Remove the parts whose logits a store of `header` holds, and the folder, where it has no others."""
    for path in sorted(folder.glob(PART_FILES)):
        with suppress(InputError):  # what cannot be read is not known to be in the store
            if has_all_of(header, read_header(path, kind=PART)):
                path.unlink()
    if not any(folder.glob(PART_FILES)):
        shutil.rmtree(folder)


def write_store(path: Path, header: LogitHeader, blocks: Iterable[Columns], *, extent: Extent, id_bytes: int) -> None:
    """Write a whole store, of the same number of rows and rows in a block as one of its parts says."""
    rows: int = extent.store_rows  # type: ignore[assignment]  # parts that do not say it are not complete
    whole = Extent(first_row=0, rows=rows, rows_per_block=extent.rows_per_block, store_rows=rows)
    write_content(path, header, blocks, kind=STORE, extent=whole, id_bytes=id_bytes)


def _content_to_replace(out: Path) -> Content:
    try:
        return read_content(out, kind=STORE)
    except InputError as error:
        raise InputError(f"{out} is there already ({error}): choose another --out") from error


def _check_adds(stored: Content, header: LogitHeader, parts: Sequence[Content]) -> None:
    found = differences(stored.header, header, but=("views",)) + training_differences(stored.header, header)
    if parts and not found:
        samples = read_samples(parts, classes=len(header.class_names))
        found = stored_differences(stored, samples)
    if not has_more_than(header, stored.header):
        found += feature_differences(stored.header, header)
        found.append(f"views: stored {stored.header.views}, in the parts no others")
    if found:
        raise InputError(f"{stored.path} is there already ({'; '.join(found)}): choose another --out")


def _check_same_store(part: Content, other: Content) -> None:
    headers = part.header, other.header
    found = differences(*headers) + training_differences(*headers) + feature_differences(*headers)
    for name in ("store_rows", "rows_per_block"):
        stored, expected = getattr(part.extent, name), getattr(other.extent, name)
        if stored != expected:
            found.append(f"{name}: stored {stored}, expected {expected}")
    if part.id_bytes != other.id_bytes:
        found.append("sample_id: of other samples")
    if found:
        raise InputError(f"{part.path} and {other.path} are parts of different runs ({'; '.join(found)})")


def _same_rows(part: Content, other: Content) -> bool:
    return part is other or (
        np.array_equal(part.sample_checksums, other.sample_checksums)
        and np.array_equal(_logits(part), _logits(other))
        and all(map(_same_features, part.features, other.features))
    )


def _logits(part: Content) -> np.ndarray:
    return read_logits([part], part.extent.first_row + np.arange(part.extent.rows))


def _same_features(place: FeaturePlace, other: FeaturePlace) -> bool:
    return np.array_equal(place.read_span(0, place.rows), other.read_span(0, other.rows))


def _check_complete(parts: Sequence[Content], where: str) -> None:
    expected = parts[0].extent.store_rows
    if expected is None:
        raise InputError(f"the parts in {where} do not say how many there are: finish them with {COMMAND}")
    for part, following in pairwise(parts):
        _check_border(part, following)
    absent = [f"{gap.start} to {gap.stop - 1}" for gap in _gaps(parts, expected)]
    if absent:
        raise InputError(
            f"{where} lacks rows {', '.join(absent)} of {expected}: run {COMMAND} for what is missing, "
            f"or name every folder that has some: {MERGE} FOLDER FOLDER --out STORE"
        )


def _check_border(part: Content, following: Content) -> None:
    """Refuse a part that does not end where a block does, at or before the first row of the following one."""
    end, rows_per_block = part.extent.first_row + part.extent.rows, part.extent.rows_per_block
    if end > following.extent.first_row:
        raise InputError(
            f"{part.path} and {following.path} both hold row {following.extent.first_row}: remove one, and run "
            f"{COMMAND} for what is missing"
        )
    if end % rows_per_block:
        raise InputError(
            f"{part.path} ends with row {end - 1}, within a block of {rows_per_block} rows, which the last part "
            f"alone may: remove it, and run {COMMAND} for what is missing"
        )


def _gaps(parts: Sequence[Content], rows: int) -> Iterator[slice]:
    """Yield the rows that stand in no part; neighbouring ones together."""
    reached = 0
    for part in parts:
        if part.extent.first_row > reached:
            yield slice(reached, part.extent.first_row)
        reached = part.extent.first_row + part.extent.rows
    if reached < rows:
        yield slice(reached, rows)
