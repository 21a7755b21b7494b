"""Imports run one way, from commands down to what knows nothing of the others: read from the source."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS, SINGLE_MODULES = "commands", "single modules"
LAYERS = (
    (COMMANDS,),
    ("command_line",),
    ("experiments",),
    ("cluster",),
    ("evaluation",),
    ("exporting",),
    ("training",),
    ("runs",),
    ("scoring",),
    ("reports",),
    ("logit_store", "runtimes"),
    ("prediction",),
    ("data", "losses"),
    ("files",),
    (SINGLE_MODULES,),
)
"""From the top to the bottom: a package imports from those below it, and never from one of its own height.

Commands are the modules of `distill/` that have a `main`; single modules, such as errors.py, the others.
"""
NETWORKS = ("teachers", "students")
BUILDING_BLOCKS = "building_blocks"


def imports(file: Path) -> Iterator[str]:
    """Yield the full names that a module imports, within functions, too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno} imports by a relative path"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def is_command(file: Path) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in ast.parse(file.read_text()).body)


def package_of(name: str) -> str | None:
    """Return the package that a name of `distill` lies in; None for the package itself."""
    part = name.split(".")[1] if "." in name else ""
    if (ROOT / "distill" / part).is_dir() and part:
        return part
    file = ROOT / "distill" / f"{part}.py"
    return (COMMANDS if is_command(file) else SINGLE_MODULES) if file.is_file() else None


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


def height(package: str) -> int:
    return next(number for number, packages in enumerate(reversed(LAYERS)) if package in packages)


def goes_down(package: str, name: str) -> bool:
    """Whether a module of `package` may import `name`."""
    top, *_ = name.split(".")
    if top in NETWORKS:
        return package in (COMMANDS, "command_line")
    other = package_of(name) if top == "distill" else None
    if other is None or other == package != COMMANDS:
        return True
    return other != BUILDING_BLOCKS and height(other) < height(package)


def packages_in(top: str) -> dict[Path, str]:
    return {file: package for file in modules(top) if (package := package_of(name_of(file))) is not None}


def test_every_package_has_a_height():
    assert set(packages_in("distill").values()) == {package for packages in LAYERS for package in packages} | {
        BUILDING_BLOCKS
    }


def test_imports_run_one_way():
    upward = {
        (str(file.relative_to(ROOT)), name)
        for file, package in packages_in("distill").items()
        if package != BUILDING_BLOCKS
        for name in imports(file)
        if not goes_down(package, name)
    }
    assert upward == set()


def test_networks_are_built_of_keras_and_building_blocks_alone():
    allowed = {"keras", *sys.stdlib_module_names}
    for package in ("distill/building_blocks", *NETWORKS):
        own = package.replace("/", ".")
        for file in modules(package):
            for name in imports(file):
                known = name.startswith((f"{own}.", "distill.building_blocks."))
                assert known or name.split(".")[0] in allowed, f"{file} imports {name}"


def test_prediction_needs_neither_tensorflow_nor_keras():
    """Nor does what it imports: the files are followed."""
    waiting, seen = modules("distill/prediction"), set()
    while waiting:
        file = waiting.pop()
        seen.add(file)
        for name in imports(file):
            assert name.split(".")[0] not in ("tensorflow", "keras"), f"{file} imports {name}"
            path = ROOT.joinpath(*name.split("."))
            found = {path.with_suffix(".py"), path.parent.with_suffix(".py"), path / "__init__.py"}
            waiting += [each for each in found if each.is_file() and each not in seen]


@pytest.mark.parametrize(
    ("package", "name", "allowed"),
    [
        ("training", "distill.runs.scope.clone", True),
        ("runs", "distill.training.train.train", False),
        ("runtimes", "distill.logit_store.open_logits", False),
        ("data", "distill.errors.InputError", True),
        ("losses", "distill.data.dataset.Dataset", False),
        ("losses", "distill.__version__", True),
        ("training", "students.STUDENTS", False),
        ("training", "distill.building_blocks.conventions.pooled", False),
        (COMMANDS, "students.STUDENTS", True),
        (COMMANDS, "distill.evaluate.evaluate", False),
        ("training", "tensorflow", True),
    ],
)
def test_what_runs_down(package, name, allowed):
    assert goes_down(package, name) is allowed
