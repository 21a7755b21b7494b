"""Splits: which images are held out for validation and test, where a layout does not say it."""

import hashlib

import numpy as np

from distill.data.columns import Names, blocks
from distill.data.dataset import Dataset, replace_splits
from distill.data.split_policy import POLICIES, SplitPolicy
from distill.errors import InputError
from distill.refusals import check_within


def with_splits(
    dataset: Dataset, *, policy: str = "official", fraction: float = 0.2, test_fraction: float = 0.0, seed: int = 0
) -> Dataset:
    """Give every image a split.

    Args:
        policy: "official" keeps the layout's own splits; a layout that names no validation split has
            `fraction` of its training images held out for it. "random" holds out `fraction` of all
            images that are not in the test split, the 80/20 protocol of FaceNet on FER2013.
        fraction: share of images held out for validation, between 0 and 1.
        test_fraction: share of all images that the policy "random" holds out for the test before that, in data
            without a test split; 0 for none.
        seed: which images those are. They depend on the ids and the seed alone, not on the order of the
            data. Where subjects are known they are held out whole, until `fraction` is reached: frames
            of one subject on both sides would be a leak.

    Raises:
        InputError: unknown policy, a fraction that leaves a split empty, or images without any class.
    """
    if not dataset.class_names:
        raise InputError(f"{dataset.name} has no labels: give labelled images, such as one folder per class")
    if policy not in POLICIES:
        raise InputError(f'split policy must be "official" or "random", received "{policy}"')
    check_within(-(2**63), 2**63 - 1, split_seed=seed)  # it is part of a key
    if not 0 < fraction < 1:
        raise InputError(f"a validation fraction must lie between 0 and 1, received {fraction}")
    splits = Names.of(dataset.splits)
    splits = splits.replaced(splits == "", "train")
    _check_test_fraction(dataset, policy, test_fraction)
    how = SplitPolicy(
        policy=policy,  # type: ignore[arg-type]  # of POLICIES, above
        seed=seed,
        fraction=fraction,
        test_fraction=test_fraction,
    )
    if policy == "official" and "validation" in splits:
        return replace_splits(dataset, splits, how)
    keys = dataset.ids if dataset.subjects is None else dataset.subjects
    if test_fraction:
        tested = _held_out(keys, fraction=test_fraction, salt=f"test {seed}")
        if not 0 < tested.sum() < len(dataset):
            raise InputError(
                f"a test share of {test_fraction} leaves {tested.sum()} of {len(dataset)} images of {dataset.name} "
                "to test on: both sides need at least one"
            )
        splits = splits.replaced(tested, "test")
    pool = splits != "test"
    held_out = np.zeros(len(dataset), bool)
    held_out[pool] = _held_out(keys if pool.all() else keys[pool], fraction=fraction, salt=f"split {seed}")
    if not 0 < held_out.sum() < pool.sum():
        raise InputError(
            f"a validation fraction of {fraction} leaves {held_out.sum()} of {pool.sum()} images of "
            f"{dataset.name} for validation: both sides need at least one"
        )
    return replace_splits(dataset, splits.replaced(pool, "train").replaced(held_out, "validation"), how)


def _check_test_fraction(dataset: Dataset, policy: str, test_fraction: float) -> None:
    if not test_fraction:
        return
    if not 0 < test_fraction < 1:
        raise InputError(f"a test share must lie between 0 and 1, received {test_fraction}")
    if policy != "random":
        raise InputError("a test share is held out at random: give --splits random with --test-share")
    if "test" in dataset.splits:
        raise InputError(f"{dataset.name} has a test split of its own: omit --test-share")


def _held_out(keys: np.ndarray, *, fraction: float, salt: str) -> np.ndarray:
    """Choose rows, bool [N]: all rows of one key or none, by the order of the keys' hashes, as many as needed."""
    count = round(fraction * len(keys))
    if not count:
        return np.zeros(len(keys), bool)
    ranks = np.empty(len(keys), ">u8")
    for rows in blocks(len(keys)):
        digests = (
            hashlib.blake2b(name.encode(), key=salt.encode(), digest_size=8).digest() for name in keys[rows].tolist()
        )
        ranks[rows] = np.frombuffer(b"".join(digests), ">u8")
    return ranks <= np.partition(ranks, count - 1)[count - 1]
