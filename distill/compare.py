"""Compare ways to teach students: `python -m distill.compare --data D --logits L.h5 --out OUT`.

What lies in OUT in the end says `distill.experiments.comparison_folder`.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Annotated, Any

from tqdm import tqdm
from tyro.conf import arg

from distill.callable_module import let_module_be_called
from distill.command_line.class_orders import print_store_notes
from distill.command_line.cluster_settings import NO_CLUSTER, ClusterRunSettings
from distill.command_line.data_settings import DataSettings
from distill.command_line.loss_settings import LossSettings, soft_loss
from distill.command_line.stage import run_stage
from distill.command_line.student_settings import StudentSettings
from distill.command_line.student_training import TrainStudentSettings, train_in_cluster, train_run
from distill.data.dataset import Dataset, check_is_dataset
from distill.errors import InputError
from distill.experiments.comparison import Cell, grid
from distill.refusals import check_at_least, check_known
from distill.training.recipe import Recipe

if TYPE_CHECKING:
    from distill.experiments.comparison_folder import ComparisonReport
    from distill.logit_store import LogitStore

_OF_TEACHERS = ("logits", "teacher_weights", "teacher_mean", "class_match")


@dataclass(frozen=True, kw_only=True)
class CompareSettings(ClusterRunSettings, DataSettings, StudentSettings, Recipe):
    """Train students from labels alone and distilled, over a grid and several seeds, and compare them.

    The same command again goes on after an interruption; with a larger grid it trains what is missing.
    """

    out: str
    """Directory for the runs, the tables and the heat map."""
    logits: Annotated[tuple[str, ...], arg(metavar="FILE [FILE ...]")]
    """Stores that distill.teacher_logits wrote, one for each teacher. Labels alone get the same views."""
    teacher_weights: tuple[float, ...] | None = None
    """Of several teachers: how much each counts, in the order of --logits; by default all the same."""
    teacher_mean: str | None = None
    """Of several teachers: the mean of their "logits" (default), or of their "probabilities" at the temperature."""
    class_match: str | None = None
    """A teacher's classes are those of the data in the same order ("exact", default), or are found by name among
    its own, in any order ("names"): what else it knows is left out."""
    students: tuple[str, ...] = (TrainStudentSettings.student,)
    """Names of the networks, or MODULE:FUNCTION, as distill.train_student takes; --student-options are for all."""
    losses: tuple[str, ...] = (TrainStudentSettings.loss,)
    """Names of the losses."""
    temperatures: tuple[float, ...] = (2.0, 4.0, 8.0)
    """T of every loss that has one; the others are trained once for every lambda."""
    lambdas: tuple[float, ...] = (0.5, 0.9)
    """Weights of the soft part, 0..1. Labels alone, which is 0, is always trained, once per student and seed."""
    usual_losses: tuple[str, ...] = ()
    """Names of losses to train in addition to the grid, at the temperature, the weights and the warm-up that they are
    usually given; with an empty --losses, instead of the grid."""
    seeds: int = 3
    """Runs of every cell: with --seed and the numbers that follow it."""
    test: bool = False
    """In the end, measure the chosen cell and labels alone on the test split, once: it closes the grid."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("logits", "students", "temperatures", "lambdas"):
            if not getattr(self, name):
                raise InputError(f"--{name} is empty: give at least one")
        if not self.losses and not self.usual_losses:
            raise InputError("--losses is empty: give at least one, or --usual-losses")
        if not self.losses and self.lambdas != CompareSettings.lambdas:
            raise InputError("no lambda reaches the grid, of which --losses is empty: leave --lambdas out")
        check_at_least(1, seeds=self.seeds)
        if not any(self.lambdas):
            raise InputError("--lambdas 0 is labels alone, which is always trained: give one above 0, too")


def compare(settings: CompareSettings) -> "ComparisonReport":
    """Train what is missing, print the table, and leave everything in `settings.out`.

    Returns:
        The content of comparison.json, a dictionary that is shown as its table, and `to_pandas()` gives as one.
        Accuracies lie in 0..1.

    Raises:
        InputError: a setting, data or logits that cannot be used, or `settings.out` holds something else; all of
            it before anything is trained.
    """
    return _compare(settings, settings.open)


def compare_students(
    dataset: Dataset, logits: "LogitStore | Sequence[LogitStore]", *, out: str | Path, **settings: Any
) -> "ComparisonReport":
    """Compare ways to teach students, as the command does: `distill.compare(faces, logits, out="comparison")`.

    Args:
        dataset: with its splits, see `with_splits`.
        logits: the stores of its teachers.
        out: directory for the runs, the tables and the heat map.
        settings: fields of `CompareSettings`, such as students, losses, temperatures, lambdas, seeds, epochs.

    Returns:
        The content of comparison.json, a dictionary that is shown as its table, and `to_pandas()` gives as one.
        Accuracies lie in 0..1.

    Raises:
        InputError: an unknown setting, or whatever `compare` refuses.
    """
    check_is_dataset(dataset)
    for name in settings:
        check_known(name, CompareSettings.__dataclass_fields__, what="setting")
    stores = [logits] if hasattr(logits, "path") else list(logits)
    paths = tuple(str(store.path) for store in stores)
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    return _compare(CompareSettings(data=dataset.name, logits=paths, out=str(out), **given), lambda: dataset)


