"""What a loss' own parameters may be."""

import math
from collections.abc import Collection, Mapping

from distill.errors import InputError
from distill.refusals import alternatives


def check_options(
    loss: str, known: Mapping[str, float], given: Mapping[str, float], *, above_zero: Collection[str] = ()
) -> None:
    """Refuse options that a loss does not have, or values that they cannot take.

    Args:
        loss: its name, for messages.
        known: name -> the usual value of each option that it has.
        given: name -> value, 0 or more, and finite.
        above_zero: names of those that must not be 0.

    Raises:
        InputError: one is unknown, or out of its range.
    """
    for option, value in given.items():
        if not known:
            raise InputError(f'the loss "{loss}" has no options, received "{option}": omit it')
        if option not in known:
            raise InputError(f'the loss "{loss}" has no option "{option}": {alternatives(option, known)}')
        if not 0 <= value < math.inf or (value == 0 and option in above_zero):
            bound = "above 0" if option in above_zero else "0 or more"
            raise InputError(f'option {option} of "{loss}" must be {bound}, received {value}: try {known[option]:g}')
