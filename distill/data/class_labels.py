"""Labels as a dataset writes them, numbers or names, become positions in a list of classes: never by a guess."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from distill.data.expressions import (
    CLASS_ORDERS,
    FIRST_NUMBERS,
    canonical_name,
    checked_names,
    class_order,
    known_order,
    parse_class_names,
)
from distill.errors import InputError
from distill.files.regular_files import read_regular

CLASSES_FILE = "classes.txt"
FLAG = "--data-classes"
MOST_LABELS = 10_000
"""Different ones, however a class is spelt."""
MAX_CLASSES_BYTES = 1 << 20
"""Of `classes.txt`."""

_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(?:\.0*)?")  # pandas writes 3.0 where a column has gaps
_NUMBERED_NAME = re.compile(r"([0-9]{1,15})\s*[=:.,;\s]\s*(\S.*)")


@dataclass(frozen=True)
class ClassList:
    """The classes of a dataset in the order of their numbers, as somebody named them."""

    names: tuple[str, ...]
    firsts: tuple[int, ...]
    """What the first of them may be numbered, the usual number first."""
    published: bool
    """Whether the usual number is that of a dataset, not just a guess."""
    source: str
    """Who named them, for messages."""


class Labels(NamedTuple):
    """What the labels of a dataset mean."""

    class_names: tuple[str, ...]
    positions: dict[str, int]
    """Of each label as it is written: its class' position in `class_names`."""
    notes: tuple[str, ...]


def class_list(given: str | Sequence[str] | None, source: str = FLAG) -> ClassList | None:
    """Return the classes that `given` names.

    Args:
        given: a row of `CLASS_ORDERS`; names in the order of their numbers, in one text with commas between, or
            in a sequence; names with their numbers, such as "1=surprise,2=fear". None names nothing.

    Raises:
        InputError: neither of these, a name that stands twice, or a number that is left out.
    """
    if given is None:
        return None
    parts = [part.strip() for part in (given.split(",") if isinstance(given, str) else given)]
    order = known_order(parts[0]) if len(parts) == 1 else None
    if order is not None:
        usual = FIRST_NUMBERS.get(order, 0)
        return ClassList(CLASS_ORDERS[order], (usual, 1 - usual), True, f"{source} {order}")
    matches = [_NUMBERED_NAME.fullmatch(part) for part in parts]
    numbered = [match for match in matches if match]
    if not numbered:
        return ClassList(_names(parts, source), (0, 1), False, source)
    if len(numbered) < len(parts):
        raise InputError(f'{source}: "{parts[matches.index(None)]}" has no number, others have: number all or none')
    by_number = sorted((int(match[1]), match[2]) for match in numbered)
    first = by_number[0][0]
    if [number for number, _ in by_number] != list(range(first, first + len(by_number))):
        raise InputError(
            f"{source} numbers the classes {', '.join(str(number) for number, _ in by_number)}: "
            "each once, and none left out"
        )
    return numbered_classes([name for _, name in by_number], source, first=first)


def numbered_classes(names: Sequence[str], source: str, *, first: int = 0) -> ClassList:
    """Return the classes whose numbers are known, which begin with `first`; their names may have commas.

    Raises:
        InputError: a name is empty, or stands twice.
    """
    try:
        return ClassList(checked_names(names), (first,), True, source)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def check_not_numbered_otherwise(names: Sequence[str], source: str) -> None:
    """Refuse class names that are numbers, but not their own: a label 1 could mean either of two classes.

    Raises:
        InputError: one is.
    """
    for number, name in enumerate(names):
        if _NUMBER.fullmatch(name) and int(float(name)) != number:
            raise InputError(
                f'{source} numbers the class "{name}" {number}: call it otherwise, such as "class {name}"'
            )


def _names(parts: Sequence[str], source: str) -> tuple[str, ...]:
    try:  # each of several parts is a name, which may have commas where the parts are lines
        return checked_names(parts) if len(parts) > 1 else parse_class_names("".join(parts))
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def with_classes_file(given: ClassList | None, folder: Path) -> ClassList | None:
    """Return `given`, or else what `classes.txt` in `folder` names: a class per line, numbered or in order.

    Raises:
        InputError: both name classes, and not the same; or what `class_list` refuses.
    """
    file = folder / CLASSES_FILE
    if not file.is_file():
        return given
    return with_classes_in(given, read_regular(file, at_most=MAX_CLASSES_BYTES), str(file))


def with_classes_in(given: ClassList | None, content: bytes, source: str) -> ClassList | None:
    """Return `given`, or else what the content of a `classes.txt` names; `source` is what messages call it.

    Raises:
        InputError: as `with_classes_file`.
    """
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not text in UTF-8 ({error.reason}): save it as UTF-8") from error
    return both_named(given, class_list([line for line in lines if line], source))


def both_named(given: ClassList | None, named: ClassList | None) -> ClassList | None:
    """Return the classes that two have named, of whom one may be nobody.

    Raises:
        InputError: they name others, or in another order.
    """
    if given is None or named is None or given.names == named.names:
        return given or named
    raise InputError(
        f"{given.source} names the classes {', '.join(given.names)}, {named.source} {', '.join(named.names)}: "
        "omit one of them"
    )


