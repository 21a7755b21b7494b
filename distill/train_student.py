"""Train a student: `python -m distill.train_student --data D --logits L.h5 --student microexpnet --out RUN`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from distill.command_line.data_settings import FoldSettings
from distill.command_line.stage import run_stage
from distill.command_line.teacher_settings import OnlineTeacherSettings
from distill.errors import InputError
from distill.losses.schedules import Ramp, WarmedRamp
from distill.training.recipe import Recipe

_FOR_TEACHERS = ("temperature", "temperature_schedule", "lambda_schedule", "loss", "loss_weights", "loss_options")
_OF_SEVERAL_TEACHERS = ("teacher_weights", "teacher_mean", "class_match")


@dataclass(frozen=True, kw_only=True)
class TrainStudentSettings(FoldSettings, Recipe):
    """Train a student, from cached logits, from a teacher at hand, or from labels alone.

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
    """A teacher at hand: slower, but every epoch can have new views."""
    beside: tuple[str, ...] = ()
    """Further data sets to learn from in the same run, such as a folder of unlabelled faces. They choose nothing."""
    beside_logits: tuple[str, ...] = ()
    """Their stores, as many for each of them as --logits names, data set by data set."""
    student: str = "microexpnet"
    """Name of the network."""
    loss: str = "microexpnet"
    """The soft part: "microexpnet", "hinton", "standardised", "dkd", "dist", "nkd", "ttm", "wttm" or "mse"."""
    loss_weights: tuple[float, float] | None = None
    """Instead of lambda: what the labels and the soft part weigh. By default the usual ones of the loss."""
    loss_options: dict[str, float] = field(default_factory=dict)
    """The loss' own parameters, such as "alpha 1 beta 8" of dkd; by default the usual ones."""
    temperature: float | None = None
    """T, which softens both the teacher and the student in the soft part of the loss; by default the usual one of
    the loss, such as 8."""
    temperature_schedule: Ramp = Ramp()
    """Where the temperature goes in the course of the run."""
    lambda_: Annotated[float | None, arg(name="lambda")] = None
    """Weight of the soft part, 0..1; the labels weigh 1 - lambda. By default the usual one of the loss, such as 0.5,
    with logits, and 0 without."""
    lambda_schedule: WarmedRamp = WarmedRamp()
    """Where lambda, or the explicit weight of the soft part, goes in the course of the run."""
    keep_prob: float | None = None
    """Share of what the last layer reads that dropout keeps in training. By default the network's own: of MicroExpNet
    0.5, of slim_resnet 0.8."""
    pixel_scale: float = 1 / 16
    """What the student multiplies pixels by. MicroExpNet's own is 1, which hardly learned at --lr 0.0003."""
    views: int | None = None
    """Without logits: how many views of each image the epochs go through; by default always new ones."""
    image_size: int | None = None
    """Height and width that the network takes; the published ones by default."""
    classes: int | None = None
    """Number of classes that the data must have; those that it has by default."""
    distribute: str = "none"
    """Divide every batch: "mirrored" among the GPUs of this machine, "workers" among machines or processes. Each of
    these is given the same command, and the environment variable TF_CONFIG that says which one it is."""
    deterministic: bool = True
    """Same seed, same weights, on GPUs, too. Without it they choose kernels that are sooner; processors do not."""

    def __post_init__(self):
        super().__post_init__()
        if self.logits == ():
            raise InputError("--logits names no file: give the stores of teachers, or leave it out")
        self._check_online()
        if self.folds and self.distribute == "workers":
            raise InputError("--folds are trained by one process: leave --distribute workers out")
        self._check_beside()

    def _check_online(self) -> None:
        if self.online.teacher is None and self.online != OnlineTeacherSettings():
            raise InputError("--online describes a teacher that is not named: give --online.teacher")
        if self.online.teacher is None:
            return
        if self.logits is not None:
            raise InputError("--logits and --online.teacher are two ways to be taught: give one of them")
        if self.folds:
            raise InputError(
                "--online.teacher is one for all --folds, and may have learned from their test faces: cache the "
                "logits of a teacher for each fold, and give --logits"
            )
        ignored = [name for name in _OF_SEVERAL_TEACHERS if getattr(self, name) is not None]
        if ignored:
            raise InputError(
                f"--{ignored[0].replace('_', '-')} is for --logits, not for --online.teacher: leave it out"
            )

    def _check_beside(self) -> None:
        if self.beside and self.folds:
            raise InputError("--folds judges by every face, so there is no place beside it: leave --beside out")
        needed = len(self.beside) * len(self.logits or ())
        if len(self.beside_logits) != needed:
            raise InputError(
                f"{len(self.beside)} data sets beside the first, and {len(self.logits or ())} stores for that, need "
                f"{needed} stores of their own: received {len(self.beside_logits)} --beside-logits"
            )


