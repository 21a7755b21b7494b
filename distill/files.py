"""Files appear whole or not at all: they are written beside their target and renamed."""

import csv
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_beside(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to; it replaces `path` when the block ends, and vanishes when the block fails.

    The temporary path has the suffix of `path`, so that libraries recognise the format, and lies in the same
    folder, which is created if need be, so that the rename cannot cross file systems.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    unfinished = Path(unfinished)
    try:
        yield unfinished
        unfinished.chmod(0o666 & ~_umask())  # mkstemp lets only the owner read
        with open(unfinished, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with written_beside(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `rows`, at least one, with the columns of the last, whole or not at all."""
    with written_beside(path) as unfinished, open(unfinished, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[-1]))
        writer.writeheader()
        writer.writerows(rows)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
