"""`ImageModel`: the one interface of every network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distill.data.class_order import ASSUMED

if TYPE_CHECKING:
    import keras

LOGITS, BEFORE_SOFTMAX, LOG_PROBABILITIES = "logits", "before softmax", "log probabilities"


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
    takes it; `network` and `predict` see one image."""

    @property
    def scored_as(self) -> dict:
        """JSON-able: `input_format`, and `flip_average` where it is so."""
        return {**self.input_format, **({"flip_average": True} if self.flip_average else {})}
