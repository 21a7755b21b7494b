"""Operations from outside in a specification of views: found by name or as MODULE:ROW, and their settings checked."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tyro.constructors import PrimitiveConstructorSpec

from distill.data.operations import BUILT_IN, OPERATIONS, Operation
from distill.errors import InputError
from distill.keras_import import set_tensorflow_defaults
from distill.python_function import load_function
from distill.quiet import quiet_stderr
from distill.refusals import alternatives

Extra = dict[str, dict[str, Any]]
"""Operation -> its settings. In a specification both are sorted, and settings that are neutral are left out."""

EXTRA_SOURCES = "extra_sources"
"""What descriptions call the fingerprints of the operations' sources."""
_METAVAR = "MODULE:ROW SETTING VALUE [...]"


def operation_named(name: str) -> Operation:
    """Return the row of an operation from outside.

    Raises:
        InputError: none is registered under that name.
    """
    if name in BUILT_IN or name not in OPERATIONS:
        outside = [f'"{each}"' for each in OPERATIONS if each not in BUILT_IN]
        raise InputError(
            f'the view operation "{name}" is not registered here (from outside are {", ".join(outside) or "none"}): '
            f'give --view.extra MODULE:{name} SETTING VALUE, or in Python OPERATIONS["{name}"] = its row'
        )
    return OPERATIONS[name]


def register(reference: str) -> str:
    """Import `module:row`, put the row into `OPERATIONS` under its own name, and return that name.

    The module is a program: importing it can do whatever the user can do. So only what the user wrote is imported,
    never what a store says.

    Raises:
        InputError: there is no such row, or another one has its name.
    """
    name = plain_name(reference)
    set_tensorflow_defaults()
    with quiet_stderr():  # of TensorFlow, which the module may import
        row = load_function(reference)
    if not isinstance(row, Operation):
        raise InputError(f"{reference} is a {type(row).__name__}: expected a distill.data.operations.Operation")
    if OPERATIONS.setdefault(name, row) is not row:
        raise InputError(f'{reference} has the name of another view operation, "{name}": give it one of its own')
    return name


def plain_name(name_or_reference: str) -> str:
    """Return the name under which an operation stands in `OPERATIONS` and in stores."""
    return name_or_reference.rpartition(":")[2]


def checked_extra(extra: Mapping[str, Mapping[str, Any]]) -> Extra:
    """Return `extra` with everything in it known, in range, in order, and not neutral.

    Args:
        extra: names or references, MODULE:ROW, which are imported -> settings.

    Raises:
        InputError: an unknown operation or setting, or a value that is out of range.
    """
    if not isinstance(extra, Mapping) or not all(isinstance(settings, Mapping) for settings in extra.values()):
        raise InputError(f'view extra must be operations with settings, {{"blur": {{"sigma": 1}}}}, received {extra}')
    names = sorted(extra, key=plain_name)
    if len(set(map(plain_name, names))) < len(names):
        raise InputError(f"view extra names an operation twice: {', '.join(names)}")
    checked = {name: _checked_settings(name, extra[name]) for name in names}
    return {name: settings for name, settings in checked.items() if settings}


def _checked_settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    known = operation_named(register(name) if ":" in name else name).settings
    for setting, value in given.items():
        if setting not in known:
            hint = alternatives(setting, known)
            raise InputError(f'the view operation "{name}" has no setting "{setting}": {hint}')
        if not known[setting].fits(value):
            raise InputError(f"view {name} {setting} must {known[setting].expected}, received {value}")
    return {setting: given[setting] for setting in sorted(given) if given[setting] != known[setting].neutral}


def source_of(name: str) -> str | None:
    """Return the fingerprint of the source of an operation from outside; None where there is none to be had."""
    return operation_named(name).source_sha256


def check_sources(stored: Mapping[str, str], names: Iterable[str]) -> None:
    """Check that operations from outside are those that drew some views: earlier descriptions do not say.

    Args:
        stored: name -> fingerprint of then.
        names: of the operations that are to be drawn.

    Raises:
        InputError: the source of one has changed.
    """
    for name in names:
        if name in stored and stored[name] != (source_of(name) or stored[name]):
            raise InputError(
                f'the source of the view operation "{name}" has changed since these views were drawn: restore the '
                "former source, or cache the logits again, into another file"
            )


def _parse(words: list[str]) -> Extra:
    if len(words) % 3:
        raise InputError(f"--view.extra takes {_METAVAR}, three words each, received {' '.join(words)}")
    extra: Extra = {}
    for name, setting, value in zip(words[::3], words[1::3], words[2::3], strict=True):
        extra.setdefault(name, {})[setting] = _value(value)
    return extra


def _value(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word


def _words(extra: Extra) -> list[str]:
    return [
        word
        for name, settings in extra.items()
        for setting, value in settings.items()
        for word in (name, setting, value if isinstance(value, str) else json.dumps(value))
    ]


EXTRA_FLAG: PrimitiveConstructorSpec[Extra] = PrimitiveConstructorSpec(
    nargs="*",
    metavar=_METAVAR,
    instance_from_str=_parse,
    is_instance=lambda value: isinstance(value, dict),
    str_from_instance=_words,
)
"""How the command line gives `Extra`."""


def outside_names(extra: Extra) -> Sequence[str]:
    """Return the plain names of the operations in `extra`."""
    return tuple(map(plain_name, extra))
