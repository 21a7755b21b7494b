"""The data set of a trained network, with the splits of its training: others would test it on what it learned from."""

from distill.data.data_settings import DataSettings, print_notes
from distill.data.dataset import Dataset, with_splits
from distill.data.open_dataset import open_dataset
from distill.errors import InputError
from distill.networks import recorded_run, recorded_splits


def open_as_trained(data: str, weights: str, *, splits: str | None = None, split_seed: int | None = None) -> Dataset:
    """Open a data set; print what a user should know of how it was read.

    Args:
        data: a path whose layout is recognised, or "synthetic".
        weights: a run's directory or a file in it, whose splits are taken; for any other file, official ones.
        splits: "official" or "random", instead.
        split_seed: of the random split, instead.

    Raises:
        InputError: splits are asked for, and the network was trained in a fold; whatever the data has wrong.
    """
    dataset = open_dataset(data)
    print_notes(dataset)
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
