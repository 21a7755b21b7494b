"""Files appear whole or not at all: they are written next to their target and renamed."""

import csv
import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from filelock import FileLock

_TOKEN, _LOCK = 8, ".lock"  # letters that tell unfinished files of one target apart; what their locks end with
_LONG = 200  # bytes of a name from which on an unfinished file's is shorter: file systems take 255
_MANY, _SECONDS = 1000, 60.0  # a folder of so many files is listed no more often than that, to find what was left
_listed: dict[Path, tuple[float, list[str]]] = {}
"""Large folder -> until when its hidden names, as of its last listing, will do."""
_one_at_a_time = threading.Lock()


@contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a path to write to; it replaces `path` when the block ends, and vanishes when the block fails.

    The temporary path has the suffix of `path`, so that libraries recognise the format, and lies in the same
    folder, which is created if need be, so that the rename cannot cross file systems. What a killed process has
    left of it goes when `path` is written again.

    Raises:
        OSError: it cannot be written; `filename` is `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _target_in_errors(path), _beside(path) as unfinished:
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))  # for its owner alone until whole
        yield unfinished
        unfinished.chmod(0o666 & ~_umask())
        with open(unfinished, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it replaces the folder `path` when the block ends, and vanishes when it fails.

    A folder that stands there is moved away a moment before the other is renamed: a kill in between leaves none.
    What a killed process has left of an unfinished one goes when `path` is written again.

    Raises:
        OSError: it cannot be written; `filename` is `path`, or a file within.
    """
    path = Path(path).resolve()  # "." and links mean the folder that they name
    path.parent.mkdir(parents=True, exist_ok=True)
    with _target_in_errors(path), _beside(path) as folder:
        unfinished = folder / "folder"
        unfinished.mkdir(parents=True)
        yield unfinished
        if path.is_dir():
            os.replace(path, folder / "earlier")  # goes with the temporary folder
        os.replace(unfinished, path)


def _unfinished(path: Path) -> str:
    """Return how the names of unfinished files that are to become `path` begin."""
    name = os.fsencode(path.name)
    return f".{path.name if len(name) <= _LONG else hashlib.sha256(name).hexdigest()}-"


def _suffix(path: Path) -> str:
    return path.suffix if len(path.suffix) <= _TOKEN else ""


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a new name next to `path`, for a file or a folder that is gone, or renamed, when the block ends.

    It is locked meanwhile: what lies there under such a name and is not locked, a killed process has left, and goes.
    """
    _sweep(path)
    unfinished = path.with_name(f"{_unfinished(path)}{token_hex(_TOKEN // 2)}{_suffix(path)}")
    lock = FileLock(_lock_of(unfinished), timeout=0)
    with suppress(OSError, NotImplementedError):  # no locks here: then nothing is ever swept
        lock.acquire()
    try:
        yield unfinished
    finally:
        _remove(unfinished)
        _release(lock)


def _sweep(path: Path) -> None:
    """Remove what killed processes have left of `path`."""
    begin = _unfinished(path)
    ours = re.compile(rf"({re.escape(begin)}[0-9a-z_]{{{_TOKEN}}}{re.escape(_suffix(path))})({re.escape(_LOCK)})?")
    hidden = (name for name in _hidden_in(path.parent) if name.startswith(begin))
    names = {found[1] for name in hidden if (found := ours.fullmatch(name))}  # each with its lock
    for unfinished in map(path.with_name, names):
        lock = FileLock(_lock_of(unfinished), timeout=0)
        try:
            lock.acquire()
        except (OSError, NotImplementedError):  # someone is writing it, or there are no locks here
            continue
        with suppress(OSError):
            _remove(unfinished)
        _release(lock)


def _hidden_in(folder: Path) -> list[str]:
    folder = folder.absolute()
    until, names = _listed.get(folder, (0.0, []))
    if time.monotonic() < until:
        return names
    every = os.listdir(folder)
    names = [name for name in every if name.startswith(".")]
    if len(every) >= _MANY:
        _listed[folder] = time.monotonic() + _SECONDS, names
    return names


def _lock_of(unfinished: Path) -> Path:
    return unfinished.with_name(f"{unfinished.name}{_LOCK}")


def _remove(unfinished: Path) -> None:
    if unfinished.is_dir():
        shutil.rmtree(unfinished)
    else:
        unfinished.unlink(missing_ok=True)


def _release(lock: FileLock) -> None:
    """Let go of a lock of this process and remove its file, which is there even if the system refused to lock it."""
    with suppress(OSError):
        os.unlink(lock.lock_file)
    lock.release()


@contextmanager
def _target_in_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        named = isinstance(error.filename, (str, os.PathLike))
        of_unfinished = named and Path(error.filename).name.startswith(_unfinished(path))
        if error.errno is not None and (error.filename is None or of_unfinished):
            error.filename = str(path)
        raise


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with atomic_file(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content`, whole or not at all."""
    with atomic_file(path) as unfinished:
        unfinished.write_bytes(content)


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `rows`, at least one, with the columns of them all as they come, whole or not at all.

    What a row lacks stays empty. Names of files that are no UTF-8 keep their bytes.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (
        atomic_file(path) as unfinished,
        open(unfinished, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=columns)
        writer.writeheader()
        writer.writerows({name: _no_formula(value) for name, value in row.items()} for row in rows)


def _no_formula(value: Any) -> Any:
    """Return a cell that no table program takes for a formula, which could do more than compute."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _umask() -> int:
    with _one_at_a_time:  # else a thread would take the 0 of another for the user's
        umask = os.umask(0)
        os.umask(umask)
    return umask
