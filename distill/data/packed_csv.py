"""CSV files, plain or packed: `.csv`, `.csv.gz` and `.csv.zip`."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

from distill.errors import InputError

PACKINGS = ("", ".gz", ".zip")
_NOT_DATA = ("__MACOSX", ".")
_ENCRYPTED, _SHOWN = 0x1, 5


def is_csv(path: Path) -> bool:
    """Whether `path` is a file named as a CSV file, packed or not."""
    return path.name.lower().endswith(tuple(f".csv{packing}" for packing in PACKINGS)) and path.is_file()


@contextmanager
def open_csv(path: Path, *, newline: str | None = None) -> Iterator[TextIO]:
    """Open a CSV file to be read as UTF-8, with or without a byte order mark; it is unpacked while it is read.

    Args:
        newline: as `open` takes it.

    Raises:
        InputError: the packing is damaged, encrypted, or holds no CSV file or several; within the block, too.
    """
    try:
        with path.open("rb") as packed, _unpacked(packed, path) as content:
            yield io.TextIOWrapper(content, encoding="utf-8-sig", errors="replace", newline=newline)
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"{path} cannot be unpacked ({error}): pack it again, or unpack it") from error


@contextmanager
def _unpacked(packed: IO[bytes], path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        with gzip.open(packed) as content:
            yield content
    elif suffix == ".zip":
        with zipfile.ZipFile(packed) as archive, archive.open(_only_csv(archive, path)) as content:
            yield content
    else:
        yield packed


def _only_csv(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    files = [each for each in archive.infolist() if each.filename.lower().endswith(".csv")]
    files = [each for each in files if not each.filename.startswith(_NOT_DATA)]
    if len(files) != 1:
        found = ", ".join(archive.namelist()[:_SHOWN]) or "nothing"
        raise InputError(f"{path} holds {len(files)} .csv files, expected one, found {found}")
    if files[0].flag_bits & _ENCRYPTED:
        raise InputError(f"{path} is encrypted: unpack it first")
    return files[0]
