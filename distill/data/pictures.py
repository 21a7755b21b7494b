"""Pictures: the formats that are opened, and the one way in which they are decoded, upright and in 8 bits."""

import os
import struct
import warnings
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from distill.errors import InputError
from distill.files.busy_files import cannot_read_now

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif",),
}
"""Pillow's name of a format -> suffixes. Files of these formats are opened, whatever their suffix says, and no
others: Pillow starts Ghostscript for EPS, whose files are programs, and lets Windows run WMF."""

IMAGE_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""By these the images of a folder are found."""

MAX_PIXELS = 50_000_000
_OPENED = tuple(name for name in FORMATS if name != "AVIF" or find_spec("PIL.AvifImagePlugin"))
_WIDTH, _HEIGHT, _ORIENTATION = 0x0100, 0x0101, 0x0112  # tags of EXIF and TIFF
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 0x0102, 0x0106, 0
_TURNED = (5, 6, 7, 8)  # orientations that swap height and width
_FIRST_IS_THE_PICTURE = ("MPO",)  # JPEG: what follows it are previews
_PNG_SIGNATURE_BYTES, _PNG_TEXTS = 8, (b"tEXt", b"zTXt", b"iTXt")
_PNG_EXIF_TEXTS = (b"Raw profile type", b"XML:com.adobe.xmp")
_GREY_MODES = ("1", "L", "LA", "I", "F")  # and "I;16" in its byte orders
_SIXTEEN_BITS_AS_32 = ("PNG", "PPM")  # of these Pillow gives 16 bits in mode "I"


class Header(NamedTuple):
    """What a picture is before it is decoded."""

    height: int
    """Of the picture as it is served, upright."""
    width: int
    grey: bool
    several: bool
    """It is animated, or has several pages: the first is served."""


def read_header(path: str | Path, content: IO[bytes] | None = None) -> Header:
    """Return what a picture's header says. Pixels are decoded only of PNG files with EXIF data, which may lie behind.

    Args:
        content: the picture, where it lies in no file of its own; `path` is then what messages call it.

    Raises:
        InputError: the file is not a picture of the `FORMATS`, or has more than `MAX_PIXELS` pixels.
    """
    try:
        with warnings.catch_warnings():  # MAX_PIXELS is stricter than Pillow's warning
            warnings.simplefilter("ignore")
            with Image.open(path if content is None else content, formats=_OPENED) as image:
                width, height = image.size
                if width * height <= MAX_PIXELS:
                    return _header(image)
    except Image.DecompressionBombError:
        pass
    except Exception as error:  # Pillow's readers raise many kinds
        raise unreadable(path, error, a_file=content is None) from error
    raise InputError(f"{path} has more than {MAX_PIXELS // 10**6} million pixels: scale it down first")


def decode(
    path: str | Path, content: bytes | None = None, *, grey: bool = False, side: int | None = None
) -> Image.Image:
    """Decode a picture, its first frame or page, upright as its EXIF data says.

    16-bit values are divided by 257; transparent pixels are laid over black.

    Args:
        content: the picture, where it lies in no file of its own; `path` is then what messages call it.
        side: what its shorter side need not exceed in pixels: a JPEG file is decoded at an eighth to the half of its
            size where that is enough, in a fraction of the time and the memory.

    Returns:
        An image of mode "L" where `grey`, else "RGB".

    Raises:
        InputError: the file is gone, damaged, or no picture of the `FORMATS`. The message names it.
    """
    try:
        with Image.open(path if content is None else BytesIO(content), formats=_OPENED) as image:
            if side is not None:
                image.draft(None, (side, side))
            return eight_bits(upright(image)).convert("L" if grey else "RGB")
    except Exception as error:  # Pillow's decoders raise many kinds
        raise unreadable(path, error, a_file=content is None) from error


def suffix_of(content: bytes, name: str) -> str:
    """Return the usual suffix of an encoded picture, such as ".jpg", by what it is; `name` is for the message.

    Raises:
        InputError: it is not a picture of the `FORMATS`.
    """
    try:
        with Image.open(BytesIO(content), formats=_OPENED) as image:
            return FORMATS["JPEG" if image.format == "MPO" else image.format or ""][0]
    except Exception as error:  # Pillow's readers raise many kinds
        raise unreadable(name, error, a_file=False) from error


def encode(pixels: np.ndarray) -> bytes:
    """Return an image, uint8 [height, width, 1 or 3], as a PNG file, which loses nothing."""
    png = BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(png, "PNG")
    return png.getvalue()


def upright(image: Image.Image) -> Image.Image:
    """Return the image turned and mirrored as its EXIF data says, which is then obeyed by no one else."""
    image.load()  # what is wrong with the pixels is not to be taken for what is wrong with EXIF
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a reader of damaged EXIF raises many kinds; viewers show such photos as they lie
        return image


def eight_bits(image: Image.Image) -> Image.Image:
    """Return the image in 8-bit grey, or in a mode that Pillow converts to RGB without loss of range."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray((np.asarray(image) / 257).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image.convert("RGBA"))
    return image


