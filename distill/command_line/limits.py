"""Limits of the numbers that flags take: beyond them a mistype fills the memory, or ends in an error of a library."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from distill.errors import InputError
from distill.refusals import flag

MOST = {
    "epochs": 1_000_000,
    "student_epochs": 1_000_000,
    "teacher_epochs": 1_000_000,
    "patience": 1_000_000,
    "batch_size": 1_000_000,
    "folds": 10_000,
    "seeds": 1_000,
    "views": 10_000,
    "image_size": 4_096,
    "classes": 1_000,
    "threads": 256,
    "camera": 1_000,
    "mistakes": 10_000,
    "faces": 10_000_000,
    "images_per_shard": 10_000_000,
}
"""Name of a setting -> the highest number that it may be, wherever it occurs."""
LEAST = {"max_bytes": 0}
"""Name of a setting -> the lowest, where the settings do not say it themselves."""
_BITS_63 = 2**63 - 1  # of every other whole number: files and libraries have 64 bits

_SHOWN = 40  # digits


def check_limits(settings: Any) -> None:
    """Refuse settings with a number beyond its limit; None is not checked.

    Args:
        settings: a dataclass, of which fields may be dataclasses, too.

    Raises:
        InputError: one is beyond.
    """
    for name, value in _numbers(settings):
        least, most = LEAST.get(name, -_BITS_63), MOST.get(name, _BITS_63)
        if not least <= value <= most:
            limit = f"at least {least:,}" if value < least else f"at most {most:,}"
            raise InputError(f"{flag(name)} must be {limit}, received {str(value)[:_SHOWN]}")


def _numbers(settings: Any) -> Iterator[tuple[str, int]]:
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from _numbers(value)
        elif type(value) is int:
            yield field.name, value
        elif isinstance(value, tuple):
            yield from ((field.name, each) for each in value if type(each) is int)
