"""The frame of every command: flags from a settings dataclass, errors as one line, exit codes."""

import dataclasses
import inspect
import json
import os
import sys
import textwrap
import traceback
import types
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tyro
import tyro.extras

from distill.command_line.ending_signals import INTERRUPTED, terminated_as_interrupted
from distill.command_line.flag_errors import parsed_flags
from distill.command_line.last_resort import INTERNAL_ERROR, kept_fault
from distill.command_line.limits import check_limits
from distill.command_line.standard_output import harmless_output, open_closed_streams
from distill.errors import GateError, InputError
from distill.files.documents import read_json, tuples_for_lists
from distill.keras_import import import_keras_quietly
from distill.printable import one_line
from distill.refusals import OF_TENSORFLOW, check_known, flag, missing_package, reason

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")

DONE, GATE_CLOSED, WRONG_INPUT, FAULT = 0, 1, 2, 70  # as in sysexits.h of BSD
_PIPE_CLOSED = 128 + 13  # as if SIGPIPE had ended it
_EXIT_CODES = {
    DONE: "done",
    GATE_CLOSED: "a requested limit was not met",
    WRONG_INPUT: "wrong input",
    FAULT: "an internal error, please report it",
    INTERRUPTED: "interrupted",
    _PIPE_CLOSED: "the reader of the output closed it",
}
_UNIONS = (typing.Union, types.UnionType)  # float | None is one or the other, by version and spelling
_GOES_ON = "interrupted: the same command resumes after what is finished"
_BEGINS_ANEW = "interrupted: the same command starts over"

_CONFIG_HELP = (
    "--config FILE reads flags that are not given here from a JSON file: an object whose keys are the names of flags "
    "with _ for -, or the settings.json of a run."
)
_CONFIG_OF_DATA = " From a run of another command only the dataset is used."
_DEBUG = "--debug"
_EXIT_HELP = (
    "--debug shows the traceback of an error. Exit codes: "
    + "; ".join(f"{code} {meaning}" for code, meaning in _EXIT_CODES.items())
    + "."
)
_WHAT_CONFIG_TAKES = "give a JSON file of settings, or the settings.json of a run"
_OF_DATA = ("data", "data_classes")
"""What --config takes from the run of another command."""


def run_stage(
    stage: Callable[[Settings], Any],
    settings_class: type[Settings],
    args: Sequence[str] | None = None,
    *,
    backend: str | None = "tensorflow",
    presets: Mapping[str, Any] | None = None,
    resumes: bool = False,
    begins_anew: bool = False,
) -> None:
    """Parse the command line into `settings_class`, call `stage` with it, and exit.

    `--config FILE` takes its defaults from a JSON file of settings, such as the `settings.json` of a run.
    The stage's module may import Keras only inside functions, so that `--help` answers at once.

    Args:
        backend: the backend of Keras that the stage needs; "any" takes one that can train, None needs no Keras.
        presets: name -> dataclass whose fields are taken for what is not given, by `--recipe NAME`.
        begins_anew: the stage does not go on where it was interrupted.
        resumes: `--resume RUN` goes on with the run in that folder, which the settings name `out`.
    """
    open_closed_streams()
    args = list(sys.argv[1:] if args is None else args)
    debug = _take_debug(args)
    prog = f"python -m distill.{stage.__name__}"
    otherwise = _BEGINS_ANEW if begins_anew else _GOES_ON
    with terminated_as_interrupted(), harmless_output(), _one_line_errors(interrupted=otherwise, debug=debug):
        if resumes:
            _spell_out_resume(args)
        _spell_out_alone(args, getattr(settings_class, "flags_alone", {}))
        default = _take_config(args, settings_class, stage.__name__)
        if presets is not None:
            default = _take_preset(args, settings_class, presets, default)
        # Defaults out of a record are plain values, of types that tyro knows from text alone. It takes them.
        warnings.filterwarnings("ignore", r"The field .[\w-]+. is annotated with type", module="tyro")
        settings: Any = parsed_flags(
            lambda: tyro.cli(
                settings_class,
                args=args,
                default=default,
                prog=prog,
                description=_description(settings_class),
            ),
            prog=prog,
        )
        check_limits(settings)
        if backend is not None:
            import_keras_quietly(backend)
        with _one_line_errors(interrupted=_how_to_go_on(settings) if resumes else otherwise, debug=debug):
            stage(settings)
    sys.exit(DONE)


def print_next(*commands: str) -> None:
    """Print the commands, MODULE and its flags, that usually follow."""
    print("next:", *(f"python -m {command}" for command in commands), sep="\n  ")


def _description(settings_class: type[Settings]) -> str:
    takes_data = set(_OF_DATA) <= {field.name for field in dataclasses.fields(settings_class)}
    config = _CONFIG_HELP + (_CONFIG_OF_DATA if takes_data else "")
    return "\n\n".join([inspect.getdoc(settings_class) or "", *outline(settings_class), config, _EXIT_HELP])


