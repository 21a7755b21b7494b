"""Files in object stores, by their URLs, through `fsspec`: s3://bucket/folder and the like."""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from distill.data.image_files import is_visible
from distill.data.shards import WILDCARDS
from distill.data.split_names import split_named
from distill.errors import InputError
from distill.extras import install_command
from distill.refusals import check_known, reason

SCHEMES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "memory": "fsspec",
}
"""Scheme of a URL -> the package that serves it. Others are refused: some of fsspec's run what they find."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)


def is_url(source: str) -> bool:
    """Whether `source` is written as a URL."""
    return _URL.fullmatch(source) is not None


def local_path(url: str) -> Path | None:
    """Return the path that file://PATH means; None of any other URL."""
    match = _URL.fullmatch(url)
    return Path(match[2]) if match and match[1].lower() == "file" else None


def list_files(url: str, is_wanted: Callable[[str], bool]) -> tuple[str, list[str]]:
    """Return the folder that names are relative to, and the wanted files that `url` means, sorted, as URLs.

    Args:
        url: of a file, a folder, whose folders of splits are looked into, or a pattern.

    Raises:
        InputError: a package, credentials or the bucket are missing; there is no such file or folder.
    """
    with _refused(url):
        files, root = _file_system(url)
        if WILDCARDS.search(root):
            folder, found = WILDCARDS.split(root)[0].rpartition("/")[0], files.glob(root)
        elif files.isfile(root):
            folder, found = root.rpartition("/")[0], [root]
        else:
            folder = root.rstrip("/")
            found = [path for path in files.find(folder, maxdepth=2) if _is_near(path[len(folder) + 1 :])]
        if not found:
            with suppress(FileNotFoundError):
                files.ls(folder)  # says why, where nobody may look: what has searched here leaves that out
            raise InputError(f"{url} does not exist, or holds nothing: look at its name and your credentials")
        names = sorted(path for path in found if is_wanted(path.rpartition("/")[2]))
        return files.unstrip_protocol(folder), [files.unstrip_protocol(path) for path in names]


def open_url(url: str) -> IO[bytes]:
    """Open a file to be read; it can be sought in.

    Raises:
        InputError: it is gone, or cannot be reached.
    """
    with _refused(url):
        files, path = _file_system(url)
        return files.open(path, "rb")


def read_ranges(url: str, starts: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
    """Return parts of a file, asked for at the same time.

    Raises:
        InputError: it is gone, or cannot be reached.
    """
    with _refused(url):
        files, path = _file_system(url)
        ends = [start + size for start, size in zip(starts, sizes, strict=True)]
        return files.cat_ranges([path] * len(ends), list(starts), ends, on_error="raise")


def read_if_there(url: str, *, at_most: int) -> bytes | None:
    """Return the content of a small file; None where there is none.

    Raises:
        InputError: it is larger, or cannot be reached.
    """
    with _refused(url):
        files, path = _file_system(url)
        if not files.isfile(path):
            return None
        if files.size(path) > at_most:
            raise InputError(f"{url} is larger than {at_most:,} bytes, which is more than such a file needs")
        return files.cat_file(path)


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Yield the path of a file on this machine: `path` itself, or for a while a copy of what a URL means."""
    if not is_url(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        with open_url(path) as source, copy.open("wb") as target, _refused(path):
            shutil.copyfileobj(source, target, 1 << 20)
        yield str(copy)


def _is_near(name: str) -> bool:
    """Whether a file lies in the folder itself, or in one of a split."""
    folder, _, file = name.rpartition("/")
    return is_visible(file) and (not folder or split_named(folder) is not None)


def _file_system(url: str) -> tuple[Any, str]:
    match = _URL.fullmatch(url)
    scheme = match[1].lower() if match else ""
    check_known(scheme, (*SCHEMES, "file"), what="scheme of a URL")
    if "::" in url:  # fsspec would take what follows for a file system within
        raise InputError(f"{url} is a chain of URLs: expected one")
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(scheme + url[len(scheme) :])
    except ImportError as error:
        package = "" if SCHEMES[scheme] == "fsspec" else f" {SCHEMES[scheme]}"
        raise InputError(f"{url} needs fsspec: {install_command('remote')}{package}") from error


@contextmanager
def _refused(url: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{url} is not there: look at the names of the bucket and the file") from error
    except Exception as error:  # of many libraries: no credentials, no permission, no network
        raise InputError(
            f"{url} cannot be reached ({reason(error)}): look at its name and your credentials"
        ) from error
