"""Logit stores to and from the files of others: NumPy's `.npz`, CSV, and published pickles."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill.data.class_order import GIVEN, KNOWN
from distill.data.dataset import UNLABELLED
from distill.data.expressions import CLASS_ORDERS, canonical_name, parse_class_names
from distill.errors import InputError
from distill.files.busy_files import reading
from distill.logit_store.exchange.csv_logits import read_csv_logits, write_csv_logits
from distill.logit_store.exchange.exported_header import checked_header
from distill.logit_store.exchange.logit_table import (
    LogitTable,
    check_no_index,
    checked_raw_logits,
    header_of_unknown,
    write_table,
)
from distill.logit_store.exchange.npz_logits import MAX_BYTES, read_npz_logits, write_npz_logits
from distill.logit_store.exchange.pickled_logits import import_pickled_logits
from distill.logit_store.store import LogitStore
from distill.refusals import flag


class _Format(NamedTuple):
    write: Callable[[LogitStore, str | os.PathLike], None]
    read: Callable[[str | os.PathLike], LogitTable]


FORMATS = {
    ".npz": _Format(write_npz_logits, read_npz_logits),
    ".csv": _Format(write_csv_logits, read_csv_logits),
}
PICKLES = (".pickle", ".pkl")


def export_logits(store: LogitStore, path: str | os.PathLike) -> None:
    """Write all that `store` holds to a file that NumPy or a table program reads; `import_logits` brings it back.

    - `X.npz`: the arrays logits, float32 [N, V, C], sample_id, content_hash, label, class_names, and header (JSON).
    - `X.csv`: the columns sample_id, view, label (the class, or empty), content_hash (hexadecimal), and one for each
      class; a line for each view. The header lies next to it, as `X.header.json`.

    The header has a checksum of itself and of the rows.

    Raises:
        InputError: another suffix, or a class whose name cannot be that of a column.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f'{path} has the suffix "{suffix}": logits are exported to {" or ".join(FORMATS)}')
    FORMATS[suffix].write(store, path)


def import_logits(
    path: str | os.PathLike,
    out: str | os.PathLike,
    *,
    classes: str | None = None,
    teacher_name: str | None = None,
    teacher_input_shape: tuple[int, int, int] | None = None,
) -> LogitStore:
    """Write the logits of another file as a logit store, and open it.

    What `export_logits` wrote comes back as an equal store, bit for bit. Any other `.npz` needs the arrays `logits`,
    [N, C] or [N, 1, C], and `sample_id`; any other `.csv` the column `sample_id` and one for each class; labels and
    content hashes may be with them. Then the teacher is known by the file alone, and there is one view, the untouched
    image. A pickle is what `import_pickled_logits` says.

    Args:
        path: `.npz`, `.csv`, `.pickle` or `.pkl`; raw logits at temperature 1.
        out: path of the `.h5` file.
        classes: a row of `CLASS_ORDERS`, or names with commas between: the order of the logits, where the file does
            not name them, or only numbers them, from 0 or 1 on and in any order. "microexpnet" for pickles, if it is
            not given.
        teacher_name: by default the name of the file, without its suffix.
        teacher_input_shape: height, width and channels of what the teacher saw. By default `UNKNOWN_SHAPE`, and
            what `import_pickled_logits` says for pickles.

    Raises:
        InputError: the file is something else, too large, or damaged; an id that comes twice; a view that is
            missing; logits that are probabilities or not finite; classes that are unknown, are numbered with gaps, or
            differ from those in the file; a setting that the header of an exported file already gives; or `out` holds
            something else.
    """
    settings = {"classes": classes, "teacher_name": teacher_name, "teacher_input_shape": teacher_input_shape}
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    suffix = _checked_suffix(path)
    if suffix in PICKLES:
        return import_pickled_logits(path, out, **given)
    with reading(path):
        table = FORMATS[suffix].read(path)
    if table.header is None:
        return _import_unknown(table, path, out, **given)
    if given:
        flags = ", ".join(f"--{flag(name)}" for name in given)
        raise InputError(f"{path} was exported from a logit store and has a header that says all: omit {flags}")
    return write_table(table, checked_header(table, path), out)


def _checked_suffix(path: str | os.PathLike) -> str:
    path = Path(path)
    suffix, known = path.suffix.lower(), (*FORMATS, *PICKLES)
    if suffix not in known:
        raise InputError(f'{path} has the suffix "{suffix}": logits are imported from {", ".join(known)}')
    if not path.is_file():
        raise InputError(f"{path} is not a file: expected logits in {', '.join(known)}")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES:,} bytes: give its logits in several files")
    return suffix


def _import_unknown(
    table: LogitTable, path: str | os.PathLike, out: str | os.PathLike, classes: str | None = None, **teacher: Any
) -> LogitStore:
    """Write logits of which only the file is known."""
    views = table.logits.shape[1]
    if views > 1:
        raise InputError(
            f"{path} holds {views} views of each sample, but not how they were drawn: "
            "give those of the untouched image alone, or what was exported from a logit store, with its header"
        )
    table = _in_order_of_numbers(table, path)
    header = header_of_unknown(
        path,
        class_names=_class_names(table, path, classes),
        class_order=GIVEN if classes is not None else KNOWN,
        logits_dtype="float16" if table.logits.dtype.itemsize == 2 else "float32",
        **teacher,
    )
    logits = checked_raw_logits(table.logits, table.sample_ids, path)
    return write_table(replace(table, logits=logits), header, out)


def _in_order_of_numbers(table: LogitTable, path: str | os.PathLike) -> LogitTable:
    """Return a table whose classes are numbered with them in order, and without names; any other as it is."""
    names = [name.strip() for name in table.class_names or ()]
    if not names or not all(map(str.isdigit, names)):
        return table
    numbers = [name.lstrip("0") or "0" for name in names]
    first = 0 if "0" in numbers else 1
    ascending = [str(first + place) for place in range(len(numbers))]
    if sorted(numbers) != sorted(ascending):
        count = len(numbers)
        raise InputError(
            f"{path} numbers its {count} classes {', '.join(names):.80}: "
            f"expected 0..{count - 1} or 1..{count}, each once and in any order, or names"
        )
    columns = [numbers.index(number) for number in ascending]
    labels = np.where(table.labels == UNLABELLED, UNLABELLED, np.argsort(columns)[table.labels])
    return replace(table, logits=table.logits[..., columns], labels=labels, class_names=None)


def _class_names(table: LogitTable, path: str | os.PathLike, classes: str | None) -> tuple[str, ...]:
    """Return the project's spelling of what the file, or the user, calls the classes."""
    count = table.logits.shape[-1]
    if count < 2:
        raise InputError(f"{path} holds one logit of each sample, expected one for each of two classes or more")
    check_no_index(table.class_names or (), path)
    named = tuple(map(canonical_name, table.class_names or ()))
    if not named and classes is None:
        orders = ", ".join(CLASS_ORDERS)
        raise InputError(f"{path} does not name its {count} classes: give --classes, one of {orders}, or the names")
    if len(set(named)) < len(named) or not all(name and name.isprintable() for name in named):
        raise InputError(
            f"{path} names the classes {', '.join(map(repr, named))}: expected a name each, and each once"
        )
    wanted = parse_class_names(classes) if classes is not None else named
    if named and wanted != named:
        raise InputError(f"{path} names the classes {', '.join(named)}: omit --classes {classes}")
    if len(wanted) != count:
        raise InputError(
            f"{path} holds {count} logits of each sample, expected {len(wanted)} ({', '.join(wanted)}): "
            "name other classes with --classes"
        )
    return wanted
