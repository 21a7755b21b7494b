"""`ImageFiles`: images that stay in their files and are decoded when they are read."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shlex import quote

import numpy as np
from PIL import Image

from distill.data.pictures import IMAGE_SUFFIXES, Header, decode, read_header
from distill.files.regular_files import read_regular

_OF_WINDOWS = ("thumbs.db", "desktop.ini")
_SHOWN = 5
MAX_SIDE = 512
"""Pixels of the longer side at which pictures are served at most: twice what the largest networks take."""
MAX_BYTES = 1 << 30
"""Of an encoded picture."""
_FEW = 10  # a size that one of so many images has, or more, is what they were meant to have
_THREADS = min(4, os.cpu_count() or 1)  # Pillow decodes outside Python's global lock


class ImageFiles:
    """Images in files, all served at one shape.

    It holds the paths alone: what it needs of memory does not depend on the number of pixels. An image of
    another size is resized (bilinear, antialiased); a JPEG photo is shrunk while it is decoded. Grey images have
    1 channel where `shape` says so, else 3. All else is as `decode` says.
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
        return decoded([(self.paths[index], None) for index in indices], self.shape)

    def encoded(self, indices: np.ndarray) -> list[tuple[str, bytes]]:
        """Return the name and the bytes of the files at `indices`, as they are."""
        paths = [self.paths[index] for index in indices]
        return [(path, read_regular(path, at_most=MAX_BYTES)) for path in paths]


def decoded(pictures: Sequence[tuple[str, bytes | None]], shape: tuple[int, int, int]) -> np.ndarray:
    """Decode pictures at one shape: uint8 [n, height, width, channels].

    Args:
        pictures: the path of each; or what messages call it, and its encoded bytes.

    Raises:
        InputError: one is gone, truncated or no picture. The message names it.
    """
    images = np.empty((len(pictures), *shape), np.uint8)

    def decode_into(row: int) -> None:
        images[row] = _decoded(*pictures[row], shape)

    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(decode_into, range(len(pictures))):
            pass
    return images


def image_names(folder: Path) -> list[str]:
    """Return the names of the image files in a folder, as its system lists them; hidden ones are left out."""
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if is_visible(entry.name) and _is_image(entry)]


def is_image_name(name: str) -> bool:
    """Whether a file's suffix is that of a format that is opened."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def _is_image(entry: os.DirEntry) -> bool:
    return is_image_name(entry.name) and entry.is_file()


def is_visible(name: str) -> bool:
    """Whether a file or folder is part of the data, not one that a system keeps for itself."""
    return not name.startswith((".", "__MACOSX")) and name.lower() not in _OF_WINDOWS


def open_image_files(paths: Sequence[Path]) -> tuple[ImageFiles, tuple[str, ...]]:
    """Find the shape at which to serve image files, from their headers.

    The size is the most common one, of equally common ones the largest; where it is that of less than a tenth of the
    images, and more than twice or less than half as high or wide as most, the median height and the median width. The
    longer side has `MAX_SIDE` pixels at most. There is one channel where every file is grey, else three.

    Returns:
        The images, and notes on those that are served otherwise than they are stored.

    Raises:
        InputError: a file is not an image, or has too many pixels.
    """
    headers = Counter(read_header(path) for path in paths)
    shape, notes = served_shape(
        headers, photos=lambda: quote(os.path.commonpath([path.parent for path in paths])) + " --out FACES"
    )
    return ImageFiles(paths, shape), notes


def served_shape(
    headers: Counter[Header], *, photos: Callable[[], str] = lambda: "PHOTOS --out FACES"
) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Find the shape at which to serve pictures, as `open_image_files` says it.

    Args:
        headers: of all of them, with how many have each.
        photos: the arguments of `crop_faces` that would cut the faces out, were they whole photos.

    Returns:
        Height, width and channels, and notes on the pictures that are served otherwise than they are stored.
    """
    sizes, count = Counter[tuple[int, int]](), headers.total()
    for header, number in headers.items():
        sizes[header.height, header.width] += number
    height, width = _usual_size(sizes)
    coloured = sum(number for header, number in headers.items() if not header.grey)
    several = sum(number for header, number in headers.items() if header.several)
    others = count - sizes[height, width]
    height, width = _served_size(height, width)
    notes = _notes_on_photos(sizes, photos)
    if others:
        notes.append(f"{others} of {count} images have another size and are resized to {height}x{width}")
    if 0 < coloured < count:
        notes.append(f"{coloured} of {count} images are in colour, so all are served as RGB")
    if several:
        notes.append(f"{several} of {count} images are animated or have several pages: the first is served")
    if not others and max(sizes)[0] > height:
        notes.append(f"all images are resized to {height}x{width}")
    return (height, width, 3 if coloured else 1), tuple(notes)


