"""A contact sheet: many small pictures side by side, in a block for each folder."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from distill.data.pictures import decode
from distill.files.whole_files import atomic_file

_SIDE, _COLUMNS, _ROWS, _HEADING = 72, 16, 6, 22  # pixels, pictures, rows of a folder, pixels
_FOLDERS = 100
_Item = TypeVar("_Item")


def contact_sheet(pictures: Sequence[tuple[str, Path]], path: Path) -> None:
    """Write a sheet of square pictures, of each folder as many as have room, and of many folders 100, evenly chosen.

    Args:
        pictures: name, whose folder is the heading, and file of each; at least one.
        path: of the sheet; its suffix says the format.
    """
    folders: dict[str, list[Path]] = {}
    for name, file in pictures:
        folders.setdefault(str(PurePosixPath(name).parent), []).append(file)
    blocks = [
        (_heading(folder, folders[folder]), _chosen(folders[folder], _COLUMNS * _ROWS))
        for folder in _chosen(sorted(folders), _FOLDERS)
    ]
    heights = [_HEADING + _SIDE * -(-len(files) // _COLUMNS) for _, files in blocks]
    sheet = Image.new("RGB", (_SIDE * _COLUMNS, sum(heights)), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for (heading, files), height in zip(blocks, heights, strict=True):
        draw.text((4, top + 3), heading, fill="black", font=ImageFont.load_default(_HEADING - 8))
        for number, file in enumerate(files):
            row, column = divmod(number, _COLUMNS)
            small = decode(file).resize((_SIDE - 2, _SIDE - 2), Image.Resampling.BILINEAR)
            sheet.paste(small, (_SIDE * column + 1, top + _HEADING + _SIDE * row + 1))
        top += height
    with atomic_file(path) as unfinished:
        sheet.save(unfinished)


def _heading(folder: str, files: Sequence[Path]) -> str:
    name = "" if folder == "." else f"{folder}: "
    return f"{name}{len(files):,} faces".encode("ascii", "replace").decode()


def _chosen(items: Sequence[_Item], room: int) -> list[_Item]:
    if len(items) <= room:
        return list(items)
    return [items[row] for row in np.linspace(0, len(items) - 1, room).round().astype(int)]
