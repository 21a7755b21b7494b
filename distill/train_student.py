"""Train a student: `python -m distill.train_student --data D --logits L.h5 --student microexpnet --out RUN`."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distill.command_line.class_orders import print_network_check, print_store_notes
from distill.command_line.data_settings import FoldSettings
from distill.command_line.loss_settings import LossSettings
from distill.command_line.stage import run_stage
from distill.command_line.student_settings import StudentSettings
from distill.command_line.teacher_settings import OnlineTeacherSettings
from distill.errors import InputError
from distill.training.recipe import Recipe

if TYPE_CHECKING:
    import keras

_OF_SEVERAL_TEACHERS = ("teacher_weights", "teacher_mean", "class_match")


@dataclass(frozen=True, kw_only=True)
class TrainStudentSettings(FoldSettings, StudentSettings, LossSettings, Recipe):
    """Train a student, from cached logits, from an online teacher, or from labels alone.

    The same command again goes on with a run that was interrupted, and so does --resume RUN alone.
    """

    out: str
    """Directory of the run."""
    logits: tuple[str, ...] | None = None
    """Stores that distill.teacher_logits wrote, one for each teacher, or with --folds its folders of them; none:
    labels alone."""
    teacher_weights: tuple[float, ...] | None = None
    """Of several teachers: how much each counts, in the order of --logits; by default all the same."""
    teacher_mean: str | None = None
    """Of several teachers: the mean of their "logits" (default), or of their "probabilities" at the temperature."""
    class_match: str | None = None
    """A teacher's classes are those of the data in the same order ("exact", default), or are found by name among
    its own, in any order ("names"): what else it knows is left out."""
    online: OnlineTeacherSettings = field(default_factory=OnlineTeacherSettings)
    """An online teacher: slower than a cache, but every epoch can have new views."""
    extra_data: tuple[str, ...] = ()
    """Further data sets to learn from in the same run, given as --data is, such as a folder of unlabelled images.
    They choose nothing."""
    extra_logits: tuple[str, ...] = ()
    """Their stores, as many for each of them as --logits names, data set by data set."""
    student: str = "microexpnet"
    """Name of a network; or MODULE:FUNCTION, which returns a keras.Model that takes pixels 0..255 and gives logits,
    and is called with classes, --student-options, and input_shape where --image-size is given."""
    views: int | None = None
    """Without logits: how many views of each image the epochs go through; by default always new ones."""
    classes: int | None = None
    """Number of classes that the data must have; those that it has by default."""
    distribute: str = "none"
    """Divide every batch: "mirrored" among the GPUs of this machine, "workers" among machines or processes. Each of
    these is given the same command, and the environment variable TF_CONFIG that says which one it is."""
    deterministic: bool = True
    """Same seed, same weights, on GPUs, too. Without it they choose faster kernels; processors do not."""

    def __post_init__(self):
        super().__post_init__()
        if self.logits == ():
            raise InputError("--logits names no file: give the stores of teachers, or leave it out")
        self._check_online()
        if self.folds and self.distribute == "workers":
            raise InputError("--folds are trained by one process: leave --distribute workers out")
        self._check_extra_data()

    def _check_online(self) -> None:
        if self.online.teacher is None and self.online != OnlineTeacherSettings():
            raise InputError("--online describes a teacher that is not named: give --online.teacher")
        if self.online.teacher is None:
            return
        if self.logits is not None:
            raise InputError("--logits and --online.teacher are two ways to be taught: give one of them")
        if self.folds:
            raise InputError(
                "--online.teacher is one for all --folds, and may have learned from their test images: cache the "
                "logits of a teacher for each fold, and give --logits"
            )
        ignored = [name for name in _OF_SEVERAL_TEACHERS if getattr(self, name) is not None]
        if ignored:
            raise InputError(
                f"--{ignored[0].replace('_', '-')} is for --logits, not for --online.teacher: leave it out"
            )

    def _check_extra_data(self) -> None:
        if self.extra_data and self.folds:
            raise InputError("--folds evaluates on every image, so that none may be extra: leave --extra-data out")
        needed = len(self.extra_data) * len(self.logits or ())
        if len(self.extra_logits) != needed:
            raise InputError(
                f"{len(self.extra_data)} data sets of --extra-data, and {len(self.logits or ())} stores of --logits, "
                f"need {needed} stores of their own: received {len(self.extra_logits)} --extra-logits"
            )


def train_student(settings: TrainStudentSettings) -> None:
    """Train the student that `settings` describe, into `settings.out`; with folds, one for each."""
    _objective(settings)  # refuses what does not go together
    import tensorflow as tf

    from distill.experiments.cross_validation import cross_validate, folds_text
    from distill.training.replicas import open_strategy

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
            objective=_objective(settings),  # a new one for each fold: it may have layers of its own
        )

    dataset = settings.open_folds() if settings.folds else settings.open()
    _check_classes(settings, dataset)
    teachers = [] if settings.logits is None else _open_teachers(settings, dataset)
    online = _open_online_teacher(settings, dataset)
    extra_data = _open_extra_data(settings)
    if settings.folds:
        print(folds_text(cross_validate(train_into, dataset, out=settings.out)))
    else:
        train_into(dataset, settings.out)


def train_one(
    settings: TrainStudentSettings,
    dataset,
    *,
    out: str | Path | None = None,
    scope: AbstractContextManager | None = None,
    **taught,
) -> "keras.Model":
    """Build the student of `settings` as if it were the first network of this process, and train it.

    Args:
        out: the run directory; by default that of the settings.
        scope: where its variables are made.
        taught: arguments of `distill.training.train.train`, which say how it is taught.
    """
    import keras

    from distill.runs.run_record import CommandRecord
    from distill.training.train import train

    keras.backend.clear_session()  # of earlier graphs, and of the names that their layers took
    keras.utils.set_random_seed(settings.seed)
    with scope or nullcontext():
        student = settings.build_student(settings.student, dataset.num_classes)
    return train(
        student,
        dataset,
        out=out or settings.out,
        views=settings.views,
        recipe=settings,
        command=CommandRecord(name="train_student", settings=asdict(settings)),
        **taught,
    )


def _open_teachers(settings: TrainStudentSettings, dataset) -> list:
    """Open the teachers to learn from, of every fold where there are folds."""
    from distill.experiments.cross_validation import open_fold_logits
    from distill.logit_store import open_logits
    from distill.training.ensemble import CachedTeachers

    stores = [open_fold_logits(path, dataset) if settings.folds else [open_logits(path)] for path in settings.logits]
    print_store_notes(*(store for of_folds in stores for store in of_folds))
    return [CachedTeachers(of_fold, **_how_to_combine(settings)) for of_fold in zip(*stores, strict=True)]


def _how_to_combine(settings: TrainStudentSettings) -> dict:
    named = {
        "weights": settings.teacher_weights,
        "mean": settings.teacher_mean,
        "class_match": settings.class_match,
    }
    return {name: value for name, value in named.items() if value is not None}


def _open_online_teacher(settings: TrainStudentSettings, dataset):
    """Open the online teacher, if one is named."""
    from distill.scoring.online_teacher import OnlineTeacher

    if settings.online.teacher is None:
        return None
    model = settings.online.open(dataset)
    if model.input_format:  # from elsewhere
        print_network_check(model, dataset, prefix=settings.online.prefix)
    return OnlineTeacher(model, class_names=model.class_names)


def _open_extra_data(settings: TrainStudentSettings) -> list:
    """Open the further data sets, each with its stores."""
    from distill.command_line.data_settings import print_notes
    from distill.data.open_dataset import open_dataset
    from distill.logit_store import open_logits
    from distill.training.ensemble import CachedTeachers
    from distill.training.sources import ExtraData

    opened, each = [], len(settings.logits or ())
    for number, path in enumerate(settings.extra_data):
        dataset = open_dataset(path)
        print_notes(dataset)
        stores = [open_logits(store) for store in settings.extra_logits[number * each : (number + 1) * each]]
        print_store_notes(*stores)
        opened.append(ExtraData(dataset, CachedTeachers(stores, **_how_to_combine(settings)) if stores else None))
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
            f"the objective {objective.formula} needs nothing of --online.teacher: leave it out, or give a --lambda"
        )
    ignored = [name for name in _OF_SEVERAL_TEACHERS if getattr(settings, name) is not None]
    if ignored and not taught:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in ignored)
        raise InputError(f"without a teacher's logits nothing uses {flags}: give --logits, or leave it out")
    return objective


def main() -> None:
    run_stage(train_student, TrainStudentSettings, resumes=True)


if __name__ == "__main__":
    main()