def train_student(settings: TrainStudentSettings) -> None:
    """Train the student that `settings` describe, into `settings.out`; with folds, one for each."""
    loss = _loss(settings)
    import keras
    import tensorflow as tf

    from distill.experiments.cross_validation import cross_validate, folds_text
    from distill.runs.networks import build_network
    from distill.training.replicas import open_strategy
    from distill.training.train import train
    from students import STUDENTS

    strategy = open_strategy(settings.distribute)  # before anything is computed
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()

    def train_one(dataset, out: str | Path, fold: dict | None = None) -> keras.Model:
        keras.utils.set_random_seed(settings.seed)
        with strategy.scope():
            student = build_network(
                STUDENTS,
                settings.student,
                classes=dataset.num_classes,
                image_size=settings.image_size,
                keep_prob=settings.keep_prob,
                pixel_scale=settings.pixel_scale,
            )
        return train(
            student,
            dataset,
            out=out,
            logits=teachers[0 if fold is None else fold["number"]] if teachers else None,
            teacher=online,
            beside=beside,
            loss=loss,
            temperature_schedule=settings.temperature_schedule,
            lambda_schedule=settings.lambda_schedule,
            views=settings.views,
            recipe=settings,
            provenance={"fold": fold},
        )

    dataset = settings.open_folds() if settings.folds else settings.open()
    _check_classes(settings, dataset)
    teachers = [] if settings.logits is None else _open_teachers(settings, dataset)
    online = _open_online_teacher(settings, dataset)
    beside = _open_beside(settings)
    if settings.folds:
        print(folds_text(cross_validate(train_one, dataset, out=settings.out)))
    else:
        train_one(dataset, settings.out)


def _open_teachers(settings: TrainStudentSettings, dataset) -> list:
    """Open the teachers to learn from, of every fold where there are folds."""
    from distill.experiments.cross_validation import open_fold_logits
    from distill.logit_store import open_logits
    from distill.training.ensemble import CachedTeachers

    stores = [open_fold_logits(path, dataset) if settings.folds else [open_logits(path)] for path in settings.logits]
    for path, of_folds in zip(settings.logits, stores, strict=True):
        if not all(store.pixels_known for store in of_folds):
            print(f"note: pixels of {path} are unknown: joined by file name, unchecked")
    return [CachedTeachers(of_fold, **_how_to_combine(settings)) for of_fold in zip(*stores, strict=True)]


def _how_to_combine(settings: TrainStudentSettings) -> dict:
    named = {
        "weights": settings.teacher_weights,
        "mean": settings.teacher_mean,
        "class_match": settings.class_match,
    }
    return {name: value for name, value in named.items() if value is not None}


def _open_online_teacher(settings: TrainStudentSettings, dataset):
    """Open the teacher at hand, if one is named; the student is float32 all the same, whatever that computes in."""
    from distill.runs.networks import set_policy
    from distill.scoring.online_teacher import OnlineTeacher

    if settings.online.teacher is None:
        return None
    model = settings.online.open(dataset)
    set_policy("float32")
    return OnlineTeacher(model, class_names=settings.online.class_names(dataset))


def _open_beside(settings: TrainStudentSettings) -> list:
    """Open the further data sets, each with its stores."""
    from distill.command_line.data_settings import print_notes
    from distill.data.open_dataset import open_dataset
    from distill.logit_store import open_logits
    from distill.training.ensemble import CachedTeachers
    from distill.training.sources import Beside

    opened, each = [], len(settings.logits or ())
    for number, path in enumerate(settings.beside):
        dataset = open_dataset(path)
        print_notes(dataset)
        stores = [open_logits(store) for store in settings.beside_logits[number * each : (number + 1) * each]]
        opened.append(Beside(dataset, CachedTeachers(stores, **_how_to_combine(settings)) if stores else None))
    return opened


def _check_classes(settings: TrainStudentSettings, dataset) -> None:
    if settings.classes not in (None, dataset.num_classes):
        raise InputError(
            f"--classes {settings.classes} does not fit {dataset.name}, which has {dataset.num_classes}: "
            f"{', '.join(dataset.class_names)}"
        )


def _loss(settings: TrainStudentSettings):
    from distill.losses.distillation_loss import DistillationLoss

    named = {
        "name": settings.loss,
        "temperature": settings.temperature,
        "weights": settings.loss_weights,
        "options": settings.loss_options,
    }
    loss = DistillationLoss(**named, lambda_=settings.lambda_)
    if settings.online.teacher is not None and not loss.uses_teacher:
        raise InputError(
            f"the loss {loss.formula} asks --online.teacher for nothing: leave it out, or give a --lambda"
        )
    if settings.logits is not None or settings.online.teacher is not None:
        return loss
    _check_no_teacher_is_needed(settings)
    return DistillationLoss(lambda_=0.0) if settings.lambda_ is None else loss


def _check_no_teacher_is_needed(settings: TrainStudentSettings) -> None:
    default = TrainStudentSettings(data="", out="")
    ignored = [
        name for name in (*_FOR_TEACHERS, *_OF_SEVERAL_TEACHERS) if getattr(settings, name) != getattr(default, name)
    ]
    if ignored:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in ignored)
        raise InputError(f"without a teacher's logits nothing uses {flags}: give --logits, or leave it out")


def main() -> None:
    run_stage(train_student, TrainStudentSettings, resumes=True)


if __name__ == "__main__":
    main()
