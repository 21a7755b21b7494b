"""`SplitPolicy`: how a dataset was divided into splits, so that it can be divided in the same way again."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from distill.files.documents import Count, Seed

POLICIES = ("official", "random")


@dataclass(frozen=True, kw_only=True)
class SplitPolicy:
    """How the splits of a dataset came about, see `with_splits` and `fold_splits`."""

    policy: Literal["official", "random", "folds"] = "official"
    seed: Seed = 0
    """Of the images that are held out for validation."""
    fraction: Annotated[float, Meta(ge=0, le=1)] = 0.2
    """Of them, 0..1."""
    test_fraction: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Of the images that are held out for the test first, 0..1."""
    folds: Count | None = None
    """Number of folds of cross-validation."""
    fold: Count | None = None
    """The one that is tested."""
