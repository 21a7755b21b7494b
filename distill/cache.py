"""Look after cached logits: `python -m distill.cache inspect | verify | merge | import | export`."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from distill.command_line.class_orders import print_accuracy, print_store_notes
from distill.command_line.data_settings import DataClasses
from distill.command_line.stage import run_stages
from distill.command_line.teacher_settings import ScoringSettings
from distill.data.class_order import ASSUMED
from distill.errors import InputError
from distill.keras_import import import_keras_quietly
from distill.printable import counted
from distill.refusals import flag

if TYPE_CHECKING:
    from distill.data.dataset import Dataset
    from distill.logit_store import LogitStore

_PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True, kw_only=True)
class InspectSettings(DataClasses):
    """Show what a store holds, and what its logits are worth at several temperatures."""

    store: Positional[str]
    """A logit store: its .h5 file, or the folder of its parts."""
    data: str | None = None
    """The dataset, to evaluate the logits on one of its splits; by default they are evaluated on all samples. It may
    be MODULE:FUNCTION, which runs code with your permissions."""
    split: str | None = None
    """Which split of --data: "train", "validation" (default) or "test"."""
    json: bool = False
    """Print JSON instead of tables."""
    plot: str | None = None
    """A picture to draw, .png, .svg or .pdf: top probability and calibration error against the temperature."""

    def __post_init__(self):
        if self.split is not None and self.data is None:
            raise InputError("--split is one of --data: give that, or omit --split")
        if self.data_classes is not None and self.data is None:
            raise InputError("--data-classes are those of --data: give that, or omit --data-classes")
        if self.plot is not None and not self.plot.endswith(_PICTURES):
            raise InputError(f"--plot {self.plot} must end in one of {', '.join(_PICTURES)}")


@dataclass(frozen=True, kw_only=True)
class VerifySettings(ScoringSettings, DataClasses):
    """Check a store: its checksums; with --data the images; with --teacher the logits of some of them."""

    store: Positional[str]
    """A logit store: its .h5 file, or the folder of its parts."""
    data: str | None = None
    """The dataset that it was written for. It may be MODULE:FUNCTION, which runs with your permissions."""
    teacher: str | None = None  # type: ignore[assignment]  # what others require
    """The teacher that wrote it, which scores some images again, with the --weights and other flags of
    distill.teacher_logits."""
    operations: tuple[str, ...] = ()
    """MODULE:ROW of each view operation from outside that the store names. The module runs with your permissions."""
    images: int = 64
    """How many images, drawn at random, the teacher scores again."""
    seed: int = 0
    """Which images those are."""


@dataclass(frozen=True, kw_only=True)
class MergeSettings:
    """Join the parts that several processes or machines have written; the folders stay as they are."""

    folders: Positional[tuple[str, ...]]
    """Folders of parts, such as LOGITS.h5.parts."""
    out: str
    """The logit store to write, an .h5 file."""


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """Turn external logits into a store: a .npz or .csv file, or a pickled dictionary of path -> logits.

    A pickle is read as plain values only: nothing in it is ever called.
    """

    file: Positional[str]
    """What was exported here (and comes back as it was), or made elsewhere: raw logits of known samples."""
    out: str
    """The logit store to write, an .h5 file."""
    classes: str | None = None
    """Whose order the logits are in, where the file does not say: "fer2013", "ferplus", "affectnet", "affectnet7",
    "rafdb", "microexpnet", "ckplus", "ckextended", or names with commas between; of a pickle by default
    "microexpnet"."""
    teacher_name: str | None = None
    """Name of the network that gave the logits; by default the name of the file."""
    teacher_input_shape: tuple[int, int, int] | None = None
    """Height, width and channels of what the teacher saw."""


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Write the content of a store as a .npz or .csv file (with its header next to it, .header.json)."""

    store: Positional[str]
    """A logit store: its .h5 file, or the folder of its parts."""
    out: str
    """The file to write, .npz or .csv."""


