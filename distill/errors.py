"""The errors that are the user's to mend."""


class InputError(Exception):
    """Something the user gave is wrong.

    The message is one line that names the thing received and what would work. Commands print it and end with
    exit code 2. It is not a `ValueError`, because the flag parser would catch that one and print it its own way.
    """


class DivergedError(InputError):
    """A training has diverged: its loss or its logits are no longer finite. Other trainings may go on."""


class GateError(Exception):
    """What was measured misses a bound that the user set.

    The message is one line that names both. Commands print it and end with exit code 1.
    """


class BusyError(InputError):
    """A file cannot be read now, so that nothing is known of its content.

    All there is to do about it is to try again; whoever finds a file damaged may do more.
    """