def check_range(image: Image.Image) -> None:
    """Check that `eight_bits` knows what black and white are in an image.

    Raises:
        ValueError: its pixels have 32 bits, or are those of a TIFF file that Pillow does not scale or invert.
    """
    if image.mode == "F" or (image.mode == "I" and image.format not in _SIXTEEN_BITS_AS_32):
        raise ValueError("what black and white are in pixels of 32 bits is not known: save it with 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})  # of TIFF
    bits = max(tags.get(_BITS, (8,)))
    if 8 < bits < 16:
        raise ValueError(f"pixels of {bits} bits are not scaled in this format: save it with 8 or 16 bits")
    if bits == 16 and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        raise ValueError("16-bit pixels, of which 0 is white, are not inverted: save it with 0 as black")


def unreadable(path: str | Path, error: Exception, *, a_file: bool = True) -> InputError:
    """Return what to raise where Pillow cannot read a picture; `path` may be no file, but what messages call it."""
    empty = a_file and os.path.exists(path) and not os.path.getsize(path)
    unknown = "it is empty" if empty else f"none of {', '.join(_OPENED)}"
    reason = unknown if isinstance(error, UnidentifiedImageError) else str(error)
    damaged = InputError(f"{path} cannot be read as an image ({reason}): replace or remove it")
    of_system = a_file or (isinstance(error, OSError) and error.errno is not None)
    return (cannot_read_now(error, path) if of_system else None) or damaged


def _header(image: ImageFile.ImageFile) -> Header:
    check_range(image)
    tags = getattr(image, "tag_v2", {})  # of TIFF, whose size Pillow gives turned or not, as its version has it
    width, height = tags.get(_WIDTH, image.width), tags.get(_HEIGHT, image.height)
    if _orientation(image) in _TURNED:
        width, height = height, width
    grey = image.mode in _GREY_MODES or image.mode.startswith("I;16")
    several = getattr(image, "is_animated", False) and image.format not in _FIRST_IS_THE_PICTURE
    return Header(height, width, grey, several)


def _orientation(image: ImageFile.ImageFile) -> int:
    if image.format == "PNG" and image.fp is not None and not _names_exif(image.fp):
        return 1
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged, see `upright`
        return 1


def _names_exif(png: IO[bytes]) -> bool:
    """Whether a PNG file has a chunk that may say an orientation. Pillow would decode the pixels to find out."""
    before = png.tell()
    png.seek(_PNG_SIGNATURE_BYTES)
    found = False
    while not found and len(head := png.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        start = png.read(min(length, 32)) if kind in _PNG_TEXTS else b""
        found = kind == b"eXIf" or start.startswith(_PNG_EXIF_TEXTS)
        png.seek(length - len(start) + 4, 1)  # the checksum, too
    png.seek(before)
    return found