def inspect(settings: InspectSettings) -> None:
    """Print what `settings.store` holds."""
    import json

    from distill.logit_store import open_logits
    from distill.reports.store_report import describe_store, store_text

    store = open_logits(settings.store)
    evaluated_on = None if settings.data is None else _open_split(settings.data, settings)
    description = describe_store(store, evaluated_on)
    print(json.dumps(description, indent=2) if settings.json else store_text(description))
    if evaluated_on is not None and not settings.json:
        _print_not_counted(store, evaluated_on)
    if settings.plot is not None:
        from distill.reports.plots import temperature_picture  # slow to import

        temperature_picture(description["temperatures"], settings.plot, title=store.header.teacher_name)


def verify(settings: VerifySettings) -> None:
    """Check `settings.store`, as far as data and teacher are given."""
    from distill.logit_store import open_logits
    from distill.logit_store.samples import are_known

    if settings.teacher is not None and settings.data is None:
        raise InputError("--teacher needs images to score again: give --data")
    if settings.data_classes is not None and settings.data is None:
        raise InputError("--data-classes are those of --data: give that, or omit --data-classes")
    _refuse_what_only_a_teacher_uses(settings)
    store = open_logits(settings.store)
    _check_classes(settings, store)
    print(f"checksums  {len(store):,} samples, {store.header.views} views: every block is as it was written")
    if store.features:
        store.check_features()
        print(f"features   {', '.join(map(str, store.features.values()))}: each is as it was written")
    if settings.data is None:
        print(f"classes    {', '.join(store.class_names)}; their order: {store.header.class_order}")
        return
    dataset = _open_data(settings)
    known = are_known(store.content_hashes[store.rows_of(dataset)])
    seen = "each has" if known.all() else f"{counted(int(known.sum()), 'image')} with"
    unseen = "" if known.all() else f"; {(~known).sum():,} cannot be checked, theirs are unknown"
    print(f"images     {len(dataset):,} of {dataset.name}: {seen} the pixels that the teacher saw{unseen}")
    if dataset.class_names:
        print(f"classes    {_class_order(store, dataset)}")
    print_accuracy(store, dataset)
    _print_not_counted(store, dataset)
    if settings.teacher is not None:
        _score_again(settings, store, dataset)


def merge(settings: MergeSettings) -> None:
    """Write the store whose parts lie in `settings.folders`."""
    from distill.logit_store import merge_parts, open_logits

    store = open_logits(merge_parts(settings.folders, settings.out))
    print(f"{settings.out}: {_size(store)}")
    print_store_notes(store)
    print_accuracy(store)


def import_(settings: ImportSettings) -> None:
    """Write the store that `settings` describe, and say what it holds."""
    from distill.logit_store.exchange import import_logits

    store = import_logits(
        settings.file,
        settings.out,
        classes=settings.classes,
        teacher_name=settings.teacher_name,
        teacher_input_shape=settings.teacher_input_shape,
    )
    print(f"{settings.out}: {_size(store)} of {store.header.teacher_name}")
    print(f"classes: {', '.join(store.class_names)}")
    print_store_notes(store)
    print_accuracy(store)


def export(settings: ExportSettings) -> None:
    """Write the content of `settings.store` as another kind of file."""
    from distill.logit_store import open_logits
    from distill.logit_store.exchange import export_logits
    from distill.logit_store.exchange.csv_logits import header_path

    store = open_logits(settings.store)
    export_logits(store, settings.out)
    header = header_path(settings.out)
    beside = f", with {header}, which belongs to it" if settings.out.lower().endswith(".csv") else ""
    print(f"{settings.out}: {_size(store)}{beside}")
    if store.features:
        print(f"note: the features stay in {store.path}: {', '.join(store.features)}")
    print_store_notes(store)