def read_labels(
    written: Iterable[str],
    classes: ClassList | None,
    *,
    source: Path | str,
    where: Callable[[str], str],
    known: Mapping[str, str] | None = None,
    classes_file: Path | str | None = None,
) -> Labels:
    """Find out what labels mean.

    Args:
        written: labels as they are written, numbers or names. Each may stand there many times.
        classes: who has named the classes, if anybody.
        source: the data, for messages.
        where: says where a label stands, for messages.
        known: rows of `CLASS_ORDERS` in which this layout numbers its classes, and what to note where it is taken.
            The first that has enough classes is taken.
        classes_file: a file that could name the classes, for messages.

    Raises:
        InputError: numbers that nobody has named or that may count from 0 and from 1; a label outside the classes.
    """
    texts = list(dict.fromkeys(written))
    if len(texts) > MOST_LABELS:
        raise InputError(f"{source} has {len(texts):,} different labels, expected {MOST_LABELS:,} at most")
    numbers = {text: int(float(text)) for text in texts if _NUMBER.fullmatch(text)}
    for text in texts:
        if not text or (text not in numbers and _is_float(text)):
            raise InputError(f'{where(text)}: label "{text:.80}", expected the name or the number of a class')
    notes: tuple[str, ...] = ()
    if classes is None and not numbers:
        names = class_order(texts)
        return Labels(names, {text: names.index(canonical_name(text)) for text in texts}, ())
    if classes is None:
        classes, notes = _known(numbers, known or {}) if len(numbers) == len(texts) else (None, ())
    if classes is None:
        raise InputError(f"{source}: {_unnamed(texts, numbers)}: {_how_to_name(numbers, classes_file)}")
    known_positions = {name: position for position, name in enumerate(classes.names)}
    positions = {text: known_positions[name] for text in texts if (name := canonical_name(text)) in known_positions}
    by_number = {text: number for text, number in numbers.items() if text not in positions}
    if len(positions) < len(texts):
        first = _first_number(set(by_number.values()), classes, source)
        positions |= {text: number - first for text, number in by_number.items()}
        _check_inside(texts, positions, classes, first, where)
        if first or classes.firsts[0]:
            notes += (f"labels count from {first}: {_listed(classes.names, first)}",)
    occur = {*positions.values()}
    absent = [name for position, name in enumerate(classes.names) if position not in occur]
    if absent:
        notes += (f"no image has the label {', '.join(absent)}",)
    return Labels(classes.names, positions, notes)


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_inside(
    texts: Sequence[str], positions: Mapping[str, int], classes: ClassList, first: int, where: Callable[[str], str]
) -> None:
    count = len(classes.names)
    for text in texts:
        if not 0 <= positions.get(text, -1) < count:
            raise InputError(
                f'{where(text)}: label "{text:.80}", expected {first}..{first + count - 1} '
                f"or one of {', '.join(classes.names)}"
            )


def _known(numbers: Mapping[str, int], known: Mapping[str, str]) -> tuple[ClassList | None, tuple[str, ...]]:
    """Return the order in which a layout numbers its classes, and what to note of it; none for numbers from 1."""
    if min(numbers.values()) == 1:
        return None, ()
    order = next((order for order in known if max(numbers.values()) < len(CLASS_ORDERS[order])), None)
    if order is None:
        return None, ()
    names = CLASS_ORDERS[order]
    classes = ClassList(names, (0,), True, order)
    said = known[order] or ("" if len(set(numbers.values())) == len(names) else "not every number occurs")
    return classes, (f"{said}: labels are taken to mean {_listed(names)}; {FLAG} names others",) if said else ()


def _first_number(numbers: set[int], classes: ClassList, source: Path | str) -> int:
    """Return the number of the first class."""
    count = len(classes.names)
    fitting = [first for first in classes.firsts if numbers and first <= min(numbers) <= max(numbers) < first + count]
    if len(fitting) > 1 and not (classes.published and (fitting[0] == 1 or min(numbers) > 1)):
        numbered = ",".join(f"{number}={name}" for number, name in enumerate(classes.names))
        raise InputError(
            f"{source}: the labels are {min(numbers)}..{max(numbers)} without 0, which fits the {count} classes of "
            f"{classes.source} whether they count from 0 or from 1: number the classes, such as {numbered}"
        )
    likely = min(numbers, default=None)
    return (*fitting, *(first for first in classes.firsts if first == likely), *classes.firsts)[0]


def _unnamed(texts: Sequence[str], numbers: Mapping[str, int]) -> str:
    if len(numbers) < len(texts):
        name = next(text for text in texts if text not in numbers)
        return f'some labels are numbers ("{next(iter(numbers))}"), others names ("{name}")'
    low, high = min(numbers.values()), max(numbers.values())
    return f"the labels are numbers, {low}..{high}{' (0 never occurs)' if low == 1 else ''}, of unknown meaning"


def _how_to_name(numbers: Mapping[str, int], classes_file: Path | str | None) -> str:
    low, high = min(numbers.values()), max(numbers.values())
    sizes = {len(names) for names in CLASS_ORDERS.values()}
    count = high if low == 1 and high in sizes else high + 1
    orders = [order for order, names in CLASS_ORDERS.items() if len(names) == count]
    if low == 1:  # those that do count from 1 come first
        orders.sort(key=lambda order: FIRST_NUMBERS.get(order, 0), reverse=True)
    file = "" if classes_file is None else f", or write them into {classes_file}, a name per line"
    return f"name the classes with {FLAG} (class_names in Python), {', '.join((*orders, 'or in order, A,B,C'))}{file}"


def _listed(names: Sequence[str], first: int = 0) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(names, first))
