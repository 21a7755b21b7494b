"""Logits that someone pickled, such as MicroExpNet's teacher logits, become a logit store."""

import os
from typing import Any

import numpy as np

from distill.data.class_order import ASSUMED, GIVEN
from distill.data.expressions import CLASS_ORDERS, parse_class_names
from distill.errors import InputError
from distill.logit_store.exchange.logit_table import (
    LogitTable,
    checked_ids,
    checked_raw_logits,
    header_of_unknown,
    write_table,
)
from distill.logit_store.exchange.plain_pickle import read_plain_pickle
from distill.logit_store.store import LogitStore

_EXPECTED = "expected a dictionary of path -> list of floats, one raw logit for each class"


def import_pickled_logits(
    path: str | os.PathLike,
    out: str | os.PathLike,
    *,
    classes: str | None = None,
    teacher_name: str | None = None,
    teacher_input_shape: tuple[int, int, int] = (224, 224, 3),
) -> LogitStore:
    """Write the logits that someone pickled as a logit store of one view, the untouched image.

    The paths become the sample ids as they stand. Labels and pixels are unknown; `LogitStore.join` says how
    such a store meets a dataset. A finished store of the same pickle is opened as it is.

    Args:
        path: a pickled dictionary of path -> list of C floats: raw logits at temperature 1.
        out: path of the `.h5` file.
        classes: a row of `CLASS_ORDERS`, or names with commas between: the order of the C logits. A pickle does not
            say it: by default that of the published one, "microexpnet", which the store then says is assumed.
        teacher_name: by default the name of the pickle, without its suffix.
        teacher_input_shape: height, width and channels of what the teacher saw.

    Raises:
        InputError: no such classes, a pickle of something else, or of another number of classes, logits
            that are probabilities or not finite; or `out` holds something else.
    """
    class_names = parse_class_names(classes or "microexpnet")
    table = _table(read_plain_pickle(path), path, class_names)
    header = header_of_unknown(
        path,
        class_names=class_names,
        class_order=ASSUMED if classes is None else GIVEN,
        teacher_name=teacher_name,
        teacher_input_shape=teacher_input_shape,
    )
    return write_table(table, header, out)


def _table(value: Any, path: str | os.PathLike, class_names: tuple[str, ...]) -> LogitTable:
    """Return the rows of a dictionary that came out of `path`."""
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}: {_EXPECTED}")
    if not value:
        raise InputError(f"{path} holds an empty dictionary: {_EXPECTED}")
    for key in value:
        if not isinstance(key, str):
            raise InputError(f"{path} holds the key of type {type(key).__name__}: expected paths")
    ids = checked_ids(list(value), path)
    for sample_id, row in value.items():
        _check_row(sample_id, row, path, class_names)
    logits = np.array(list(value.values()), np.float64)[:, None]
    return LogitTable(sample_ids=ids, logits=checked_raw_logits(logits, ids, path))


def _check_row(sample_id: str, row: Any, path: str | os.PathLike, class_names: tuple[str, ...]) -> None:
    if not isinstance(row, (list, tuple)) or not all(type(number) is float for number in row):
        raise InputError(f"{path} holds something else than a list of floats for {sample_id!r}: {_EXPECTED}")
    if len(row) != len(class_names):
        raise InputError(
            f"{path} holds {len(row)} logits for {sample_id!r}, expected {len(class_names)} "
            f"({', '.join(class_names)}): name another order of classes with --classes ({', '.join(CLASS_ORDERS)})"
        )
