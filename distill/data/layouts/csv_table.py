"""Tables with a header, as spreadsheets and pandas write them: commas, semicolons or tabs, quoted or not."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from distill.data.packed_csv import open_csv
from distill.errors import InputError

_DELIMITERS = ",;\t|"
_HEADER_LETTERS, _LINE_LETTERS = 1_000_000, 10_000_000  # a line has some four letters for each pixel
_SHOWN, _SHOWN_LETTERS = 12, 30


def csv_header(path: Path) -> list[str]:
    """Return the column names in the first line of a file; an empty file has none."""
    line = _first_line(path)
    return [name.strip(' "') for name in _cells(line, _delimiter(line), f"{path} line 1")] if line else []


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Go through the rows below the header: the number of the line, and as many cells as the header has.

    Raises:
        InputError: a row with more or fewer cells. The message names the file and the line.
    """
    columns, delimiter = len(csv_header(path)), _delimiter(_first_line(path))
    with open_csv(path) as file:
        lines = iter(lambda: file.readline(_LINE_LETTERS + 1), "")  # a file of zeros has one line
        next(lines, None)
        for line, text in enumerate(lines, 2):
            if not text.strip():
                continue
            where = f"{path} line {line}"
            if len(text) > _LINE_LETTERS:
                raise InputError(f"{where} has more than {_LINE_LETTERS:,} letters: expected one face in a line")
            cells = _cells(text, delimiter, where)
            if len(cells) != columns:
                raise InputError(f"{where}: {len(cells)} columns, the header has {columns}")
            yield line, cells


def find_columns(path: Path, spellings: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return where each column stands that is there, whichever of its `spellings` it has, in any case.

    Raises:
        InputError: two columns mean the same.
    """
    header = csv_header(path)
    found: dict[str, int] = {}
    for meaning, names in spellings.items():
        columns = [column for column, name in enumerate(header) if name.lower() in names]
        if len(columns) > 1:
            both = " and ".join(header[column] for column in columns)
            raise InputError(f"{path} has the columns {both}, which may both be the {meaning}: remove all but one")
        if columns:
            found[meaning] = columns[0]
    return found


def listed(header: Sequence[str]) -> str:
    """Return column names for messages, the first of them where they are many."""
    more = f" and {len(header) - _SHOWN} more" if len(header) > _SHOWN else ""
    return ", ".join(name[:_SHOWN_LETTERS] or '""' for name in header[:_SHOWN]) + more


def _first_line(path: Path) -> str:
    with open_csv(path) as file:
        return file.readline(_HEADER_LETTERS).strip("\r\n ")


def _delimiter(header: str) -> str:
    return max(_DELIMITERS, key=header.count)  # the comma where there is none


def _cells(line: str, delimiter: str, where: str) -> list[str]:
    # Rows of pixels are long and hardly ever quoted; then a tenth of the time is enough.
    if '"' not in line:
        return [cell.strip() for cell in line.split(delimiter)]
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]
    except csv.Error as error:
        raise InputError(f"{where}: {error}") from error
