"""The dataset of a trained network, split as in its training: otherwise it is tested on what it learned from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from distill.data.class_map import with_class_map
from distill.data.dataset import Dataset
from distill.data.folds import deal_folds, fold_splits
from distill.data.open_dataset import open_dataset
from distill.data.same_shape import in_shape
from distill.data.split_policy import SplitPolicy
from distill.data.splits import with_splits
from distill.errors import InputError
from distill.files.home import expanded
from distill.printable import printable
from distill.runs.networks import recorded_run
from distill.runs.run_record import RunRecord
from distill.runs.training_images import TrainingImages


def open_as_trained(
    data: str,
    weights: Sequence[str],
    *,
    splits: str | None = None,
    split_seed: int | None = None,
    class_names: str | None = None,
) -> Dataset:
    """Open a dataset with the splits of `split_as_all_trained`; print what a user should know of how it was read.

    Args:
        data: whatever `open_dataset` takes.
        class_names: what its labels mean, as for `open_dataset`.

    Raises:
        InputError: what `split_as_all_trained` refuses; whatever the data has wrong.
    """
    dataset = with_class_map(open_dataset(data, class_names=class_names), recorded_class_map(weights))
    for note in dataset.notes:
        print(printable(f"note: {note}"))
    return split_as_all_trained(dataset, weights, splits=splits, split_seed=split_seed)


def recorded_class_map(weights: Sequence[str]) -> Mapping[str, str]:
    """Return which classes were merged in the training of networks.

    Raises:
        InputError: other ones for one than for another.
    """
    records = [record for each in weights if (record := recorded_run(each)) is not None]
    maps = [record.data.class_map for record in records]
    if any(each != maps[0] for each in maps):
        raise InputError("these runs merged classes in different ways: evaluate them one at a time")
    return maps[0] if maps else {}


def split_as_trained(
    dataset: Dataset, weights: str, *, splits: str | None = None, split_seed: int | None = None
) -> Dataset:
    """Return `dataset` with the splits that a network was trained with.

    Args:
        weights: a run's directory or a file in it, whose splits are taken; for any other file, official ones.
        splits: "official" or "random", instead.
        split_seed: of the random split, instead.

    Raises:
        InputError: splits are given, and the network was trained in a fold; unknown splits.
    """
    record = recorded_run(weights)
    trained = SplitPolicy() if record is None or record.data.splits is None else record.data.splits
    if trained.policy == "folds":
        of_fold = _as_fold(dataset, trained, record)
        if of_fold is not None:
            if (splits, split_seed) != (None, None):
                raise InputError(f"{weights} was trained in a fold, which makes its own splits: omit --splits")
            return of_fold
        trained = SplitPolicy()  # other data
    policy = splits or trained.policy
    return with_splits(
        dataset,
        policy=policy,
        test_fraction=trained.test_fraction if policy == trained.policy else 0.0,
        seed=trained.seed if split_seed is None else split_seed,
        fraction=trained.fraction,
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
                "evaluated on images that it learned from: evaluate them one at a time"
            )
    return parts


def check_unseen(weights: str | Path, part: Dataset, *, split: str) -> None:
    """Check that a network never learned from the images that it is about to be evaluated on.

    Exact copies under other ids are no reason to refuse: datasets have them, and a report counts them.

    Args:
        weights: a run's directory or a file in it; of any other file nothing is known.
        part: images of the split called `split`; those of "train" are meant to be known to it.

    Raises:
        InputError: it learned from some of them.
    """
    record = recorded_run(weights)
    if record is None or split == "train":
        return
    path = expanded(weights)
    folder = path if path.is_dir() else path.parent
    known = TrainingImages.read(folder)
    if known is None:
        _check_fingerprint(weights, record, part, split=split)
        return
    shape = record.data.image_shape
    learned = known.holds(part)
    if shape not in (None, part.image_shape) and (as_learned := in_shape(part, shape)) is not None:
        learned |= known.holds(as_learned)  # hashes are of pixels as they were served
    if learned.any():
        raise InputError(
            f"{learned.sum():,} of the {len(part):,} images of the {split} split are among those that {weights} "
            "learned from, in other splits of the same data: omit --splits to have those of its training, or "
            "give the data with them"
        )


def _check_fingerprint(weights: str | Path, record: RunRecord, part: Dataset, *, split: str) -> None:
    """For runs before 0.2, which say of the images that they learned from no more than their fingerprint."""
    same_file = Path(record.data.name).name == Path(part.name).name
    unknown = record.data.splits is None or split == "validation"
    if same_file and unknown and part.fingerprint != record.data.validation.fingerprint:
        raise InputError(
            f"{weights} does not say by which splits of {part.name} it was trained, and may have learned from these "
            "images: train it again"
        )


def _as_fold(dataset: Dataset, trained: SplitPolicy, record: RunRecord | None) -> Dataset | None:
    """Return `dataset` split as the fold that a network was trained in; None if it comes from other data."""
    try:
        parts = fold_splits(deal_folds(dataset, trained.folds or 0), trained.fold or 0)
    except InputError:  # other data, which cannot be dealt like that
        return None
    same = record is not None and parts.split("train").fingerprint == record.data.train.fingerprint
    return parts if same else None
