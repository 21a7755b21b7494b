"""The modules of commands that are called in Python, too: `distill.export(student, ...)`, by the name of the command.

A function of that name in the package would be hidden by the module as soon as anything imports it.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.__dict__["_called"](*args, **options)


def let_module_be_called(name: str, function: Callable[..., Any]) -> None:
    """Let the module `name`, which is being imported, be called like `function`."""
    module = sys.modules[name]
    module.__class__ = _CallableModule
    module.__doc__ = function.__doc__  # what `help` shows
    module.__dict__["_called"] = function
