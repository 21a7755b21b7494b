"""`RunRecord`: what makes a training run the run it is, as its `settings.json` says it. Older ones are read, too."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from distill.data.split_policy import SplitPolicy
from distill.data.view_differences import view_differences_text
from distill.errors import InputError
from distill.files.busy_files import is_there
from distill.files.documents import ClassNames, Count, Side, ViewDescription, parsed, read_json
from distill.files.home import expanded
from distill.files.whole_files import write_json
from distill.runs.earlier import upgraded_settings

SETTINGS = "settings.json"
VERSION = 2
_OF_VIEWS = ("recipe.view", "views.spec")
_WIRING = "wiring_sha256"
"""Of the network, and of a teacher that is online; what was recorded earlier does not say."""
_WHAT = "record of a training run"


@dataclass(frozen=True, kw_only=True)
class SplitRecord:
    """A split, as it was learned from or chosen on."""

    images: Count
    fingerprint: str
    """See `Dataset.fingerprint`."""


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """The dataset of a run."""

    name: str
    """Where it lay."""
    class_names: ClassNames
    class_map: dict[str, str] = field(default_factory=dict)
    """Which classes were merged or renamed, {old: new}."""
    splits: SplitPolicy | None = None
    """How it was divided; None: by whoever called the library, or before this was recorded."""
    train: SplitRecord
    validation: SplitRecord
    image_shape: tuple[Side, Side, Side] | None = None
    """Height, width and channels of its images, which their hashes depend on; None: before this was recorded."""


@dataclass(frozen=True, kw_only=True)
class ViewsRecord:
    """The views of each image that were learned from."""

    spec: dict[str, Any]
    """How they were drawn, see `ViewSpec.to_dict`."""
    number: Count | None = None
    """None: new ones in every epoch."""


@dataclass(frozen=True, kw_only=True)
class NetworkRecord:
    """The network that was trained."""

    name: str
    input_shape: tuple[Side, Side, Side]
    parameters: Count
    architecture_sha256: str
    """See `network_identity.architecture_sha256`."""
    wiring_sha256: str | None = None
    """See `network_identity.wiring_sha256`; None: it is not known, as before this was recorded."""
    policy: str = "float32"


# Which settings of commands name files or folders; a teacher may also be the name of a network.
_PATHS = frozenset({"data", "logits", "weights", "extra_data", "extra_logits"})


def _with_absolute_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _absolute(name, value) for name, value in settings.items()}


def _absolute(name: str, value: Any) -> Any:
    """Return a setting with its paths made absolute; of what is not a path, such as "synthetic", nothing changes."""
    if isinstance(value, Mapping):
        return _with_absolute_paths(value)
    if isinstance(value, list | tuple):
        return tuple(_absolute(name, each) for each in value)
    from distill.data.open_dataset import SYNTHETIC

    if not isinstance(value, str) or value in SYNTHETIC:
        return value
    path = expanded(value)
    is_path = name == "out" or (path.exists() and (name in _PATHS or (name == "teacher" and path.suffix != "")))
    return str(path.absolute()) if is_path else value


@dataclass(frozen=True, kw_only=True)
class CommandRecord:
    """The command that began the run, for its `--resume` and for other commands' `--config`."""

    name: str
    settings: dict[str, Any]
    """Paths in it are absolute, so that it can be given again from anywhere; runs before 0.2 kept them as given."""

    @classmethod
    def of(cls, name: str, settings: Any) -> "CommandRecord":
        """Return the record of a command whose `settings` are a dataclass."""
        return cls(name=name, settings=_with_absolute_paths(asdict(settings)))


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What makes a run the run it is. Two runs of the same record would end with the same network.

    The command, the versions, and where the data lay do not count: a run goes on though they change.
    """

    version: int = VERSION
    recipe: dict[str, Any]
    """The fields of its `Recipe`."""
    data: DataRecord
    extra_data: tuple[dict[str, Any], ...] = ()
    """Images, fingerprint, views and teacher of each further dataset."""
    views: ViewsRecord
    objective: dict[str, Any]
    """See `Objective.describe`; its "formula" is what it says in a line."""
    network: NetworkRecord
    teacher: dict[str, Any] | None = None
    """See `Teacher.describe`; None: labels alone."""
    begins_with_sha256: str | None = None
    """Of the weights of a trained network that it began with."""
    sample_weights_sha256: str | None = None
    replicas: Count = 1
    command: CommandRecord | None = None
    """None: the library was called."""
    versions: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self):
        if not isinstance(self.objective.get("formula"), str):
            raise ValueError("the objective has no formula")

    @property
    def training_fingerprints(self) -> dict[str, str]:
        """Fingerprints of the images that it learned from, "train", and that it chose the epoch on, "validation"."""
        return {"train": self.data.train.fingerprint, "validation": self.data.validation.fingerprint}

    @property
    def identity(self) -> dict[str, Any]:
        """What counts, as plain values."""
        values = json.loads(json.dumps(asdict(self)))
        for incidental in ("version", "command", "versions"):
            del values[incidental]
        objective = values["objective"]
        learns_more = {"schedules", "features"} & objective.keys()
        if objective.get("lambda_") == 0 and not learns_more:  # labels alone, whatever the soft part is
            values["objective"] = {"formula": objective["formula"]}
        for incidental in ("name", "splits", "image_shape"):  # the fingerprints say what came of them
            del values["data"][incidental]
        return values

    def differences(
        self, other: "RunRecord", *, neutral_recipe: Mapping[str, Any] = MappingProxyType({})
    ) -> list[str]:
        """Return what counts and differs from another record, as "name: stored x, now y".

        Args:
            neutral_recipe: what a setting does nothing by, which this record does not know yet.
        """
        stored, expected = self.identity, other.identity
        stored["recipe"] = json.loads(json.dumps(dict(neutral_recipe))) | stored["recipe"]
        return _differences(stored, expected)

    def write(self, folder: Path) -> None:
        """Write it as the record of the run in `folder`."""
        write_json(folder / SETTINGS, asdict(self))


def read_record(folder: str | Path) -> RunRecord | None:
    """Return the record of the run in `folder`, or None where there is none.

    Raises:
        InputError: it is damaged, or not that of a run, or cannot be read now.
    """
    file = Path(folder) / SETTINGS
    return parse_record(read_json(file, what=_WHAT), file) if is_there(file) else None


def record_of(run: str | Path) -> RunRecord:
    """Return the record of the run in the folder `run`.

    Raises:
        InputError: there is none, or `read_record` refuses it.
    """
    record = read_record(run)
    if record is None:
        raise InputError(f"{run} holds no {SETTINGS}: expected the folder of a run")
    return record


def is_record(document: Any) -> bool:
    """Whether the content of a JSON file is meant as the record of a run."""
    return isinstance(document, dict) and ("version" in document or {"settings", "class_names"} <= document.keys())


def parse_record(document: Any, file: Path) -> RunRecord:
    """Return the content of a JSON file as a record, of this version or an earlier one.

    Raises:
        InputError: it is damaged, or not that of a run.
    """
    if is_record(document) and "version" not in document:
        document = _upgraded(document, file)
    record = parsed(document, RunRecord, source=file, what=_WHAT)
    if record.command is not None:
        settings = upgraded_settings(record.command.settings)
        record = replace(record, command=replace(record.command, settings=settings))
    record = _with_choice(record)
    parsed(document, _Within, source=file, what=_WHAT)
    if record.version > VERSION:
        raise InputError(
            f"{file} is of version {record.version}, this program reads up to {VERSION}: install a later one"
        )
    return record


def _with_choice(record: RunRecord) -> RunRecord:
    """Return a record that says by what its epoch is chosen, where that was not recorded yet: by accuracy then."""
    if record.recipe.get("class_weights") != "balanced" or "choose_by" in record.recipe:
        return record  # accuracy is what it is chosen by today, too
    command = record.command
    if command is not None:
        command = replace(command, settings={"choose_by": "accuracy"} | command.settings)
    return replace(record, recipe={**record.recipe, "choose_by": "accuracy"}, command=command)


# Of version 1: which settings were the recipe's.
_RECIPE_1 = {
    *("epochs", "optimizer", "momentum", "lr", "schedule", "warmup_epochs", "lr_steps", "lr_decay", "plateau"),
    *("weight_decay", "clip_norm", "ema", "patience", "class_weights", "label_smoothing", "batch_size", "view"),
    *("view_order", "seed"),
}


def _upgraded(document: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return a record of version 1 (releases before 0.2) as one of version 2; what it lacks is neutral there."""
    former = parsed(document, _Version1, source=file, what=_WHAT)
    by_command = "out" in former.settings
    fold = former.provenance.fold
    if fold is not None:
        splits = {"policy": "folds", "folds": fold.of, "fold": fold.number}
    elif by_command:
        splits = {"policy": former.settings.get("splits", "official"), "seed": former.settings.get("split_seed", 0)}
    else:
        splits = None
    name = "train_student" if "student" in former.settings else "train_teacher"
    return {
        "version": VERSION,
        "recipe": {name: value for name, value in former.settings.items() if name in _RECIPE_1},
        "data": {**former.data, "class_names": former.class_names, "splits": splits},
        "extra_data": former.beside,
        "views": former.views,
        "objective": former.loss,
        "network": former.network,
        "teacher": former.teacher,
        "begins_with_sha256": former.provenance.begins_with_sha256,
        "sample_weights_sha256": former.sample_weights_sha256,
        "replicas": former.replicas,
        "command": {"name": name, "settings": former.settings} if by_command else None,
        "versions": former.versions,
    }


