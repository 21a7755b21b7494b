"""Photos: which files are meant, and their pixels, upright and in RGB."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from distill.data.image_files import IMAGE_SUFFIXES, eight_bits, image_names, read_header, unreadable
from distill.errors import InputError

_FIRST_IS_THE_PHOTO = ("MPO", "PSD")  # what follows it are previews and layers


def expand(names: Sequence[str | Path]) -> list[Path]:
    """Return the files that are meant: of a folder its images, by name, not those in folders within.

    What does not exist, and a folder without images, stands for itself, so that opening it says what is wrong.
    """
    files = []
    for path in (Path(name).expanduser() for name in names):
        within = sorted(image_names(path)) if path.is_dir() else []
        files += [path / name for name in within] or [path]
    return files


def open_photo(path: str | Path) -> np.ndarray:
    """Decode an image file of any format that Pillow knows, upright as its EXIF data says.

    16-bit values are divided by 257; transparent pixels are laid over black. Its header alone decides whether it is
    decoded.

    Returns:
        uint8 RGB [H, W, 3].

    Raises:
        InputError: it does not exist, is no image or an animated one, or has too many pixels.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise InputError(f"{path} is a folder without images ({', '.join(IMAGE_SUFFIXES)})")
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty: no image has 0 pixels")
    read_header(path)
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")  # what can be shown in spite of a flaw is shown
            return rgb_pixels(image, source=str(path))
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds
        raise unreadable(path, error) from error


def rgb_pixels(image: Image.Image, *, source: str = "the image") -> np.ndarray:
    """Return uint8 RGB [H, W, 3] of an image, upright as its EXIF data says.

    Raises:
        InputError: it is animated, or has several pages.
    """
    if getattr(image, "is_animated", False) and image.format not in _FIRST_IS_THE_PHOTO:
        raise InputError(f"{source} is animated, or has several pages: give one frame or a video")
    return np.asarray(eight_bits(_upright(image)).convert("RGB"))


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # what is wrong with the pixels is not to be taken for what is wrong with EXIF
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a reader of damaged EXIF raises many kinds; viewers show such photos as they lie
        return image
