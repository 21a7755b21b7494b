"""How the order of a network's classes is known: given by the user, recorded in a file, or assumed from the data."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from distill.data.expressions import canonical_name, parse_class_names
from distill.errors import InputError

GIVEN, KNOWN, ASSUMED = "given", "known", "assumed"
"""By `--classes`; by the record of a run of this project, or a file that names its classes; from the data."""
NOT_RECORDED = "unknown: not recorded"
"""Of what an earlier version wrote, which did not record it."""

_LEAST_CERTAIN_FIRST = (NOT_RECORDED, ASSUMED, GIVEN, KNOWN)


class ClassOrder(NamedTuple):
    """The classes that a network tells apart, in its own order, and how that is known."""

    names: tuple[str, ...]
    source: str
    """`GIVEN`, `KNOWN` or `ASSUMED`."""


def class_order_of(
    source: str, *, given: str | None, known: Sequence[str], data_classes: Sequence[str], data_name: str
) -> ClassOrder:
    """Return the classes of a network in its own order, as far as anybody says it.

    Args:
        source: the network's file or name, for messages.
        given: what `--classes` says, or None.
        known: the classes that the network's own file or record names; empty where it names none.
        data_classes: those of the data, which are assumed where nothing else is known.
        data_name: for messages.

    Raises:
        InputError: `given` is not a list of classes, or contradicts `known`; nothing names the classes.
    """
    known = tuple(map(canonical_name, known))
    if given is not None:
        names = parse_class_names(given, data_classes)
        if known and known != names and sorted(known) == sorted(names):
            raise InputError(
                f"{source} names its classes {', '.join(known)}, received --classes {given}: omit --classes"
            )
        return ClassOrder(names, KNOWN if known == names else GIVEN)
    if known:
        return ClassOrder(known, KNOWN)
    if not data_classes:
        raise InputError(f"{data_name} has no labels: name the teacher's classes with --classes, such as fer2013")
    return ClassOrder(tuple(data_classes), ASSUMED)


def most_certain(sources: Iterable[str]) -> str:
    """Return which of several statements about one and the same order is the most certain."""
    return max(sources, key=lambda each: _LEAST_CERTAIN_FIRST.index(each) if each in _LEAST_CERTAIN_FIRST else -1)
