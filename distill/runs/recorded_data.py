"""The data set of a trained network, split as in its training: otherwise it is tested on what it learned from."""

from collections.abc import Sequence

import numpy as np

from distill.command_line.data_settings import DataSettings, print_notes
from distill.data.dataset import Dataset, with_splits
from distill.data.open_dataset import open_dataset
from distill.errors import InputError
from distill.runs.networks import recorded_run, recorded_splits


def open_as_trained(
    data: str, weights: Sequence[str], *, splits: str | None = None, split_seed: int | None = None
) -> Dataset:
    """Open a data set with the splits of `split_as_all_trained`; print what a user should know of how it was read.

    Args:
        data: a path whose layout is recognised, or "synthetic".

    Raises:
        InputError: what `split_as_all_trained` refuses; whatever the data has wrong.
    """
    dataset = open_dataset(data)
    print_notes(dataset)
    return split_as_all_trained(dataset, weights, splits=splits, split_seed=split_seed)


def split_as_trained(
    dataset: Dataset, weights: str, *, splits: str | None = None, split_seed: int | None = None
) -> Dataset:
    """Return `dataset` with the splits that a network was trained with.

    Args:
        weights: a run's directory or a file in it, whose splits are taken; for any other file, official ones.
        splits: "official" or "random", instead.
        split_seed: of the random split, instead.

    Raises:
        InputError: splits are asked for, and the network was trained in a fold; unknown splits.
    """
    of_fold = recorded_splits(weights, dataset)
    if of_fold is not None:
        if (splits, split_seed) != (None, None):
            raise InputError(f"{weights} was trained in a fold, which makes its own splits: leave --splits out")
        return of_fold
    trained = (recorded_run(weights) or {}).get("settings", {})
    policy = splits or trained.get("splits", DataSettings.splits)
    return with_splits(
        dataset, policy=policy, seed=trained.get("split_seed", 0) if split_seed is None else split_seed
    )


def split_as_all_trained(
    dataset: Dataset, weights: Sequence[str], *, splits: str | None = None, split_seed: int | None = None
) -> Dataset:
    """Return `dataset` with the splits that several networks were trained with; those without a record do not count.

    Args:
        weights: at least one; `splits` and `split_seed` are those of `split_as_trained`.

    Raises:
        InputError: two of them were trained with different splits; whatever `split_as_trained` refuses.
    """
    first, *others = [each for each in weights if recorded_run(each) is not None] or weights[:1]
    parts = split_as_trained(dataset, first, splits=splits, split_seed=split_seed)
    for other in others:
        theirs = split_as_trained(dataset, other, splits=splits, split_seed=split_seed)
        if not np.array_equal(parts.splits, theirs.splits):
            raise InputError(
                f"{first} and {other} were trained with different splits of {dataset.name}, so that one would be "
                "judged by images that it learned from: evaluate them one at a time"
            )
    return parts
