"""From a box in a photo to the pixels that a model takes."""

import math

import numpy as np
from PIL import Image

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601

Region = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the photo; it may reach beyond the photo."""


def square_region(box: Region, *, margin: float, lift: float = 0.0) -> Region:
    """Return a square about `box`.

    Args:
        margin: its side, in longer sides of the box.
        lift: how far its centre lies above that of the box, in longer sides of the box.
    """
    left, top, right, bottom = map(float, box)
    side = max(right - left, bottom - top)
    x, y = (left + right) / 2, (top + bottom) / 2 - lift * side
    half = margin * side / 2
    return x - half, y - half, x + half, y + half


def face_pixels(photo: np.ndarray, region: Region, shape: tuple[int, int, int]) -> np.ndarray:
    """Return what a model sees of `region`: float32 `shape`, 0..255, nothing rounded.

    It is resized bilinearly, averaging where it becomes smaller. Beyond the photo, its edge continues. The whole
    photo, enlarged or at its own size, gives the pixels that students learn from as view 0.

    Args:
        photo: uint8 RGB [H, W, 3].
        shape: height, width and channels (1 grey, 3 RGB).
    """
    height, width, channels = shape
    window, box = _window(photo, region)
    planes = [
        Image.fromarray(window[..., channel].astype(np.float32)).resize(
            (width, height), Image.Resampling.BILINEAR, box=box
        )
        for channel in range(3)
    ]
    pixels = np.stack([np.asarray(plane) for plane in planes], axis=-1)
    return (pixels @ _GREY)[..., None] if channels == 1 else pixels


def _window(photo: np.ndarray, region: Region) -> tuple[np.ndarray, Region]:
    """Return the whole pixels that `region` touches, and the region in their coordinates."""
    left, top = (math.floor(edge) for edge in region[:2])
    right, bottom = (math.ceil(edge) for edge in region[2:])
    height, width = photo.shape[:2]
    inside = photo[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    beyond = (max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0)), (0, 0)
    if any(map(any, beyond)):
        inside = np.pad(inside, beyond, mode="edge")
    return inside, (region[0] - left, region[1] - top, region[2] - left, region[3] - top)