def outline(settings_class: type[Settings]) -> list[str]:
    """Return, of a command with many flags, which matter first, and all of them by the classes that they stand in.

    Args:
        settings_class: where it names those in `first_flags`; of any other class nothing is returned.
    """
    first = getattr(settings_class, "first_flags", ())
    if not first:
        return []
    fields = {field.name for field in dataclasses.fields(settings_class)}
    groups = {"What matters first": first}
    for cls in filter(dataclasses.is_dataclass, settings_class.__mro__):
        title = (cls.__doc__ or cls.__name__).strip().splitlines()[0].rstrip(".")
        groups[title] = [name for name in cls.__dict__.get("__annotations__", {}) if name in fields]
    return [_flags_text(title, names) for title, names in groups.items() if names]


def _flags_text(title: str, names: Sequence[str]) -> str:
    flags = ", ".join(f"--{flag(name)}" for name in names)
    return textwrap.fill(f"{title}: {flags}", 80, subsequent_indent="    ", break_on_hyphens=False)


def _how_to_go_on(settings: Any) -> str:
    """What to say where training into `settings.out` is interrupted."""
    return _GOES_ON if settings.folds else f"{_GOES_ON}, and so does --resume {settings.out}"


def run_stages(
    name: str, stages: Mapping[str, tuple[Callable[[Any], Any], type]], args: Sequence[str] | None = None
) -> None:
    """Parse `python -m distill.NAME VERB ...`, call the stage of that verb with its settings, and exit.

    Args:
        stages: verb -> the stage, and the class of its settings, which no other verb has.
    """
    open_closed_streams()
    args = list(sys.argv[1:] if args is None else args)
    debug = _take_debug(args)
    prog = f"python -m distill.{name}"
    verbs: dict[str, Callable[..., Any]] = {verb: settings_class for verb, (_, settings_class) in stages.items()}
    with terminated_as_interrupted(), harmless_output(), _one_line_errors(interrupted=_BEGINS_ANEW, debug=debug):
        if args and not args[0].startswith("-"):
            check_known(args[0], stages, what="verb")
        settings = parsed_flags(
            lambda: tyro.extras.subcommand_cli_from_dict(verbs, args=args, prog=prog, description=_EXIT_HELP),
            prog=prog,
        )
        check_limits(settings)
        next(stage for stage, settings_class in stages.values() if type(settings) is settings_class)(settings)
    sys.exit(DONE)


@contextmanager
def _one_line_errors(interrupted: str = _GOES_ON, *, debug: bool = False) -> Iterator[None]:
    """Exit with one line and its code, whatever goes wrong.

    Args:
        debug: show the traceback of an error, too.
    """
    try:
        with _shown_tracebacks() if debug else nullcontext():
            yield
    except InputError as error:
        _exit(WRONG_INPUT, f"error: {error}")
    except GateError as error:
        _exit(GATE_CLOSED, f"failed: {error}")
    except ModuleNotFoundError as error:  # on a device
        _exit(WRONG_INPUT, f"error: this {missing_package(error)}")
    except BrokenPipeError:  # whoever reads what is printed, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_PIPE_CLOSED)
    except OSError as error:
        _exit(WRONG_INPUT, f"error: {error.filename or 'file system'}: {error.strerror or error}")
    except MemoryError as error:
        _exit(WRONG_INPUT, f"error: there is not enough memory ({reason(error)})")
    except KeyboardInterrupt:
        _exit(INTERRUPTED, interrupted)
    except Exception as error:
        if (said := OF_TENSORFLOW.get(type(error).__name__)) is not None:
            _exit(WRONG_INPUT, f"error: {said.format(reason(error))}")
        # What nobody foresaw.
        _exit(FAULT, INTERNAL_ERROR if debug else kept_fault(error))


@contextmanager
def _shown_tracebacks() -> Iterator[None]:
    try:
        yield
    except Exception:
        traceback.print_exc()
        raise


def _exit(code: int, message: str) -> None:
    print(one_line(message), file=sys.stderr)
    # A KeyboardInterrupt that came while a module compiled code of its own makes Python end by the signal, whatever
    # the exit code, until such code has run once more.
    exec("")
    sys.exit(code)


def _take_debug(args: list[str]) -> bool:
    """Remove `--debug` from `args`; return whether it was there."""
    given = _DEBUG in args
    args[:] = [arg for arg in args if arg != _DEBUG]
    return given


def _take_flag(args: list[str], flag: str) -> str | None:
    """Remove `flag VALUE` or `flag=VALUE` from `args`; return the value, or None without it."""
    position = next((i for i, arg in enumerate(args) if arg.split("=")[0] == flag), None)
    if position is None:
        return None
    return args.pop(position).partition("=")[2] or (args.pop(position) if position < len(args) else "")


