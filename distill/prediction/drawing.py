"""Photos with what was found drawn into them."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from distill.errors import InputError
from distill.files.whole_files import atomic_file
from distill.prediction.fonts import Font, can_be_written, font_for
from distill.prediction.predictor import Face
from distill.refusals import reason

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp")
"""The formats that `save_picture` writes; a copy of a file of any other format is a .png."""

_LINE, _EDGE, _TEXT = (255, 214, 0), (0, 0, 0), (0, 0, 0)
_SMALLEST_SIDE = 320  # of a picture in which a label can be read, pixels
_SMALLEST_TEXT, _LARGEST_TEXT = 11, 1 / 16  # pixels, and the share of the picture's shorter side
_TEXT_PER_FACE = 1 / 8  # height of a label, in widths of its face
_JPEG_QUALITY = 92


def annotated(photo: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """Return a copy of `photo` with a box about each face and its expression with its probability.

    Boxes are drawn from their edge outwards, labels above them or where there is room, on a ground of their own. A
    photo too small for labels is enlarged by a whole number. Where no font has the letters of a class, its number is
    written in place of its name, counted from 0.

    Args:
        photo: uint8 RGB [H, W, 3].

    Returns:
        uint8 RGB [k H, k W, 3].
    """
    scale = max(1, math.ceil(_SMALLEST_SIDE / max(photo.shape[:2])))
    image = Image.fromarray(photo)
    if scale > 1:
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    boxes = [tuple(scale * edge for edge in face.box) for face in faces]
    line = max(2, round(min(image.size) / 200))
    for box in boxes:
        _draw_box(draw, box, line)
    for box, face in zip(boxes, faces, strict=True):
        _draw_label(draw, image.size, box, f"{_label(face)} {face.probability:.0%}", line)
    return np.asarray(image)


def cannot_be_written(class_names: Sequence[str]) -> list[str]:
    """Return those names that no font here has the letters of."""
    return [name for name in class_names if not can_be_written(name)]


def _label(face: Face) -> str:
    """Return the class of a face, by its name where that can be written."""
    name = face.expression
    return name if can_be_written(name) else f"class {list(face.probabilities).index(name)}"


def save_picture(picture: np.ndarray, path: Path) -> None:
    """Write uint8 RGB [H, W, 3], whole or not at all; the suffix of `path` is the format.

    Raises:
        InputError: it is larger than the format allows.
        OSError: it cannot be written; `filename` is `path`.
    """
    with atomic_file(path) as unfinished:
        try:
            Image.fromarray(picture).save(unfinished, quality=_JPEG_QUALITY)
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None) is not None:
                raise
            height, width = picture.shape[:2]
            raise InputError(
                f"{path} cannot be written, {width} x {height} pixels as {path.suffix} ({reason(error)}): "
                "scale the photo down, or end its name in .png"
            ) from error


def _draw_box(draw: ImageDraw.ImageDraw, box: tuple[int, ...], line: int) -> None:
    """Outline `box` (right and bottom exclusive) by a bright line between two dark ones."""
    left, top, right, bottom = box
    for colour, away, width in ((_EDGE, line + 2, line + 2), (_LINE, line + 1, line)):
        draw.rectangle((left - away, top - away, right - 1 + away, bottom - 1 + away), outline=colour, width=width)


def _draw_label(draw: ImageDraw.ImageDraw, size: tuple[int, int], box: tuple[int, ...], text: str, line: int) -> None:
    """Write `text` above `box`, below it, or in it, whichever first lies within the picture."""
    left, top, right, bottom = box
    font = _font(draw, text, width=right - left, size=size)
    text_left, text_top, text_right, text_bottom = draw.textbbox((0, 0), text, font=font)
    pad = max(2, line)
    width, height = (math.ceil(side) + 2 * pad for side in (text_right - text_left, text_bottom - text_top))
    outside = line + 2
    above, below = top - outside - height, bottom + outside
    y = above if above >= 0 else below if below + height <= size[1] else top
    x = max(0, min(left - outside, size[0] - width))
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=_LINE, outline=_EDGE)
    draw.text((x + pad - text_left, y + pad - text_top), text, fill=_TEXT, font=font)


def _font(draw: ImageDraw.ImageDraw, text: str, *, width: int, size: tuple[int, int]) -> Font:
    """A font in proportion to a face of `width` pixels, and small enough for `text` to fit into the picture."""
    height = min(max(_SMALLEST_TEXT, width * _TEXT_PER_FACE), max(_SMALLEST_TEXT, min(size) * _LARGEST_TEXT))
    font = font_for(text, height)
    length = draw.textlength(text, font=font)
    room = 0.95 * size[0]
    return font if length <= room else font_for(text, max(1, height * room / length))
