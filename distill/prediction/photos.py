"""Photos: which files are meant, and their pixels, upright and in RGB."""

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from distill.data.image_files import image_names, is_visible
from distill.data.pictures import IMAGE_SUFFIXES, check_range, decode, eight_bits, read_header, upright
from distill.errors import BusyError, InputError
from distill.files.busy_files import is_there, reading
from distill.files.home import expanded
from distill.files.regular_files import check_regular
from distill.refusals import reason


def expand(names: Sequence[str | Path], *, recursive: bool = False) -> list[Path]:
    """Return the files that are meant: of a folder its images by name, with `recursive` also those in folders within.

    What does not exist, and a folder without images, stands for itself, so that opening it says what is wrong.
    """
    files = []
    for path in (expanded(name) for name in names):
        folders = [path, *(folders_in(path) if recursive else ())] if os.path.isdir(path) else []
        files += sorted(image for folder in folders for image in _images_in(folder)) or [path]
    return files


def _images_in(folder: Path) -> list[Path]:
    """Return the images of a folder; where it cannot be read it stands for itself, so that opening it says why."""
    try:
        with reading(folder):
            return [folder / name for name in image_names(folder)]
    except BusyError:
        return [folder]


def folders_in(folder: Path) -> Iterator[Path]:
    """Yield all visible folders below `folder`."""
    for within, names, _ in os.walk(folder):
        names[:] = sorted(name for name in names if is_visible(name))
        yield from (Path(within, name) for name in names)


def open_photo(path: str | Path) -> np.ndarray:
    """Decode an image file as datasets are decoded, its first frame or page, upright as its EXIF data says.

    16-bit values are divided by 257; transparent pixels are laid over black. Its header alone decides whether it is
    decoded.

    Returns:
        uint8 RGB [H, W, 3].

    Raises:
        InputError: it does not exist, is no image of the formats that are opened, or has too many pixels.
    """
    path = expanded(path)
    with reading(path):
        if path.is_dir():
            image_names(path)
            within = ": those in folders within are looked at with --recursive"
            hint = within if any(map(_images_in, folders_in(path))) else f" ({', '.join(IMAGE_SUFFIXES)})"
            raise InputError(f"{path} is a folder without images{hint}")
        if not is_there(path):
            raise InputError(f"{path} does not exist")
    check_regular(path)
    read_header(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what can be shown in spite of a flaw is shown
        return np.asarray(decode(path))


def rgb_pixels(image: Image.Image) -> np.ndarray:
    """Return uint8 RGB [H, W, 3] of an image that was opened elsewhere, upright as its EXIF data says.

    Raises:
        InputError: its pixels have 32 bits, cannot be read, or cannot be converted.
    """
    mend = "give it in mode L or RGB, of 0 (black) to 255 (white)"
    try:
        check_range(image)
        return np.asarray(eight_bits(upright(image)).convert("RGB"))
    except Exception as error:  # Pillow's decoders raise many kinds
        raise InputError(f"an image of mode {image.mode} cannot be read ({reason(error)}): {mend}") from error
