"""`Feature`: a further output of a teacher in a logit store, its shape and how its numbers are stored."""

from dataclasses import dataclass
from math import prod
from typing import Annotated

import numpy as np
from msgspec import Meta

from distill.errors import InputError
from distill.refusals import check_known

FEATURE_DTYPES = ("float16", "bfloat16", "float32")
_STORED_AS: dict[str, np.dtype] = {
    name: np.dtype(stored) for name, stored in (("float16", "<f2"), ("bfloat16", "<u2"), ("float32", "<f4"))
}
_MAX_NAME = 300


@dataclass(frozen=True)
class Feature:
    """One of a teacher's outputs beside its logits, for each view of each image.

    Raises:
        InputError: a name, shape or dtype that the format does not have.
    """

    name: str
    """Such as "conv5", a layer averaged to a vector, or "conv5@7", one averaged to a map of 7 x 7."""
    shape: tuple[Annotated[int, Meta(ge=1, lt=2**31)], ...]
    """Of one view: [channels], or [height, width, channels]."""
    dtype: str = "float16"
    """One of `FEATURE_DTYPES`, in the file; in memory they are float32."""

    def __post_init__(self):
        object.__setattr__(self, "shape", tuple(self.shape))
        check_known(self.dtype, FEATURE_DTYPES, what="dtype of features")
        if not (0 < len(self.name) <= _MAX_NAME and self.name.isprintable()):
            raise InputError(f"a feature is named by 1 to {_MAX_NAME} printable characters, not {self.name!r:.80}")
        if not self.shape:
            raise InputError(f"the feature {self.name} is one number for each image, expected an array")

    @property
    def stored_as(self) -> np.dtype:
        """The type in the file: that of `dtype`, or the bits of a bfloat16 as a whole number."""
        return _STORED_AS[self.dtype]

    @property
    def bytes_per_view(self) -> int:
        """Of one view of one image, in the file."""
        return prod(self.shape) * self.stored_as.itemsize

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return numbers of any precision as they are stored, rounded to the nearest."""
        if self.dtype == "bfloat16":
            return _bfloat16_bits(np.ascontiguousarray(values, np.float32))
        with np.errstate(over="ignore"):
            return np.asarray(values).astype(self.stored_as, copy=False)

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Return stored numbers as float32."""
        if self.dtype == "bfloat16":
            return (stored.astype(np.uint32) << 16).view(np.float32)
        return stored.astype(np.float32)

    def __str__(self) -> str:
        return f"{self.name} {list(self.shape)} {self.dtype}"


def joined_features(present: tuple[Feature, ...], wanted: tuple[Feature, ...]) -> tuple[Feature, ...]:
    """Return what is present, and then what else is wanted.

    Raises:
        InputError: one is wanted in another shape or dtype than it is present in.
    """
    by_name = {each.name: each for each in present}
    for each in wanted:
        stored = by_name.setdefault(each.name, each)
        if stored != each:
            raise InputError(
                f"the feature {stored} is stored already, {each} is wanted: use it as it is, or choose another --out"
            )
    return tuple(by_name.values())


def _bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """Return the upper halves of float32 [...], rounded to the nearest, of two to the even one; NaN stays one."""
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype("<u2")
