"""`DataSettings`: the flags by which commands are given a dataset and its splits."""

from dataclasses import dataclass
from shlex import quote

from distill.data.class_map import parse_class_map, with_class_map
from distill.data.dataset import Dataset
from distill.data.folds import deal_folds
from distill.data.open_dataset import open_dataset
from distill.data.splits import with_splits
from distill.errors import InputError
from distill.printable import printable


@dataclass(frozen=True, kw_only=True)
class DataClasses:
    """What the labels of a dataset mean, where it does not say so itself."""

    data_classes: str | None = None
    """What the labels of --data mean, in order: "fer2013", "ferplus", "affectnet", "affectnet7", "rafdb",
    "microexpnet", "ckplus", "ckextended", names with commas between, or numbered names, such as
    "1=surprise,2=fear". By default what the data says, such as a classes.txt in it; numbers alone are refused."""


@dataclass(frozen=True, kw_only=True)
class MergedClasses:
    """Which classes are one."""

    class_map: tuple[str, ...] = ()
    """Merges and renames classes, in the data and in what its teachers say alike, whose probabilities add up:
    OLD=NEW ..., such as angry=other fear=other. Classes that are not named stay."""

    def merged(self, dataset: Dataset) -> Dataset:
        """Return `dataset` with these classes merged."""
        return with_class_map(dataset, parse_class_map(self.class_map))


@dataclass(frozen=True, kw_only=True)
class DataSetting(DataClasses):
    """Which images, and what their labels mean."""

    data: str
    """A dataset: a path whose layout is recognised, a pattern or a URL of shards, "synthetic", or MODULE:FUNCTION,
    which takes nothing and returns a distill.Dataset. The last runs code with your permissions."""

    @property
    def data_flags(self) -> str:
        """What tells another command the same dataset, quoted for a shell."""
        means = "" if self.data_classes is None else f" --data-classes {quote(self.data_classes)}"
        return f"--data {quote(self.data)}{means}"


@dataclass(frozen=True, kw_only=True)
class DataSettings(MergedClasses, DataSetting):
    """Which images, and how they are split."""

    splits: str = "official"
    """"official": the dataset's own; "random": 20 % of the images outside the test split for validation."""
    split_seed: int = 0
    """Which images those are. Official splits without a validation split draw it by this seed, too."""

    test_share: float = 0.0
    """With random splits of data without a test split: the share of all images that is held out for the test, such
    as 0.15, whole subjects where names say who they are."""

    def open(self) -> Dataset:
        """Return the dataset with its splits; print what a user should know of how it was read."""
        dataset = self.merged(open_dataset(self.data, class_names=self.data_classes))
        dataset = with_splits(dataset, policy=self.splits, test_fraction=self.test_share, seed=self.split_seed)
        print_notes(dataset)
        return dataset


@dataclass(frozen=True, kw_only=True)
class FoldSettings(DataSettings):
    """Which images, split once or into folds."""

    folds: int = 0
    """Cross-validation: train and test once per fold, whole subjects in each where names say who they are;
    0 for none."""

    def open_folds(self) -> Dataset:
        """Return the dataset with its folds dealt; print what a user should know of them.

        Raises:
            InputError: splits are given as well, which the folds would overrule.
        """
        default = (DataSettings.splits, DataSettings.split_seed, DataSettings.test_share)
        if (self.splits, self.split_seed, self.test_share) != default:
            raise InputError("--folds makes the splits itself: omit --splits, --split-seed and --test-share")
        dataset = deal_folds(self.merged(open_dataset(self.data, class_names=self.data_classes)), self.folds)
        print_notes(dataset)
        return dataset


def print_notes(dataset: Dataset) -> None:
    """Print what a user should know of how a dataset was read."""
    for note in dataset.notes:
        print(printable(f"note: {note}"))
