"""`SplitPolicy`: how a data set was divided into splits, so that it can be divided in the same way again."""

from dataclasses import dataclass
from typing import Literal

POLICIES = ("official", "random")


@dataclass(frozen=True, kw_only=True)
class SplitPolicy:
    """How the splits of a data set came about, see `with_splits` and `fold_splits`."""

    policy: Literal["official", "random", "folds"] = "official"
    seed: int = 0
    """Of the images that are held out for validation."""
    fraction: float = 0.2
    """Of them, 0..1."""
    test_fraction: float = 0.0
    """Of the images that are held out for the test first, 0..1."""
    folds: int | None = None
    """Number of folds of cross-validation."""
    fold: int | None = None
    """The one that is tested."""
