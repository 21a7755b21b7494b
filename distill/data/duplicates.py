"""What a data set holds: counts per class and split, and images that stand in it more than once."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from distill.data.dataset import SPLITS, UNLABELLED, Dataset

UNLABELLED_NAME = "unlabelled"


@dataclass(frozen=True)
class Duplicates:
    """Exact copies: images of the same shape and pixels. A group is two or more of them."""

    groups: int
    images: int
    """Images that stand in a group."""
    conflicting: int
    """Groups whose images have different labels."""
    within: dict[str, tuple[int, int]]
    """Groups and images among the images of one split, for every split."""
    across: dict[tuple[str, str], int]
    """(a, b): images of split a that have an exact copy in split b, where there are any."""


def present_splits(dataset: Dataset) -> list[str]:
    """Return the splits that have an image, in the order train, validation, test, none ("")."""
    return [split for split in (*SPLITS, "") if split in dataset.splits]


def present_classes(dataset: Dataset) -> Iterator[tuple[str, int]]:
    """Go through class names and labels; `UNLABELLED` comes last, where there are unlabelled images."""
    yield from zip(dataset.class_names, range(dataset.num_classes), strict=True)
    if UNLABELLED in dataset.labels:
        yield UNLABELLED_NAME, UNLABELLED


def class_counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Count images: {class name: {split: count}}, over `present_classes` and `present_splits`."""
    return {
        name: {
            split: int(((dataset.labels == label) & (dataset.splits == split)).sum())
            for split in present_splits(dataset)
        }
        for name, label in present_classes(dataset)
    }


def find_duplicates(dataset: Dataset) -> Duplicates:
    """Find exact copies by content hash. Reads every image once."""
    _, group = np.unique(dataset.content_hashes, axis=0, return_inverse=True)
    group = group.reshape(-1)
    members = {split: np.flatnonzero(dataset.splits == split) for split in present_splits(dataset)}
    copies = {
        (split, other): int(np.isin(group[members[split]], group[members[other]]).sum())
        for split, other in permutations(members, 2)
    }
    groups, images = _repeated(group)
    return Duplicates(
        groups=groups,
        images=images,
        conflicting=_conflicting(group, dataset.labels),
        within={split: _repeated(group[positions]) for split, positions in members.items()},
        across={pair: count for pair, count in copies.items() if count},
    )


def copies_of(dataset: Dataset, others: Dataset) -> np.ndarray:
    """Return which images of `dataset` have the very pixels of one in `others`: bool [len(dataset)]."""
    row = f"V{dataset.content_hashes.shape[1]}"
    return np.isin(*(np.ascontiguousarray(each.content_hashes).view(row)[:, 0] for each in (dataset, others)))


def _repeated(group: np.ndarray) -> tuple[int, int]:
    """Return how many groups have two or more members, and how many members these have."""
    sizes = np.unique(group, return_counts=True)[1]
    return int((sizes > 1).sum()), int(sizes[sizes > 1].sum())


def _conflicting(group: np.ndarray, labels: np.ndarray) -> int:
    labelled = labels != UNLABELLED
    pairs = np.unique(np.stack([group[labelled], labels[labelled]]), axis=1)
    return _repeated(pairs[0])[0]
