"""The frame of every command: flags from a settings dataclass, errors as one line, exit codes.

Exit codes: 0 done, 2 wrong input, 130 interrupted.
"""

import dataclasses
import difflib
import json
import os
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from distill.errors import InputError

Settings = TypeVar("Settings")

DONE, WRONG_INPUT, INTERRUPTED = 0, 2, 130

_CONFIG_HELP = "--config FILE takes what is not given here from the settings.json of a run."


def run_stage(
    stage: Callable[[Settings], Any],
    settings_class: type[Settings],
    args: Sequence[str] | None = None,
    *,
    needs_tensorflow: bool = True,
) -> None:
    """Parse the command line into `settings_class`, call `stage` with it, and exit.

    `--config FILE` takes its defaults from a JSON file of settings, such as the `settings.json` of a run.
    The stage's module may import TensorFlow only inside functions, so that `--help` answers at once.
    """
    args = list(sys.argv[1:] if args is None else args)
    try:
        default = _take_config(args, settings_class)
        settings = tyro.cli(
            settings_class,
            args=args,
            default=default,
            prog=f"python -m distill.{stage.__name__}",
            description=f"{settings_class.__doc__}\n\n{_CONFIG_HELP}",
        )
        if needs_tensorflow:
            _import_tensorflow_quietly()
        stage(settings)
    except InputError as error:
        _exit(WRONG_INPUT, f"error: {error}")
    except OSError as error:
        _exit(WRONG_INPUT, f"error: {error.filename or 'file system'}: {error.strerror or error}")
    except KeyboardInterrupt:
        _exit(INTERRUPTED, "interrupted: the same command goes on from here")
    sys.exit(DONE)


def _import_tensorflow_quietly() -> None:
    """Import TensorFlow without its greetings about processors and missing GPUs.

    They are written before its log level is read, straight to the file descriptor, and would stand before
    every one-line error. What goes wrong in TensorFlow later is raised as an exception all the same.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import keras
        import tensorflow as tf

        tf.config.list_physical_devices()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    if keras.config.backend() != "tensorflow":
        raise InputError(f'Keras runs on "{keras.config.backend()}": set KERAS_BACKEND=tensorflow')


def _exit(code: int, message: str) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)


def _take_config(args: list[str], settings_class: type[Settings]) -> Settings | None:
    """Remove `--config FILE` or `--config=FILE` from `args`; return the settings in FILE, or None without it."""
    position = next((i for i, arg in enumerate(args) if arg.split("=")[0] == "--config"), None)
    if position is None:
        return None
    name = args.pop(position).partition("=")[2] or (args.pop(position) if position < len(args) else "")
    path = Path(name)
    if not path.is_file():
        raise InputError(f'--config "{name}" is no file: give the settings.json of a run')
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): give the settings.json of a run") from error
    if not isinstance(stored, dict):
        raise InputError(f"{path} holds no settings: give the settings.json of a run")
    return settings_from_dict(settings_class, stored.get("settings", stored))


def settings_from_dict(settings_class: type[Settings], values: Any) -> Settings:
    """Build a settings dataclass from JSON values; what is required and absent is left to the flags.

    Raises:
        InputError: an unknown key (the nearest known one is offered), or a value of the wrong type.
    """
    name = settings_class.__name__
    if not isinstance(values, dict):
        raise InputError(f"{name} must be an object of settings, received {json.dumps(values)}")
    known = {field.name: field for field in dataclasses.fields(settings_class)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(known)}"
            raise InputError(f'unknown setting "{key}": {hint}')
    types = typing.get_type_hints(settings_class)
    built = {key: _checked(key, value, types[key]) for key, value in values.items()}
    for key, field in known.items():
        if field.default is field.default_factory is dataclasses.MISSING:
            built.setdefault(key, tyro.MISSING)
    return settings_class(**built)


def _checked(name: str, value: Any, kind: Any) -> Any:
    """Return a JSON value as the type that a field declares."""
    if dataclasses.is_dataclass(kind):
        return settings_from_dict(kind, value)
    value = tuple(value) if isinstance(value, list) else value
    allowed = [typing.get_origin(each) or each for each in typing.get_args(kind) or (kind,)]
    if typing.get_origin(kind) is tuple:
        allowed = [tuple]
    fits = isinstance(value, tuple(allowed)) or (float in allowed and isinstance(value, int))
    if not fits or (isinstance(value, bool) and bool not in allowed):
        raise InputError(
            f'setting "{name}" must be {" or ".join(each.__name__ for each in allowed)}, received {value!r}'
        )
    return value