def _score_again(settings: VerifySettings, store: "LogitStore", dataset: "Dataset") -> None:
    import_keras_quietly()
    from distill.data.outside_operations import register
    from distill.scoring.spot_check import spot_check

    for reference in settings.operations:
        register(reference)
    check = spot_check(
        settings.open(dataset),
        store,
        dataset,
        images=settings.images,
        seed=settings.seed,
        batch_size=settings.batch_size,
    )
    print(
        f"teacher    scored {check.images} images x {check.views} views again: same class in "
        f"{check.agreement:.1%}, largest difference {check.largest_difference:.2g} "
        f"(rounding explains {check.tolerance:.2g})"
    )


def _check_classes(settings: VerifySettings, store: "LogitStore") -> None:
    from distill.data.expressions import parse_class_names

    if settings.classes is not None and parse_class_names(settings.classes, store.class_names) != store.class_names:
        raise InputError(
            f"{store.path} holds logits of the classes {', '.join(store.class_names)}, expected --classes "
            f"{settings.classes}: write them again with these, or name the classes as they were"
        )


def _class_order(store: "LogitStore", dataset: "Dataset") -> str:
    source = store.header.class_order
    if store.class_names != tuple(dataset.class_names):
        return (
            f"not those of {dataset.name} in their order: stored {', '.join(store.class_names)} ({source}); "
            f"the data has {', '.join(dataset.class_names)}: --class-match names joins them"
        )
    if source == ASSUMED:
        return f"assumed to be those of {dataset.name} in the same order: nobody said what the teacher's own are"
    return f"those of {dataset.name}, in the same order ({source})"


def _refuse_what_only_a_teacher_uses(settings: VerifySettings) -> None:
    used = {"store", "data", "data_classes", "teacher", "classes"}
    given = [
        field.name
        for field in fields(settings)
        if field.name not in used and getattr(settings, field.name) != getattr(VerifySettings(store=""), field.name)
    ]
    if settings.teacher is None and given:
        raise InputError(f"without --teacher nothing uses --{flag(given[0])}: name the teacher")


def _print_not_counted(store: "LogitStore", dataset: "Dataset") -> None:
    """Print how many labelled images no accuracy of the store speaks of."""
    from distill.data.dataset import UNLABELLED
    from distill.printable import printable

    absent = (dataset.labels != UNLABELLED) & (dataset.labels_among(store.class_names) == UNLABELLED)
    if absent.any():
        names = ", ".join(dataset.class_names[label] for label in sorted({*dataset.labels[absent].tolist()}))
        print(printable(f"note: {absent.sum():,} images are not counted, {store.path} lacks their classes: {names}"))


def _open_data(settings: VerifySettings) -> "Dataset":
    """Return the data with the classes that the teacher was trained with, as `teacher_logits` had them."""
    from distill.command_line.data_settings import print_notes
    from distill.data.open_dataset import open_dataset

    dataset = open_dataset(str(settings.data), class_names=settings.data_classes)
    if settings.weights:
        import_keras_quietly()
        from distill.data.class_map import with_class_map
        from distill.runs.recorded_data import recorded_class_map

        dataset = with_class_map(dataset, recorded_class_map([settings.weights]))
    print_notes(dataset)
    return dataset


def _open_split(data: str, settings: InspectSettings) -> "Dataset":
    from distill.data.open_dataset import open_dataset
    from distill.data.splits import with_splits

    split = settings.split or "validation"
    return with_splits(open_dataset(data, class_names=settings.data_classes)).split(split)


def _size(store: "LogitStore") -> str:
    views = store.header.views
    size = f"{len(store):,} images x {views} view{'s' * (views > 1)} x {len(store.class_names)} classes"
    return f"{size}, {len(store.features)} features" if store.features else size


VERBS: dict[str, tuple[Callable[[Any], Any], type]] = {
    "inspect": (inspect, InspectSettings),
    "verify": (verify, VerifySettings),
    "merge": (merge, MergeSettings),
    "import": (import_, ImportSettings),
    "export": (export, ExportSettings),
}


def main() -> None:
    run_stages("cache", VERBS)


if __name__ == "__main__":
    main()
