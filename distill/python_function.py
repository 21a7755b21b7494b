"""`MODULE:FUNCTION`: a function of the user's own, wherever a command takes something from outside."""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from distill.errors import InputError
from distill.refusals import reason

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def recognise(source: str) -> bool:
    """Whether `source` is written as `module:function`."""
    return _FUNCTION.fullmatch(source) is not None


def load_function(source: str) -> Callable[..., Any]:
    """Import `module:function`, from the current directory too, as `python -m` does; any callable will do.

    The module is a program: importing it can do whatever the user can do.

    Raises:
        InputError: the module cannot be imported, or has no such function.
    """
    module_name, _, name = source.partition(":")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported
        raise InputError(f"{source} cannot be imported, {type(error).__name__}: {reason(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [each for each, value in vars(module).items() if inspect.isfunction(value) and each[0] != "_"]
        raise InputError(f"{module_name} has no function {name}: its functions are {', '.join(known) or 'none'}")
    return function


def call_function(source: str, *args: Any, **options: Any) -> Any:
    """Return what `module:function` returns for these arguments.

    Raises:
        InputError: it cannot be imported, or whatever it raises, in one line.
    """
    function = load_function(source)
    try:
        return function(*args, **options)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{source} failed with {type(error).__name__}: {reason(error)}") from error
