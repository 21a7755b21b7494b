"""Compare ways to teach students: `python -m distill.compare --data D --logits L.h5 --out OUT`.

What lies in OUT in the end says `distill.experiments.comparison_folder`.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from distill.callable_module import let_module_be_called
from distill.command_line.class_orders import print_store_notes
from distill.command_line.cluster_settings import NO_CLUSTER
from distill.command_line.compare_settings import CompareSettings
from distill.command_line.data_settings import DataSettings
from distill.command_line.ensemble_settings import ENSEMBLE_SETTINGS, ensemble_settings_of
from distill.command_line.stage import run_stage
from distill.command_line.student_training import TrainStudentSettings, seeded_objective, train_in_cluster, train_run
from distill.data.dataset import Dataset, check_is_dataset
from distill.errors import DivergedError, InputError
from distill.experiments.comparison import Cell, complete
from distill.refusals import check_known

if TYPE_CHECKING:
    from distill.experiments.comparison_folder import ComparisonFolder, ComparisonReport
    from distill.training.ensemble import CachedTeachers, Logits


def compare(settings: CompareSettings) -> "ComparisonReport":
    """Train what is missing, print the table, and leave everything in `settings.out`.

    Returns:
        The content of comparison.json, a dictionary that is shown as its table, and `to_pandas()` gives as one.
        Accuracies lie in 0..1.

    Raises:
        InputError: a setting, data or logits that cannot be used, or `settings.out` holds something else; all of
            it before anything is trained. A run that diverged is one, too, after all others are trained and reported.
    """
    return _compare(settings, settings.open)


def compare_students(dataset: Dataset, logits: "Logits", *, out: str | Path, **settings: Any) -> "ComparisonReport":
    """Compare ways to teach students, as the command does: `distill.compare(faces, logits, out="comparison")`.

    Args:
        dataset: with its splits, see `with_splits`.
        logits: the stores of its teachers, or `CachedTeachers`, which say how these teach together.
        out: directory for the runs, the tables and the heat map.
        settings: fields of `CompareSettings`, such as students, losses, temperatures, lambdas, seeds, epochs. Where
            one takes several values, they may be a tuple, a list, an array, or one value alone.

    Returns:
        The content of comparison.json, a dictionary that is shown as its table, and `to_pandas()` gives as one.
        Accuracies lie in 0..1.

    Raises:
        InputError: an unknown setting, one that `dataset` or `logits` say already, or whatever `compare` refuses.
    """
    check_is_dataset(dataset)
    for name in settings:
        check_known(name, CompareSettings.__dataclass_fields__, what="setting")
        if name in DataSettings.__dataclass_fields__:
            raise InputError(f"{name} is a setting of data that the command opens: split and merge the dataset first")
    from distill.training.ensemble import CachedTeachers

    teachers = CachedTeachers.of(logits)
    given: dict[str, Any] = {name: _several(name, value) for name, value in settings.items()}
    if isinstance(logits, CachedTeachers):
        if own := given.keys() & set(ENSEMBLE_SETTINGS):
            raise InputError(f"the CachedTeachers say {', '.join(sorted(own))}: omit that")
        given |= ensemble_settings_of(logits)
    paths = tuple(str(store.path) for store in teachers.stores)
    return _compare(CompareSettings(data=dataset.name, logits=paths, out=str(out), **given), lambda: dataset)


def _several(name: str, value: Any) -> Any:
    """Return the value of a setting as `CompareSettings` holds it: where that is a tuple, one."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(value, list):
        return tuple(value)
    takes_several = isinstance(CompareSettings.__dataclass_fields__[name].default, tuple)
    return (value,) if takes_several and not isinstance(value, tuple) else value


def _compare(settings: CompareSettings, open_data: Callable[[], Dataset]) -> "ComparisonReport":
    import tensorflow as tf

    from distill.experiments.comparison_folder import ComparisonFolder

    settings.set_threads()
    tf.config.experimental.enable_op_determinism()
    stores, cells = settings.stores, settings.cells
    folder = ComparisonFolder(settings.out)
    dataset = open_data()
    test = _test_split(dataset) if settings.test else None
    learned = dataset.split("train", "validation")  # training has no way to the images of the test split
    teachers = {views: _open_teachers(settings, paths) for views, paths in stores.items()}
    for each in teachers.values():
        teachers[None].check_same_teachers(each, given="the stores of --other-view-logits", own="those of --logits")
    record = _record(settings, learned, teachers)
    folder.check_open_for(record, test)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    runs = {(cell, seed): _run_settings(settings, cell, seed, folder, teachers) for seed in seeds for cell in cells}
    _check_runs({cell: runs[cell, settings.seed] for cell in cells}, teachers, learned.num_classes)
    train = partial(_train, dataset=learned, teachers={stores[views]: each for views, each in teachers.items()})
    diverged = _train_all(runs, folder, settings, train)
    complete_runs = complete(list(runs), diverged)
    if complete_runs:
        report = folder.report(
            complete_runs,
            record,
            learned=learned,
            test=None if diverged else test,  # it is looked at once, and would be without the cells that are missing
            diverged={folder.run(*key).name: why for key, why in diverged.items()},
        )
    if diverged:
        key, why = next(iter(diverged.items()))
        left = "are not in the tables" if complete_runs else "are all there are, so that no table was written"
        raise InputError(
            f"{len(diverged)} of {len(runs)} runs diverged, such as {folder.run(*key)}: {why}; their cells, and "
            f"those that are compared with them, {left}"
        )
    return report


