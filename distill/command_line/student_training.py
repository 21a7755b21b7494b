"""`TrainStudentSettings`, the flags by which a student is trained, and `train_one`, which trains it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from distill.command_line.cluster_settings import NO_CLUSTER, ClusterRunSettings
from distill.command_line.data_settings import FoldSettings
from distill.command_line.ensemble_settings import EnsembleSettings
from distill.command_line.loss_settings import LossSettings
from distill.command_line.student_settings import StudentSettings
from distill.command_line.teacher_settings import OnlineTeacherSettings
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.progress import progress_bar
from distill.refusals import flag
from distill.training.recipe import Recipe

if TYPE_CHECKING:
    import keras

    from distill.losses.objective import Objective
    from distill.training.ensemble import CachedTeachers


@dataclass(frozen=True, kw_only=True)
class TrainStudentSettings(ClusterRunSettings, FoldSettings, StudentSettings, EnsembleSettings, LossSettings, Recipe):
    """Train a student, from cached logits, from an online teacher, or from labels alone.

    Repeat the command to resume an interrupted run, or give --resume RUN alone.
    """

    first_flags: ClassVar[tuple[str, ...]] = (
        *("data", "logits", "student", "student_options", "loss", "temperature", "lambda_", "epochs", "lr", "out"),
    )

    out: str
    """Directory of the run."""
    logits: tuple[str, ...] | None = None
    """Stores that distill.teacher_logits wrote, one for each teacher, or with --folds its folders of them; none:
    labels alone."""
    online: OnlineTeacherSettings = field(default_factory=OnlineTeacherSettings)
    """An online teacher: slower than a cache, but every epoch can have new views."""
    extra_data: tuple[str, ...] = ()
    """Further datasets to learn from in the same run, given as --data is, such as a folder of unlabelled images.
    They are not used to choose the best epoch."""
    extra_logits: tuple[str, ...] = ()
    """Their stores, as many for each of them as --logits names, dataset by dataset."""
    extra_data_classes: str | None = None
    """What the labels of --extra-data mean, as --data-classes says of --data."""
    student: str = "microexpnet"
    """Name of a network; or MODULE:FUNCTION, which returns a keras.Model that takes pixels 0..255 and gives logits,
    and is called with classes, --student-options, and input_shape where --image-size is given."""
    weights: str | None = None
    """A trained network of that name to begin with: the directory of a run, its .keras file, or the name of one that
    comes with this package; where it learned other classes, its last layer is new."""
    views: int | None = None
    """Without logits: how many views of each image the epochs go through; by default always new ones."""
    classes: int | None = None
    """Number of classes that the data must have; those that it has by default."""
    distribute: str = "none"
    """Divide every batch: "mirrored" among the GPUs of this machine, "workers" among machines or processes. Each of
    these is given the same command, and the environment variable TF_CONFIG that says which one it is."""
    deterministic: bool = True
    """Same seed, same weights, on GPUs, too. --no-deterministic allows faster kernels there; it changes nothing on
    CPUs."""

    def __post_init__(self):
        super().__post_init__()
        if self.logits == ():
            raise InputError("--logits names no file: give the stores of teachers, or omit it")
        self._check_online()
        if self.folds and self.distribute == "workers":
            raise InputError("--folds are trained by one process: omit --distribute workers")
        if (self.ray, self.gpus_per_run) != (None, None) and not self.folds:
            raise InputError(
                "--ray shares --folds among workers: give them, or omit --ray and --gpus-per-run (one run is "
                "divided by --distribute)"
            )
        if self.ray is not None and self.distribute != "none":
            raise InputError("--ray and --distribute are two ways to share the work: give one of them")
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
        if ignored := self.ensemble_settings_given:
            raise InputError(f"--{flag(ignored[0])} is for --logits, not for --online.teacher: omit it")

    def _check_extra_data(self) -> None:
        if self.extra_data and self.folds:
            raise InputError("--folds evaluates on every image, so that none may be extra: omit --extra-data")
        if self.extra_data_classes is not None and not self.extra_data:
            raise InputError("nothing uses --extra-data-classes: give --extra-data, or omit it")
        needed = len(self.extra_data) * len(self.logits or ())
        if len(self.extra_logits) != needed:
            raise InputError(
                f"{len(self.extra_data)} datasets of --extra-data, and {len(self.logits or ())} stores of --logits, "
                f"need {needed} stores of their own: received {len(self.extra_logits)} --extra-logits"
            )


def train_run(
    run: TrainStudentSettings, *, dataset, teachers: Mapping[tuple[str, ...], "CachedTeachers"]
) -> "keras.Model":
    """Train a run of a comparison, from those of `teachers` that its --logits name, else from labels alone."""
    logits = None if run.logits is None else teachers[run.logits]
    return train_one(run, dataset, logits=logits, objective=seeded_objective(run, taught=logits is not None))


def train_fold(
    fold: int, *, settings: TrainStudentSettings, dataset, teachers: Sequence[Any], out: str | Path
) -> None:
    """Train the student of one fold, from the logits of its own teacher where there are `teachers`."""
    from distill.data.folds import fold_splits
    from distill.experiments.cross_validation import fold_path

    train_one(
        settings,
        fold_splits(dataset, fold),
        out=fold_path(out, fold),
        logits=teachers[fold] if teachers else None,
        objective=seeded_objective(settings, taught=bool(teachers)),
    )


def seeded_objective(settings: TrainStudentSettings, *, taught: bool) -> "Objective":
    """Return a new objective, whose own layers begin with the same weights in every process."""
    import keras

    keras.utils.set_random_seed(settings.seed)  # an initializer draws its seed when its layer is made
    return settings.objective(epochs=settings.epochs, taught=taught)


def train_in_cluster(
    train: Callable[[Any], Any],
    runs: Sequence[Any],
    settings: ClusterRunSettings,
    *,
    views: ViewSpec,
    deterministic: bool,
) -> list[tuple[Any, Any]]:
    """Let the workers of a cluster train `runs`, each of which goes on where it was interrupted, and show a bar.

    Args:
        train: called with one of them, in a worker, which sees the same files. It returns no network, which does not
            travel: its run directory is there.
        settings: whose `cluster` is open.
        views: of `settings`; with them a worker learns of their operations from outside.
        deterministic: as `TrainStudentSettings.deterministic`.

    Returns:
        Each of `runs` with what `train` returned.
    """
    from distill.cluster.workers import Workers

    prepare = partial(_as_a_worker, train, views, deterministic)
    with Workers(prepare, settings.resources) as workers:
        return list(progress_bar(workers.done(runs), total=len(runs), desc="students", unit="run"))


def _as_a_worker(train: Callable[[Any], Any], views: ViewSpec, deterministic: bool) -> Callable[[Any], Any]:
    """Prepare a worker, and return what trains there."""
    import tensorflow as tf

    if deterministic:
        tf.config.experimental.enable_op_determinism()
    return train


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

    from distill.runs.networks import begin_with
    from distill.runs.run_record import CommandRecord
    from distill.runs.trained_networks import trained_path
    from distill.training.train import train

    keras.backend.clear_session()  # of earlier graphs, and of the names that their layers took
    keras.utils.set_random_seed(settings.seed)
    with scope or nullcontext():
        student = settings.build_student(settings.student, dataset.num_classes)
        begun = None
        if settings.weights is not None:
            begun = begin_with(student, trained_path(settings.weights), dataset.class_names)
    return train(
        student,
        dataset,
        out=out or settings.out,
        views=settings.views,
        recipe=settings,
        begins_with_sha256=begun,
        command=CommandRecord.of("train_student", replace(settings, **NO_CLUSTER)),
        **taught,
    )