def _usual_size(sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    """Return the height and width that most images have, or else are near to: one odd picture decides nothing."""
    common = max(sizes, key=lambda size: (sizes[size], size[0] * size[1], size))
    counts = np.array(list(sizes.values()))
    heights, widths = np.array(list(sizes)).T
    median = _median(heights, counts), _median(widths, counts)
    is_odd = any(not 0.5 <= side / usual <= 2 for side, usual in zip(common, median, strict=True))
    return median if is_odd and sizes[common] * _FEW < sizes.total() else common


def _median(values: np.ndarray, counts: np.ndarray) -> int:
    """Return the value, int [n], that half of all are at least, where each stands `counts` times."""
    order = np.argsort(values)
    return int(values[order][np.searchsorted(counts[order].cumsum(), counts.sum() / 2)])


def _served_size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, MAX_SIDE / max(height, width))
    return max(1, round(scale * height)), max(1, round(scale * width))


def _notes_on_photos(sizes: Counter[tuple[int, int]], photos: Callable[[], str]) -> list[str]:
    """Return a note where most images are larger than any network takes: they may be photos, with faces somewhere."""
    large = sum(number for size, number in sizes.items() if max(size) > MAX_SIDE)
    if 2 * large <= sizes.total():
        return []
    return [
        f"{large} of {sizes.total()} images are far larger than any network takes (above {MAX_SIDE} pixels). "
        f"Where they are whole photos, cut the faces out first: python -m distill.crop_faces {photos()}"
    ]


def left_out(folders: Iterable[Path], *, around: Iterable[Path] = ()) -> tuple[str, ...]:
    """Return notes that count the files that are not read where images of `folders` are: none is left out in silence.

    Args:
        folders: those that are read; files of other suffixes count, and images in other folders within them.
        around: folders of such folders; of these, images count.
    """
    read = {*folders}
    suffixes: Counter[str] = Counter()
    elsewhere = Counter({folder: len(image_names(folder)) for folder in {*around} - read})
    for folder in read:
        for within, names, files in os.walk(folder):
            names[:] = [name for name in names if is_visible(name) and Path(within, name) not in read]
            others = [name for name in files if is_visible(name) and not is_image_name(name)]
            if Path(within) == folder:
                suffixes.update(Path(name).suffix.lower() or "without any" for name in others)
            else:
                elsewhere[Path(within)] += len(image_names(Path(within)))
    return (
        *_counted("files with suffixes of other formats are left out", suffixes),
        *_counted("images in other folders than those that are read are left out", elsewhere, " in "),
    )


def _counted(said: str, counts: Counter, word: str = " ") -> tuple[str, ...]:
    """Return a note, unless nothing was counted."""
    found = [f"{count}{word}{what}" for what, count in sorted(counts.items()) if count]
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return (f"{said}: {', '.join([*found[:_SHOWN], *more])}",) if found else ()


def _decoded(path: str, content: bytes | None, shape: tuple[int, int, int]) -> np.ndarray:
    height, width, channels = shape
    # Only what is larger than a dataset is served at is decoded smaller: pixels of others stay what they are.
    side = max(height, width) if max(height, width) >= MAX_SIDE else None
    image = decode(path, content, grey=channels == 1, side=side)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)
