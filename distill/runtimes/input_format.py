"""What a foreign network expects of its pixels: size, channels, scale, order and layout."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np

from distill.errors import InputError
from distill.refusals import OF_TENSORFLOW, reason

CHANNELS_LAST, CHANNELS_FIRST = "channels_last", "channels_first"
_ORDERS = ("rgb", "bgr")
_LAYOUTS = ("auto", CHANNELS_LAST, CHANNELS_FIRST)
Outputs = TypeVar("Outputs")


@dataclass(frozen=True, kw_only=True)
class InputFormat:
    """How a network that is no part of this project wants its pixels.

    Raises:
        InputError: a setting out of range.
    """

    size: int | None = None
    """Height and width of the images, pixels; by default what the file says."""
    channels: int | None = None
    """1 (grey) or 3 (color); by default what the file says."""
    range: tuple[float, float] = (0.0, 255.0)
    """Range that pixels 0..255 are scaled to, such as "-1 1" or "0 1"."""
    mean: tuple[float, ...] = ()
    """Mean that is then subtracted: one number, or one per channel in the order that the network takes."""
    std: tuple[float, ...] = ()
    """Standard deviation that is then divided by: one number, or one per channel."""
    order: str = "rgb"
    """Order of the color channels, "rgb" or "bgr"."""
    layout: str = "auto"
    """"channels_last", "channels_first", or "auto": what the file says; where it says nothing, channels_last, but
    of an ONNX file it must then be said."""

    def __post_init__(self):
        if self.size is not None and self.size < 1:
            raise InputError(f"input size must be at least 1 pixel, received {self.size}")
        if self.channels not in (None, 1, 3):
            raise InputError(f"input channels must be 1 (grey) or 3 (color), received {self.channels}")
        if not all(map(math.isfinite, (*self.range, *self.mean, *self.std))):
            raise InputError("input range, mean and std must be finite numbers")
        if self.range[0] == self.range[1]:
            raise InputError(f"input range must be two different numbers, received {self.range}")
        if 0 in self.std:
            raise InputError(f"input std divides, so none may be 0, received {self.std}")
        for name, known in (("order", _ORDERS), ("layout", _LAYOUTS)):
            if getattr(self, name) not in known:
                raise InputError(f'input {name} must be {" or ".join(known)}, received "{getattr(self, name)}"')

    def resolve(
        self, shape: Sequence[int | None] | None, *, source: str, usual_layout: str | None = CHANNELS_LAST
    ) -> "PixelFormat":
        """Fill in what the file of a network says.

        Args:
            shape: of one input as the file says it, without the batch, None where a side is open; None where
                the file says nothing at all.
            source: the network's file, for messages.
            usual_layout: of networks in such files, for one that leaves it open; None where there is no usual one.

        Raises:
            InputError: the shape is that of no image; a side, or the layout, is open and not set; a setting
                contradicts it.
        """
        if shape is None:
            shape = (None, None, None)
        if len(shape) != 3:
            raise InputError(f"{source} takes inputs of shape {_text(shape)}, expected images: three sides")
        layout = (_layout_of(shape) or usual_layout) if self.layout == "auto" else self.layout
        if layout is None:
            raise InputError(
                f"{source} does not say where the channels of its images are: give --input.layout "
                f"{CHANNELS_FIRST} or {CHANNELS_LAST}"
            )
        if layout == CHANNELS_FIRST:
            shape = (*shape[1:], shape[0])
        height, width = (_agreed(side, self.size, "size", source) for side in shape[:2])
        channels = _agreed(shape[2], self.channels, "channels", source)
        if channels not in (1, 3):
            raise InputError(f"{source} takes {channels} channels ({layout}), expected 1 (grey) or 3 (color)")
        if self.order == "bgr" and channels == 1:
            raise InputError(f'{source} takes grey pixels, which have no order "bgr": omit --input.order')
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, 1, channels):
                raise InputError(f"--input.{name} has {len(values)} numbers, {source} takes {channels} channels")
        return PixelFormat(
            height=height,
            width=width,
            channels=channels,
            range=(float(self.range[0]), float(self.range[1])),
            mean=tuple(map(float, self.mean)),
            std=tuple(map(float, self.std)),
            order=self.order,
            layout=layout,
        )


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """An `InputFormat` in which nothing is left open. Called with images, it puts them into this format."""

    height: int
    width: int
    channels: int
    range: tuple[float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: str
    layout: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images that come in."""
        return self.height, self.width, self.channels

    def scale_and_offset(self) -> tuple[list[float], list[float]]:
        """Return what every channel, in the network's order, is multiplied by and what is then added.

        Range, mean and std in one: ((low + pixel (high - low) / 255) - mean) / std.
        """
        low, high = self.range
        mean = np.broadcast_to(np.array(self.mean or (0.0,)), self.channels)
        std = np.broadcast_to(np.array(self.std or (1.0,)), self.channels)
        return ((high - low) / 255 / std).tolist(), ((low - mean) / std).tolist()

    def values(self) -> tuple[float, float]:
        """Return the least and the largest number that a pixel may become."""
        scale, offset = map(np.array, self.scale_and_offset())
        ends = np.concatenate([offset, 255 * scale + offset])
        return float(ends.min()), float(ends.max())

    def check_dtype(self, dtype: np.dtype, *, source: str) -> None:
        """Check that numbers of `dtype` can hold pixels in this format.

        Raises:
            InputError: they are whole numbers, of which it would leave a few.
        """
        if dtype.kind == "f":
            return
        (low, high), known = self.values(), np.iinfo(dtype)
        if low < known.min or high > known.max or high - low < 100:
            raise InputError(
                f"{source} takes whole numbers {known.min}..{known.max} ({dtype}), the settings make {low:g}.."
                f"{high:g} of the pixels: give --input.range {known.min} {known.max}"
            )

    def __call__(self, images: np.ndarray, dtype: np.dtype | type = np.float32) -> np.ndarray:
        """Put float32 pixels 0..255 [B, h, w, c] into this format: a new array, [B, c, h, w] if so laid.

        Args:
            dtype: of the array; whole numbers are the nearest ones.
        """
        scale, offset = (np.array(values, np.float32) for values in self.scale_and_offset())
        pixels = images[..., ::-1] if self.order == "bgr" else images
        pixels = pixels.astype(np.float32) * scale + offset
        if np.dtype(dtype).kind != "f":
            pixels = np.rint(pixels)
        pixels = pixels.astype(dtype, copy=False)
        return np.ascontiguousarray(np.moveaxis(pixels, -1, 1)) if self.layout == CHANNELS_FIRST else pixels

    def to_dict(self) -> dict:
        """Return a JSON-able description."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def refusing(run: Callable[[np.ndarray], Outputs], *, source: str) -> Callable[[np.ndarray], Outputs]:
    """Return `run`, which gives a network pixels in its own format, such that it refuses those that it fails on.

    What a file says of its input is not all that its network needs of it.
    """

    def refused(pixels: np.ndarray) -> Outputs:
        try:
            return run(pixels)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # each runtime has its own
            if type(error).__name__ in OF_TENSORFLOW:  # no matter of shapes
                raise
            raise InputError(
                f"{source} cannot compute images {list(pixels.shape)}: {reason(error)}: see --input.size, "
                "--input.channels, --input.layout"
            ) from error

    return refused


def _layout_of(shape: Sequence[int | None]) -> str | None:
    """Return the layout of images of this shape; None where it leaves it open."""
    first, middle, last = shape
    if first is None and last is None:
        return None
    may_be_first = first in (1, 3) or (first is None and middle is not None)  # an open height has an open width
    return CHANNELS_FIRST if may_be_first and last not in (1, 3) else CHANNELS_LAST


def _agreed(stated: int | None, wanted: int | None, name: str, source: str) -> int:
    """Return a side that the file states, the settings want, or both."""
    if wanted is None:
        if stated is None:
            raise InputError(f"{source} does not say which {name} its images have: give --input.{name}")
        return stated
    if stated not in (None, wanted):
        raise InputError(f"{source} has {name} {stated}, the settings say {wanted}: omit --input.{name}")
    return wanted


def _text(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("any" if side is None else str(side) for side in shape) + "]"
