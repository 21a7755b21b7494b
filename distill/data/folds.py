"""Cross-validation folds: who is tested in which, and what each fold learns from."""

import hashlib
from dataclasses import replace

import numpy as np

from distill.data.dataset import Dataset, replace_splits
from distill.data.layouts.ckplus_names import subject_folds
from distill.data.split_policy import SplitPolicy
from distill.errors import InputError


def deal_folds(dataset: Dataset, folds: int) -> Dataset:
    """Return the images outside the test split, with `Dataset.folds` set, int64 [N] of 0..folds-1.

    The data's own folds are kept where it has that many. Else whole subjects are dealt out, where the names
    say who they are, and single images where they do not (which a note says).

    Args:
        folds: how many, at least 3.

    Raises:
        InputError: fewer than three folds (test, validation, and something to learn from), more folds than
            subjects or images, or a subject in two of the data's own folds.
    """
    if folds < 3:
        raise InputError(f"folds must be 3 or more (one to test on, one to choose by, the rest), received {folds}")
    if folds > len(dataset):
        raise InputError(
            f"{dataset.name} has {len(dataset):,} images, fewer than {folds:,} folds: "
            f"give --folds {len(dataset)} or less"
        )
    dataset = dataset.subset(dataset.splits != "test")
    notes = dataset.notes
    own = np.empty(0) if dataset.folds is None else np.unique(dataset.folds)
    if dataset.folds is not None and len(own) == folds:
        numbers = np.searchsorted(own, dataset.folds)
    elif dataset.subjects is not None:
        numbers = subject_folds(dataset.subjects, folds)
    elif dataset.folds is not None:
        raise InputError(
            f"{dataset.name} has {len(own)} folds ({', '.join(map(str, own))}), received {folds}: "
            f"give --folds {len(own)}, or fill the missing ones"
        )
    else:
        numbers = _image_folds(dataset.ids, folds)
        notes += ("subjects are not known, so images of one subject may be in two folds",)
    _check(dataset, numbers, folds)
    return replace(dataset, folds=numbers, notes=notes)


def fold_count(dataset: Dataset) -> int:
    """Return into how many folds `dataset` is dealt.

    Raises:
        InputError: it is not.
    """
    if dataset.folds is None:
        raise InputError(f"{dataset.name} has no folds: deal it into some with deal_folds")
    return int(dataset.folds.max()) + 1


def fold_splits(dataset: Dataset, fold: int) -> Dataset:
    """Return `dataset`, dealt into folds, with splits: `fold` is the test, the next one the validation split."""
    folds = fold_count(dataset)
    validation = (fold + 1) % folds
    splits = np.where(dataset.folds == fold, "test", np.where(dataset.folds == validation, "validation", "train"))
    how = SplitPolicy(policy="folds", folds=folds, fold=fold)
    return replace_splits(dataset, splits.astype("U10"), how)


def _image_folds(ids: np.ndarray, folds: int) -> np.ndarray:
    """Deal images out in the order of their ids' hashes, which does not depend on the order of the data."""
    ranks = np.array([hashlib.blake2b(str(i).encode(), digest_size=8).digest() for i in ids])
    numbers = np.empty(len(ids), np.int64)
    numbers[np.argsort(ranks, kind="stable")] = np.arange(len(ids)) % folds
    return numbers


def _check(dataset: Dataset, numbers: np.ndarray, folds: int) -> None:
    empty = np.flatnonzero(np.bincount(numbers, minlength=folds) == 0)
    if len(empty):
        things = "images" if dataset.subjects is None else "subjects"
        count = len(dataset) if dataset.subjects is None else len(np.unique(dataset.subjects))
        hint = f"give --folds {count} or fewer" if count >= 3 else "too few for folds"
        raise InputError(
            f"fold {empty[0]} of {folds} is empty: {dataset.name} has {count} {things} outside the test split, {hint}"
        )
    if dataset.subjects is None:
        return
    for subject in np.unique(dataset.subjects):
        shared = np.unique(numbers[dataset.subjects == subject])
        if len(shared) > 1:
            raise InputError(
                f"subject {subject} of {dataset.name} is in the folds {', '.join(map(str, shared))}: "
                "move all images of a subject into one fold"
            )
