"""`ImageFiles`: images that stay in their files and are decoded when asked for."""

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from distill.busy_files import cannot_read_now
from distill.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
MAX_PIXELS = 50_000_000
_GREY_MODES = ("1", "L", "LA", "I", "F")  # and "I;16" in its byte orders
_THREADS = min(4, os.cpu_count() or 1)  # Pillow decodes outside Python's global lock


class ImageFiles:
    """Images in files, all served at one shape.

    It holds the paths alone: what it needs of memory does not depend on the number of pixels. An image of
    another size is resized (bilinear, antialiased). Grey images have 1 channel where `shape` says so, else 3;
    16-bit values are divided by 257; transparent pixels are laid over black.
    """

    def __init__(self, paths: Sequence[str | Path], shape: tuple[int, int, int]):
        self.paths, self.shape = tuple(map(str, paths)), shape

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Decode the images at `indices`: uint8 [n, height, width, channels].

        Raises:
            InputError: a file is gone, truncated or no image. The message names it.
        """
        images = np.empty((len(indices), *self.shape), np.uint8)

        def decode_into(row: int) -> None:
            images[row] = _decode(self.paths[indices[row]], self.shape)

        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(decode_into, range(len(indices))):
                pass
        return images


def image_names(folder: Path) -> list[str]:
    """Return the names of the image files in a folder, as its system lists them; hidden ones are left out."""
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if is_visible(entry.name) and _is_image(entry)]


def is_visible(name: str) -> bool:
    """Whether a file or folder is part of the data, not one that a system keeps for itself."""
    return not name.startswith((".", "__MACOSX"))


def open_image_files(paths: Sequence[Path]) -> tuple[ImageFiles, tuple[str, ...]]:
    """Find the shape at which to serve image files, from their headers alone.

    The size is the most common one, of equally common ones the largest; there is one channel where every
    file is grey, else three.

    Returns:
        The images, and notes on those that will be resized or converted.

    Raises:
        InputError: a file is no image, or has more than `MAX_PIXELS` pixels.
    """
    headers = [read_header(path) for path in paths]
    sizes = Counter((height, width) for height, width, _ in headers)
    height, width = max(sizes, key=lambda size: (sizes[size], size[0] * size[1], size))
    coloured = sum(not grey for *_, grey in headers)
    notes = []
    if len(sizes) > 1:
        others = len(paths) - sizes[height, width]
        notes.append(f"{others} of {len(paths)} images have another size and are resized to {height}x{width}")
    if 0 < coloured < len(paths):
        notes.append(f"{coloured} of {len(paths)} images are in colour, so all are served as RGB")
    return ImageFiles(paths, (height, width, 3 if coloured else 1)), tuple(notes)


def _is_image(entry: os.DirEntry) -> bool:
    return entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file()


def read_header(path: Path) -> tuple[int, int, bool]:
    """Return height, width, and whether the image is grey, without decoding it.

    Raises:
        InputError: the file is no image, or has more than `MAX_PIXELS` pixels.
    """
    try:
        with warnings.catch_warnings():  # MAX_PIXELS is stricter than Pillow's warning
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                (width, height), mode = image.size, image.mode
    except Image.DecompressionBombError:
        width = height = MAX_PIXELS
    except Exception as error:  # Pillow's readers raise many kinds
        raise unreadable(path, error) from error
    if width * height > MAX_PIXELS:
        raise InputError(f"{path} has more than {MAX_PIXELS // 10**6} million pixels: scale it down first")
    return height, width, mode in _GREY_MODES or mode.startswith("I;16")


def _decode(path: str, shape: tuple[int, int, int]) -> np.ndarray:
    height, width, channels = shape
    try:
        with Image.open(path) as image:
            image = eight_bits(image).convert("L" if channels == 1 else "RGB")
    except Exception as error:  # Pillow's decoders raise many kinds
        raise unreadable(path, error) from error
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


def eight_bits(image: Image.Image) -> Image.Image:
    """Return the image in 8-bit grey, or in a mode that Pillow converts to RGB without loss of range."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray((np.asarray(image) / 257).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image.convert("RGBA"))
    return image


def unreadable(path: str | Path, error: Exception) -> InputError:
    """Return what to raise where Pillow cannot read a file."""
    damaged = InputError(f"{path} cannot be read as an image ({error}): replace or remove it")
    return cannot_read_now(error, path) or damaged
