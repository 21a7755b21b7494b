"""The frame of every command: flags from a settings dataclass, errors as one line, exit codes.

Exit codes: 0 done, 2 wrong input, 130 interrupted.
"""

import dataclasses
import difflib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from distill.errors import InputError

Settings = TypeVar("Settings")

DONE, WRONG_INPUT, INTERRUPTED = 0, 2, 130


def run_stage(
    stage: Callable[[Settings], Any], settings_class: type[Settings], args: Sequence[str] | None = None
) -> None:
    """Parse the command line into `settings_class`, call `stage` with it, and exit.

    `--config FILE` takes its defaults from a JSON file of settings, such as the `settings.json` of a run.
    The stage's module may import TensorFlow only inside functions, so that `--help` answers at once.
    """
    args = list(sys.argv[1:] if args is None else args)
    try:
        default = _take_config(args, settings_class)
        program = f"python -m distill.{stage.__name__}"
        settings = tyro.cli(settings_class, args=args, default=default, prog=program)
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
        import tensorflow as tf

        tf.config.list_physical_devices()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _exit(code: int, message: str) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)


def _take_config(args: list[str], settings_class: type[Settings]) -> Settings | None:
    """Remove `--config FILE` from `args`; return the settings in FILE, or None without it."""
    if "--config" not in args:
        return None
    position = args.index("--config")
    if position + 1 == len(args):
        raise InputError("--config needs the path of a JSON file of settings")
    path = Path(args[position + 1])
    del args[position : position + 2]
    try:
        stored = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): give the settings.json of a run") from error
    if not isinstance(stored, dict):
        raise InputError(f"{path} holds no settings: give the settings.json of a run")
    return settings_from_dict(settings_class, stored.get("settings", stored))


def settings_from_dict(settings_class: type[Settings], values: dict) -> Settings:
    """Build a settings dataclass from JSON values.

    Raises:
        InputError: an unknown key (the nearest known one is offered), or a required key is missing.
    """
    known = {field.name: field for field in dataclasses.fields(settings_class)}
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f': did you mean "{near[0]}"?' if near else f": known are {', '.join(known)}"
            raise InputError(f'unknown setting "{name}"{hint}')
    required = [n for n, f in known.items() if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in values]
    if missing:
        raise InputError(f"the settings file lacks {', '.join(missing)}")
    built = {}
    for name, value in values.items():
        if isinstance(value, dict):
            value = settings_from_dict(known[name].type, value)
        built[name] = tuple(value) if isinstance(value, list) else value
    return settings_class(**built)
