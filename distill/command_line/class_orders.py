"""What commands print of the order of a network's classes: how it is known, and whether the labels agree."""

from dataclasses import replace
from typing import TYPE_CHECKING

from distill.data.class_order import ASSUMED
from distill.printable import printable

if TYPE_CHECKING:
    from distill.data.dataset import Dataset
    from distill.logit_store import LogitStore
    from distill.runtimes.image_model import ImageModel


def print_network_check(network: "ImageModel", dataset: "Dataset", *, prefix: str = "") -> bool:
    """Check an external network on some labelled images; print what is assumed of it, and what does not fit.

    Args:
        prefix: what the network's flags begin with.

    Returns:
        Whether something does not fit.
    """
    from distill.scoring.teacher_check import check_teacher

    if network.class_order == ASSUMED:
        print(f"note: {assumed_text(network.name, prefix=prefix)}")
    warnings = check_teacher(network, dataset).warnings(prefix=prefix)
    for warning in warnings:
        print(f"warning: {network.name}: {warning}")
    return bool(warnings)


def print_matching_note(network: "ImageModel", dataset: "Dataset") -> None:
    """Print what a student needs where a network tells other classes apart than the data, or in another order."""
    known, labelled = network.class_names, tuple(dataset.class_names)
    if known and labelled and known != labelled and not dataset.class_map:
        print(
            f"note: {network.name} tells apart {', '.join(known)}; {dataset.name} has {', '.join(labelled)}: a "
            "student learns from both with --class-match names"
        )


def print_store_notes(*stores: "LogitStore") -> None:
    """Print what a user should know of stores before they are used."""
    from distill.reports.store_report import store_notes

    for note in dict.fromkeys(note for store in stores for note in store_notes(store)):
        print(printable(f"note: {note}"))


def print_accuracy(store: "LogitStore", dataset: "Dataset | None" = None, *, near_chance: bool = True) -> None:
    """Print how often a store's logits agree with the labels (by default its own), if there are any.

    Args:
        dataset: whose labels to take; all of its images must be in the store.
        near_chance: warn where the accuracy is near chance, too, which `print_network_check` may have done.
    """
    from distill.reports.diagnosis import accuracy_text, warnings_of
    from distill.reports.store_report import is_of_this_project, store_diagnosis

    found = store_diagnosis(store, dataset)
    if found.images:
        print(f"accuracy   {accuracy_text(found)}")
    found = found if near_chance else replace(found, near_chance=False)
    for warning in warnings_of(found, of_this_project=is_of_this_project(store)):
        print(f"warning: {store.path}: {warning}")


def assumed_text(name: str, *, prefix: str = "") -> str:
    """Return a sentence that says that a network's order of classes is assumed."""
    return f"the class order of {name} is assumed to be that of the data: set it with --{prefix}classes"