@dataclass(frozen=True, kw_only=True)
class _Fold1:
    number: Count
    of: Count


@dataclass(frozen=True, kw_only=True)
class _Provenance1:
    fold: _Fold1 | None = None
    begins_with_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Version1:
    settings: dict[str, Any]
    class_names: list[str]
    data: dict[str, Any]
    loss: dict[str, Any]
    views: dict[str, Any]
    network: dict[str, Any]
    teacher: dict[str, Any] | None = None
    beside: list[dict[str, Any]] = field(default_factory=list)
    provenance: _Provenance1 = field(default_factory=_Provenance1)
    sample_weights_sha256: str | None = None
    replicas: int = 1
    versions: dict[str, str | None] = field(default_factory=dict)


# What other modules rely on within the parts of a record that are as wide as settings and objectives are.


@dataclass
class _Recipe:
    view: ViewDescription | None = None


@dataclass
class _Views:
    spec: ViewDescription


@dataclass
class _Teacher:
    name: str = ""
    sha256: str = ""
    teacher: dict[str, Any] = field(default_factory=dict)
    teachers: list["_Teacher"] = field(default_factory=list)


@dataclass
class _Settings:
    student_options: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Command:
    settings: _Settings


@dataclass
class _Within:
    recipe: _Recipe
    views: _Views
    teacher: _Teacher | None = None
    command: _Command | None = None


def _differences(stored: Mapping[str, Any], expected: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two nested records; what one of them lacks is None there."""
    changed = []
    for name in sorted(stored.keys() | expected.keys()):
        old, new = stored.get(name), expected.get(name)
        if name == _WIRING and None in (old, new):
            continue  # it is not known of one of them
        if f"{prefix}{name}" in _OF_VIEWS and old and new:
            texts = view_differences_text(old, new, "stored {}, now {}")
            changed += [f"{prefix}{name}.{text}" for text in texts]
        elif isinstance(old, Mapping) and isinstance(new, Mapping):
            changed += _differences(old, new, f"{prefix}{name}.")
        elif old != new:
            changed.append(f"{prefix}{name}: stored {old}, now {new}")
    return changed
