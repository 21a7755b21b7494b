"""The header that goes with exported logits, and a checksum that says whether both still belong together.

A header says which teacher scored which images. With rows that someone has changed since, or with those of another
file, it would be wrong, so it is taken only together with the rows that it was exported with.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import InputError
from distill.files.documents import parse_json
from distill.logit_store.exchange.logit_table import LogitTable
from distill.logit_store.header import LogitHeader
from distill.logit_store.store import LogitStore

MAX_HEADER_BYTES = 1_000_000

_WHAT = "header of an export"
_ROWS_AT_ONCE = 1024
_DIGEST_BYTES = 16


def header_document(store: LogitStore) -> dict[str, Any]:
    """Return the header as JSON-able values, with `format_version` and `checksum`: what an export writes.

    Features are not exported.
    """
    header = replace(store.header, features=())
    fields = {"format_version": header.format_version, **header.to_dict()}
    return {**fields, "checksum": _checksum(fields, store)}


def parse_document(text: str, name: str) -> dict[str, Any]:
    """Return the document that `text`, JSON, holds; `name` is what errors call it.

    Raises:
        InputError: it is something else.
    """
    document = parse_json(text, source=name, what=_WHAT)
    if not isinstance(document, dict):
        raise InputError(f"{name} holds a {type(document).__name__}: expected the {_WHAT}")
    return document


def checked_header(table: LogitTable, path: str | os.PathLike) -> LogitHeader:
    """Return the header of `table`, which `path` gave.

    Raises:
        InputError: another format version, other rows than it was exported with, or a header that is damaged.
    """
    fields = dict(table.header or {})
    checksum = fields.pop("checksum", None)
    version, known = fields.get("format_version"), LogitHeader.format_versions[0]
    if version != known:
        raise InputError(f"{path} has logit format version {version}, this program reads version {known}")
    if checksum != _checksum(fields, table):
        raise InputError(
            f"{path} does not hold the logits that its header was exported with: export it again, "
            "or remove the header to import it as logits of an unknown teacher"
        )
    header = LogitHeader.from_dict(fields, source=Path(path))
    columns = (table.logits.shape[1], table.class_names)
    if columns != (header.views, header.class_names):
        raise InputError(
            f"{path} holds {columns[0]} views of the classes {columns[1]}, "
            f"its header says {header.views} of {header.class_names}: export it again"
        )
    return header


def _checksum(fields: Mapping[str, Any], rows: LogitStore | LogitTable) -> str:
    """Return the checksum of a header and of rows in any order, in hexadecimal."""
    digests = []
    for start in range(0, len(rows.sample_ids), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        columns = (
            [sample_id.encode() for sample_id in rows.sample_ids[some].tolist()],
            np.ascontiguousarray(rows.content_hashes[some], "u1"),
            np.ascontiguousarray(rows.labels[some], "<i8"),
            np.ascontiguousarray(rows.logits[some], "<f4"),
        )
        for sample_id, *others in zip(*columns, strict=True):
            digests.append(_blake2b(b"\0".join([sample_id, b"".join(value.tobytes() for value in others)])))
    return _blake2b(json.dumps(fields, sort_keys=True).encode() + b"".join(sorted(digests))).hex()


def _blake2b(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
