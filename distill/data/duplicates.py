"""What a dataset holds: counts per class and split, and images that stand in it more than once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np

from distill.data.dataset import SPLITS, UNLABELLED, Dataset
from distill.data.same_shape import in_one_shape

UNLABELLED_NAME = "unlabelled"


@dataclass(frozen=True)
class Duplicates:
    """Exact copies, images of the same shape and pixels, and mirrored ones, whose left and right are exchanged.

    A group is two or more exact copies. An image counts as mirrored where it has a mirrored copy and, there, no exact
    one.
    """

    groups: int
    images: int
    """Images that stand in a group."""
    conflicting: int
    """Groups whose images have different labels."""
    within: dict[str, tuple[int, int]]
    """Groups and images among the images of one split, for every split."""
    across: dict[tuple[str, str], int]
    """(a, b): images of split a that have an exact copy in split b, where there are any."""
    mirrored: int = 0
    """Images that have a mirrored copy anywhere."""
    mirrored_across: dict[tuple[str, str], int] = field(default_factory=dict)
    """(a, b): images of split a that have a mirrored copy in split b, where there are any."""


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
    """Find exact and mirrored copies by content hash. Reads every image once."""
    both = np.concatenate(_both_keys(dataset))
    group, mirror = np.split(np.unique(both, return_inverse=True)[1].reshape(-1), 2)
    members = {split: np.flatnonzero(dataset.splits == split) for split in present_splits(dataset)}
    copies, mirrored = {}, {}
    for pair in permutations(members, 2):
        own, others = (members[split] for split in pair)
        exact = np.isin(group[own], group[others])
        copies[pair] = int(exact.sum())
        mirrored[pair] = int((np.isin(mirror[own], group[others]) & ~exact).sum())
    groups, images = _repeated(group)
    alone = np.bincount(group, minlength=len(both))[group] == 1
    return Duplicates(
        groups=groups,
        images=images,
        conflicting=_conflicting(group, dataset.labels),
        within={split: _repeated(group[positions]) for split, positions in members.items()},
        across={pair: count for pair, count in copies.items() if count},
        mirrored=int((np.isin(mirror, group) & (mirror != group) & alone).sum()),
        mirrored_across={pair: count for pair, count in mirrored.items() if count},
    )


def copies_of(dataset: Dataset, others: Dataset) -> np.ndarray:
    """Return which images of `dataset` have the pixels of one in `others`, mirrored or not: bool [len(dataset)].

    Views mirror at random, so that a network that learned from one has learned from the other. Datasets of
    different shapes are compared at one of them.
    """
    is_smaller = len(dataset) <= len(others)
    compared = in_one_shape(dataset, others) if is_smaller else in_one_shape(others, dataset)
    if compared is None:  # arrays of different sizes share no image
        return np.zeros(len(dataset), bool)
    smaller, larger = compared
    few, mirrored = _both_keys(smaller)
    many = _keys(larger.content_hashes)
    if is_smaller:
        return np.isin(few, many) | np.isin(mirrored, many)
    return np.isin(many, np.concatenate([few, mirrored]))


def _both_keys(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys of the images as they are, and mirrored."""
    mirrored = _keys(dataset.mirrored_hashes)  # first: with these, the others come in the same pass
    return _keys(dataset.content_hashes), mirrored


def _keys(hashes: np.ndarray) -> np.ndarray:
    """Return rows of bytes, uint8 [N, K], as single values that can be compared: void [N]."""
    return np.ascontiguousarray(hashes).view(f"V{hashes.shape[1]}")[:, 0]


def _repeated(group: np.ndarray) -> tuple[int, int]:
    """Return how many groups have two or more members, and how many members these have."""
    sizes = np.unique(group, return_counts=True)[1]
    return int((sizes > 1).sum()), int(sizes[sizes > 1].sum())


def _conflicting(group: np.ndarray, labels: np.ndarray) -> int:
    labelled = labels != UNLABELLED
    pairs = np.unique(np.stack([group[labelled], labels[labelled]]), axis=1)
    return _repeated(pairs[0])[0]
