"""Train a student: `python -m distill.train_student --data D --logits L.h5 --student microexpnet --out RUN`."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from distill.command_line.class_orders import print_network_check, print_store_notes
from distill.command_line.stage import print_next, run_stage
from distill.command_line.student_training import (
    TrainStudentSettings,
    seeded_objective,
    train_fold,
    train_in_cluster,
    train_one,
)
from distill.errors import InputError
from distill.python_function import recognise
from distill.refusals import flag

if TYPE_CHECKING:
    import keras


def train_student(settings: TrainStudentSettings) -> None:
    """Train the student that `settings` describe, into `settings.out`; with folds, one for each."""
    _objective(settings)  # refuses what does not go together
    import tensorflow as tf

    from distill.experiments.cross_validation import cross_validate, folds_text
    from distill.training.replicas import open_strategy

    settings.set_threads()
    strategy = open_strategy(settings.distribute)  # before anything is computed
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()

    def train_into(dataset, out: str | Path, fold: dict | None = None) -> "keras.Model":
        return train_one(
            settings,
            dataset,
            out=out,
            scope=strategy.scope(),
            logits=teachers[0 if fold is None else fold["number"]] if teachers else None,
            teacher=online,
            extra_data=extra_data,
            # A new one for each fold: it may have layers of its own.
            objective=seeded_objective(settings, taught=bool(teachers) or online is not None),
        )

    dataset = settings.open_folds() if settings.folds else settings.open()
    _check_classes(settings, dataset)
    teachers = [] if settings.logits is None else _open_teachers(settings, dataset)
    online = _open_online_teacher(settings, dataset)
    extra_data = _open_extra_data(settings)
    if not teachers and online is None and settings.lambda_ is None and not recognise(settings.loss):
        print("note: it learns from labels alone: --logits or --online.teacher would name a teacher")
    if settings.folds:
        with settings.cluster() as shared:
            ahead = _in_cluster(settings, dataset, teachers) if shared else None
            print(folds_text(cross_validate(train_into, dataset, out=settings.out, train_ahead=ahead)))
    else:
        train_into(dataset, settings.out)
        print_next(
            f"distill.evaluate {settings.data_flags} --model {quote(settings.out)}",
            f"distill.export {settings.data_flags} --model {quote(settings.out)}",
        )


def _in_cluster(settings: TrainStudentSettings, dataset, teachers: list) -> Callable[[Sequence[int]], None]:
    """Return what trains folds in the workers of a cluster."""
    train = partial(train_fold, settings=settings, dataset=dataset, teachers=teachers, out=settings.out)

    def train_ahead(folds: Sequence[int]) -> None:
        train_in_cluster(train, folds, settings, views=settings.view, deterministic=settings.deterministic)

    return train_ahead


def _open_teachers(settings: TrainStudentSettings, dataset) -> list:
    """Open the teachers to learn from, of every fold where there are folds."""
    from distill.experiments.cross_validation import open_fold_logits
    from distill.logit_store import open_logits

    paths = settings.logits or ()
    stores = [open_fold_logits(path, dataset) if settings.folds else [open_logits(path)] for path in paths]
    print_store_notes(*(store for of_folds in stores for store in of_folds))
    return [settings.cached_teachers(of_fold) for of_fold in zip(*stores, strict=True)]


def _open_online_teacher(settings: TrainStudentSettings, dataset):
    """Open the online teacher, if one is named."""
    from distill.scoring.online_teacher import OnlineTeacher

    if settings.online.teacher is None:
        return None
    model = settings.online.open(dataset)
    if model.input_format:  # an external network
        print_network_check(model, dataset, prefix=settings.online.prefix)
    return OnlineTeacher(model, class_names=model.class_names)


def _open_extra_data(settings: TrainStudentSettings) -> list:
    """Open the further datasets, each with its stores."""
    from distill.command_line.data_settings import print_notes
    from distill.data.open_dataset import open_dataset
    from distill.logit_store import open_logits
    from distill.training.sources import ExtraData

    opened, each = [], len(settings.logits or ())
    for number, path in enumerate(settings.extra_data):
        try:
            dataset = settings.merged(open_dataset(path, class_names=settings.extra_data_classes))
        except InputError as error:
            raise InputError(str(error).replace("--data-classes", "--extra-data-classes")) from error
        print_notes(dataset)
        stores = [open_logits(store) for store in settings.extra_logits[number * each : (number + 1) * each]]
        print_store_notes(*stores)
        opened.append(ExtraData(dataset, settings.cached_teachers(stores) if stores else None))
    return opened


def _check_classes(settings: TrainStudentSettings, dataset) -> None:
    if settings.classes not in (None, dataset.num_classes):
        raise InputError(
            f"--classes {settings.classes} does not fit {dataset.name}, which has {dataset.num_classes}: "
            f"{', '.join(dataset.class_names)}"
        )


def _objective(settings: TrainStudentSettings):
    taught = settings.logits is not None or settings.online.teacher is not None
    objective = settings.objective(epochs=settings.epochs, taught=taught)
    if settings.online.teacher is not None and not objective.teacher_outputs:
        raise InputError(
            f"the objective {objective.formula} needs nothing of --online.teacher: omit it, or give a --lambda"
        )
    if settings.ensemble_settings_given and not taught:
        flags = ", ".join(f"--{flag(name)}" for name in settings.ensemble_settings_given)
        raise InputError(f"without a teacher's logits nothing uses {flags}: give --logits, or omit it")
    return objective


def main() -> None:
    run_stage(train_student, TrainStudentSettings, resumes=True)


if __name__ == "__main__":
    main()