def _compare(settings: CompareSettings, open_data: Callable[[], Dataset]) -> "ComparisonReport":
    import tensorflow as tf

    from distill.experiments.comparison_folder import ComparisonFolder

    settings.set_threads()
    tf.config.experimental.enable_op_determinism()
    cells = _cells(settings)
    folder = ComparisonFolder(settings.out)
    dataset = open_data()
    test = _test_split(dataset) if settings.test else None
    learned = dataset.split("train", "validation")  # training has no way to the images of the test split
    teachers = _open_teachers(settings)
    record = _record(settings, learned, teachers)
    folder.check_open_for(record)
    for student in settings.students:
        settings.build_student(student, learned.num_classes)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    runs = {(cell, seed): _run_settings(settings, cell, seed, folder, teachers) for seed in seeds for cell in cells}
    train = partial(train_run, dataset=learned, teachers=teachers)
    with settings.cluster() as shared:
        if shared:
            unfinished = [run for run in _ordered(runs, folder) if not folder.is_finished(*run)]
            train_in_cluster(train, [runs[run] for run in unfinished], settings, deterministic=True)
        else:
            for run in _announced(runs, folder):
                train(runs[run])
    return folder.report(list(runs), record, validation=learned.split("validation"), test=test)


def _cells(settings: CompareSettings) -> tuple[Cell, ...]:
    """Return the cells of the grid, all of losses, temperatures and lambdas that can be used."""
    softening = [name for name in settings.losses if soft_loss(name).temperature is not None]
    if not softening and settings.temperatures != CompareSettings.temperatures:
        named = " or ".join(settings.losses) or "of the grid, which is empty"
        raise InputError(f"no temperature reaches the loss {named}: leave --temperatures out")
    temperatures = {name: settings.temperatures if name in softening else (None,) for name in settings.losses}
    cells = grid(settings.students, temperatures, settings.lambdas)
    for cell in cells:
        _loss_settings(cell).objective(epochs=settings.epochs, taught=cell.loss is not None)
    return tuple(dict.fromkeys([*cells, *_usual_cells(settings)]))


def _usual_cells(settings: CompareSettings) -> list[Cell]:
    from distill.losses.distillation_loss import DistillationLoss

    losses = [DistillationLoss(name, soft=soft_loss(name)) for name in settings.usual_losses]
    return [
        Cell(student, loss.name, loss.temperature, loss.lambda_, loss.weights)
        for student in settings.students
        for loss in losses
    ]


def _loss_settings(cell: Cell) -> LossSettings:
    """Return the flags that teach a cell; one at the usual weights of its loss has the usual warm-up, too."""
    if cell.loss is None:
        return LossSettings()
    usual = cell.weights is not None and soft_loss(cell.loss).warmup_epochs > 0
    how: dict[str, Any] = {"temperature": cell.temperature, "lambda_": cell.lambda_, "loss_weights": cell.weights}
    return LossSettings(loss=cell.loss, usual_warmup=usual, **how)


def _test_split(dataset):
    from distill.training.batches import label_probabilities

    test = dataset.split("test")
    if not label_probabilities(test).any():
        raise InputError(f"the test split of {dataset.name} has no labels: leave --test out")
    return test


def _open_teachers(settings: CompareSettings):
    from distill.logit_store import open_logits
    from distill.training.ensemble import CachedTeachers

    stores = [open_logits(path) for path in settings.logits]
    print_store_notes(*stores)
    named = {"weights": settings.teacher_weights, "mean": settings.teacher_mean, "class_match": settings.class_match}
    how: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    return CachedTeachers(stores, **how)


def _record(settings: CompareSettings, learned, teachers) -> dict:
    """What makes this comparison the one it is."""
    learned.content_hashes  # noqa: B018 - read every image once, not once per split
    data = {name: learned.split(name).fingerprint for name in ("train", "validation")}
    described = {name: value for name, value in asdict(settings).items() if name not in NO_CLUSTER}
    return {"settings": described, "data": data, "teacher": teachers.describe()}


def _run_settings(settings: CompareSettings, cell: Cell, seed: int, folder, teachers) -> TrainStudentSettings:
    """Return the settings with which `distill.train_student` would train the same student."""
    names = [field.name for field in fields(TrainStudentSettings) if hasattr(settings, field.name)]
    shared = {name: getattr(settings, name) for name in names}
    shared |= NO_CLUSTER | {"student": cell.student, "seed": seed, "out": str(folder.run(cell, seed))}
    if cell.loss is None:
        own = dict.fromkeys(_OF_TEACHERS) | {"view": teachers.view_spec, "views": teachers.views}
    else:
        own = vars(_loss_settings(cell))
    return TrainStudentSettings(**shared | own)


def _ordered(runs: Iterable[tuple[Cell, int]], folder) -> list[tuple[Cell, int]]:
    # Begun ones go first, then distilled ones: so `train` refuses other settings than theirs, or logits that do not
    # fit, before anything new is trained.
    return sorted(runs, key=lambda run: (not folder.run(*run).exists(), run[1], run[0].loss is None))


def _announced(runs: Iterable[tuple[Cell, int]], folder) -> Iterator[tuple[Cell, int]]:
    """Yield the runs, each after a line that says how far the comparison is and how long it will go on."""
    runs = _ordered(runs, folder)
    unfinished = [run for run in runs if not folder.is_finished(*run)]
    seconds: list[float] = []
    for number, run in enumerate(runs, 1):
        left = f", about {tqdm.format_interval(mean(seconds) * len(unfinished))} left" if seconds else ""
        print(f"\nrun {number} of {len(runs)}{left}: {folder.run(*run).name}")
        started = time.monotonic()
        yield run
        if run in unfinished:
            unfinished.remove(run)
            seconds.append(time.monotonic() - started)


def main() -> None:
    run_stage(compare, CompareSettings)


if __name__ == "__main__":
    main()
else:
    let_module_be_called(__name__, compare_students)
