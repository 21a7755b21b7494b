"""`ImageModel`: the one interface of every network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distill.data.class_order import ASSUMED
from distill.errors import InputError

if TYPE_CHECKING:
    import keras

LOGITS, BEFORE_SOFTMAX, LOG_PROBABILITIES = "logits", "before softmax", "log probabilities"
AVERAGES = ("flip_average", "shift_average")
"""Fields of an `ImageModel`: over which copies of an image its logits are averaged."""


@dataclass(frozen=True, eq=False)
class InnerOutputs:
    """What else than its logits can be read of a network that is not a Keras model."""

    shapes: Callable[[], Mapping[str, tuple[int, ...]]]
    """By name what there is for each image, [..., channels]."""
    predict: Callable[[Sequence[str]], Callable[[np.ndarray], tuple[np.ndarray, Sequence[np.ndarray]]]]
    """From names to a function, from pixels as of `ImageModel.predict` to its logits and, in the same pass, float32
    [B, ..., channels] of each name."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageModel:
    """A network, whatever it runs on: rendered images in, raw logits out."""

    name: str
    """The stem of the file, the name of the folder, or `module:function`."""
    input_shape: tuple[int, int, int]
    """Height, width and channels (1 or 3) of the images that it is given."""
    classes: int
    """How many logits it gives, C."""
    sha256: str
    """Of the weights (Keras; of a file with its description), of the files (ONNX, SavedModel), or of the function's
    source; or what the function says."""
    numeric_policy: str
    """Precision of the computation, "float32" or "mixed_bfloat16"; other runtimes than Keras count as "float32"."""
    logits_from: str
    """`LOGITS`, given as such; `BEFORE_SOFTMAX`, what its softmax reads; `LOG_PROBABILITIES`, the same up to a
    constant for each image."""
    input_format: Mapping
    """What becomes of the pixels before it sees them, JSON-able, as `PixelFormat.to_dict` says it."""
    network: "keras.Model | None"
    """Float32 pixels 0..255 [B, h, w, c] -> raw logits as a flat functional Keras model, where there is one."""
    predict: Callable[[np.ndarray], np.ndarray]
    """Float32 pixels 0..255 [B, h, w, c] -> float32 raw logits [B, C]."""
    class_names: tuple[str, ...] = ()
    """The classes of the logits, in their order; empty where neither the file nor anybody has named them yet."""
    class_order: str = ASSUMED
    """How that order is known: `GIVEN`, `KNOWN` or `ASSUMED`."""
    inner: InnerOutputs | None = None
    """Where there is no `network`, what else can be read; None: nothing."""
    flip_average: bool = False
    """Whether the logits that count are the mean of those of an image and of its mirror image. What scores images
    takes it, as it does `shift_average`; `network` and `predict` see one image."""
    shift_average: int = 0
    """Whether they are the mean of those of an image and of it moved by so many pixels towards each of its four
    corners, its edge repeated behind it; 0: the image alone. With `flip_average` these are ten crops (Krizhevsky et
    al. 2012, section 4.1)."""

    def __post_init__(self):
        most = min(self.input_shape[:2]) // 2
        if self.shift_average not in range(most + 1):
            raise InputError(
                f"shift-average must be a whole number of pixels in 0..{most}, half of the images that {self.name} "
                f"takes, received {self.shift_average}"
            )

    @property
    def copies(self) -> int:
        """How many images it is shown where one is scored."""
        return (5 if self.shift_average else 1) * (2 if self.flip_average else 1)

    @property
    def averages(self) -> dict:
        """JSON-able: `flip_average` and `shift_average` where they change anything."""
        return {name: getattr(self, name) for name in AVERAGES if getattr(self, name)}

    @property
    def scored_as(self) -> dict:
        """JSON-able: `input_format` and `averages`."""
        return {**self.input_format, **self.averages}