def _take_preset(
    args: list[str], settings_class: type[Settings], presets: Mapping[str, Any], default: Settings | None
) -> Settings | None:
    """Remove `--recipe NAME` from `args`; return the settings of that name, or `default` without it."""
    name = _take_flag(args, "--recipe")
    if name is None:
        return default
    if default is not None:
        raise InputError("--config holds a whole recipe: omit --recipe")
    check_known(name, presets, what="recipe")
    values = {field.name: getattr(presets[name], field.name) for field in dataclasses.fields(presets[name])}
    return _with_missing(settings_class, {**values, "recipe": name})


def _spell_out_resume(args: list[str]) -> None:
    """Replace `--resume RUN` in `args` by the flags that it stands for: the settings of the run in that folder."""
    run = _take_flag(args, "--resume")
    if run is None:
        return
    if not (Path(run) / "settings.json").is_file():
        raise InputError(
            f'--resume "{run}" is not a folder of a run: give the --out of one that was begun; a run of folds '
            "resumes with the command that began it"
        )
    if any(arg.split("=")[0] == "--out" for arg in args):
        raise InputError(f"--resume {run} resumes in that folder: omit --out")
    args[:0] = ["--config", str(Path(run) / "settings.json"), "--out", run]


def _spell_out_alone(args: list[str], flags: Mapping[str, str]) -> None:
    """Give flags in `args` that stand alone, before another flag or at the end, the value that they then mean."""
    for name, value in flags.items():
        for position in [at for at, arg in enumerate(args) if arg == f"--{name}"]:
            if args[position + 1 : position + 2] == [] or args[position + 1].startswith("--"):
                args[position] = f"--{name}={value}"


def _take_config(args: list[str], settings_class: type[Settings], command: str) -> Settings | None:
    """Remove `--config FILE` from `args`; return the settings in FILE, or None without it."""
    name = _take_flag(args, "--config")
    if name is None:
        return None
    path = Path(name)
    if not path.is_file():
        raise InputError(f'--config "{name}" is not a file: {_WHAT_CONFIG_TAKES}')
    stored = read_json(path, what="JSON file of settings")
    if not isinstance(stored, dict):
        raise InputError(f"{path} holds no settings: {_WHAT_CONFIG_TAKES}")
    from distill.runs.earlier import upgraded_settings
    from distill.runs.run_record import is_record, parse_record

    if is_record(stored):
        record = parse_record(stored, path)
        if record.command is None:
            stored = record.recipe
        elif record.command.name == command:
            stored = record.command.settings
        else:
            stored = _of_another_command(record.command.settings, settings_class, path)
    return settings_from_dict(settings_class, upgraded_settings(stored.get("settings", stored)))


def _of_another_command(stored: Mapping[str, Any], settings_class: type[Settings], path: Path) -> dict[str, Any]:
    """Return what a command can take from the run of another one: which data it was."""
    known = {field.name for field in dataclasses.fields(settings_class)}
    taken = {name: stored[name] for name in _OF_DATA if name in known and stored.get(name) is not None}
    if not taken:
        raise InputError(f"{path} is of another command, and says nothing that this one takes: {_WHAT_CONFIG_TAKES}")
    return taken


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
        check_known(key, known, what="setting")
    kinds = typing.get_type_hints(settings_class)
    return _with_missing(settings_class, {key: _checked(key, value, kinds[key]) for key, value in values.items()})


def _with_missing(settings_class: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Build settings of which what is required and absent is left to the flags."""
    required = {
        field.name: tyro.MISSING
        for field in dataclasses.fields(settings_class)
        if field.default is field.default_factory is dataclasses.MISSING
    }
    try:
        return settings_class(**{**required, **values})
    except (TypeError, ValueError, IndexError) as error:  # a list of the wrong length or kind
        raise InputError(f"{settings_class.__name__} cannot hold these settings: {error}") from error


def _checked(name: str, value: Any, kind: Any) -> Any:
    """Return a JSON value as the type that a field declares."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return settings_from_dict(kind, value)
    value = tuples_for_lists(value)
    if not _fits(value, kind):
        raise InputError(f'setting "{name}" must be {_kind_text(kind)}, received {value!r}')
    return value


def _fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value, with tuples in the place of lists, is of a declared type."""
    origin, within = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin in _UNIONS:
        return any(_fits(value, each) for each in within)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        each = within[:1] * len(value) if within[1:] == (...,) else within
        return len(value) == len(each) and all(map(_fits, value, each))
    if origin is dict:
        return isinstance(value, dict) and all(_fits(each, within[1]) for each in value.values())
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _kind_text(kind: Any) -> str:
    """Return how messages call a declared type: "tuple[str, ...] or None"."""
    alternatives = typing.get_args(kind) if typing.get_origin(kind) in _UNIONS else (kind,)
    names = [str(each) if typing.get_origin(each) else each.__name__ for each in alternatives]
    return " or ".join("None" if name == "NoneType" else name for name in names)