def _train_all(
    runs: Mapping[tuple[Cell, int], TrainStudentSettings],
    folder: "ComparisonFolder",
    settings: CompareSettings,
    train: Callable[[TrainStudentSettings], str | None],
) -> dict[tuple[Cell, int], str]:
    """Train the runs that are not finished; return why, of those that diverged."""
    with settings.cluster() as shared:
        if shared:
            ordered = _ordered(runs, folder)
            for run in filter(lambda run: folder.is_finished(*run), ordered):
                train(runs[run])  # refuses a run of other settings before anything new is trained
            unfinished = [runs[run] for run in ordered if not folder.is_finished(*run)]
            trained = train_in_cluster(train, unfinished, settings, views=settings.view, deterministic=True)
        else:
            trained = [(runs[run], train(runs[run])) for run in _announced(runs, folder)]
    why_by_out = {run.out: why for run, why in trained if why is not None}
    return {key: why_by_out[run.out] for key, run in runs.items() if run.out in why_by_out}


def _train(
    run: TrainStudentSettings, *, dataset: Dataset, teachers: "Mapping[tuple[str, ...], CachedTeachers]"
) -> str | None:
    """Train a run of a comparison to the end; return why it diverged, if it did."""
    try:
        train_run(run, dataset=dataset, teachers=teachers)
    except DivergedError as error:
        print(f"{run.out}: {error}; the other runs go on")
        return str(error)
    return None


def _test_split(dataset):
    from distill.training.labels import is_labelled

    test = dataset.split("test")
    if not is_labelled(test).any():
        raise InputError(f"the test split of {dataset.name} has no labels: omit --test")
    return test


def _open_teachers(settings: CompareSettings, paths: Sequence[str]) -> "CachedTeachers":
    from distill.logit_store import open_logits

    stores = [open_logits(path) for path in paths]
    print_store_notes(*stores)
    return settings.cached_teachers(stores)


def _check_runs(
    runs: Mapping[Cell, TrainStudentSettings], teachers: Mapping[str | None, "CachedTeachers"], classes: int
) -> None:
    """Refuse students that cannot be built, and objectives that do not fit them or the teachers."""
    from distill.training.checks import check_teacher
    from distill.training.student_outputs import check_objective

    students = {
        name: run.build_student(name, classes) for name, run in {run.student: run for run in runs.values()}.items()
    }
    for cell, run in runs.items():
        teacher = None if run.logits is None else teachers[cell.views]
        objective = seeded_objective(run, taught=teacher is not None)
        check_teacher(objective, teacher)
        given = {} if teacher is None else teacher.specifications(objective.teacher_outputs, classes)
        check_objective(objective, students[run.student], given)


def _record(settings: CompareSettings, learned, teachers: Mapping[str | None, "CachedTeachers"]) -> dict:
    """What makes this comparison the one it is."""
    learned.content_hashes  # noqa: B018 - read every image once, not once per split
    data = {name: learned.split(name).fingerprint for name in ("train", "validation")}
    described = {name: value for name, value in asdict(settings).items() if name not in NO_CLUSTER}
    others = {views: each.describe() for views, each in teachers.items() if views}
    return {"settings": described, "data": data, "teacher": teachers[None].describe(), "other_views": others}


def _run_settings(settings: CompareSettings, cell: Cell, seed: int, folder, teachers) -> TrainStudentSettings:
    """Return the settings with which `distill.train_student` would train the same student."""
    names = [field.name for field in fields(TrainStudentSettings) if hasattr(settings, field.name)]
    shared = {name: getattr(settings, name) for name in names}
    shared |= NO_CLUSTER | {"student": cell.student, "seed": seed, "out": str(folder.run(cell, seed))}
    own: dict[str, Any] = {"logits": settings.stores[cell.views]}
    if not cell.is_taught:
        views = teachers[cell.views]
        if views.view_spec.mixes:  # the stores alone say which images its views are mixed with
            own["lambda_"] = 0.0
        else:
            own = dict.fromkeys(("logits", *ENSEMBLE_SETTINGS)) | {"view": views.view_spec, "views": views.views}
        own["epochs"] = cell.epochs or settings.epochs
    return TrainStudentSettings(**shared | vars(settings.loss_settings(cell)) | own)


def _ordered(runs: Iterable[tuple[Cell, int]], folder) -> list[tuple[Cell, int]]:
    # Begun ones go first, then distilled ones: so `train` refuses other settings than theirs, or logits that do not
    # fit, before anything new is trained.
    return sorted(runs, key=lambda run: (not folder.run(*run).exists(), run[1], not run[0].is_taught))


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
