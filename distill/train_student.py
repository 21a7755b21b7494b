"""Train a student: `python -m distill.train_student --data D --logits L.h5 --student microexpnet --out RUN`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from distill.data.data_settings import FoldSettings
from distill.errors import InputError
from distill.stage import run_stage
from distill.training.recipe import Recipe
from distill.training.schedules import Ramp, WarmedRamp

_FOR_TEACHERS = ("temperature", "temperature_schedule", "lambda_schedule", "loss", "loss_weights", "loss_options")
_FOR_TEACHERS += ("teacher_weights", "teacher_mean", "class_match")


@dataclass(frozen=True, kw_only=True)
class TrainStudentSettings(FoldSettings, Recipe):
    """Train a student, from cached logits or from labels alone.

    The same command again goes on with a run that was interrupted.
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
    keep_prob: float = 0.5
    """Share of the dense layer that dropout keeps in training."""
    pixel_scale: float = 1 / 16
    """What the student multiplies pixels by. MicroExpNet's own is 1, which hardly learned at --lr 0.0003."""
    views: int | None = None
    """Without logits: how many views of each image the epochs go through; by default always new ones."""
    image_size: int | None = None
    """Height and width that the network takes; the published ones by default."""
    classes: int | None = None
    """Number of classes that the data must have; those that it has by default."""

    def __post_init__(self):
        super().__post_init__()
        if self.logits == ():
            raise InputError("--logits names no file: give the stores of teachers, or leave it out")


def train_student(settings: TrainStudentSettings) -> None:
    """Train the student that `settings` describe, into `settings.out`; with folds, one for each."""
    loss = _loss(settings)
    import keras

    from distill.networks import build_network
    from distill.training.cross_validation import cross_validate, folds_text
    from distill.training.train import train
    from students import STUDENTS

    def train_one(dataset, out: str | Path, fold: dict | None = None) -> keras.Model:
        keras.utils.set_random_seed(settings.seed)
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
    if settings.folds:
        print(folds_text(cross_validate(train_one, dataset, out=settings.out)))
    else:
        train_one(dataset, settings.out)


def _open_teachers(settings: TrainStudentSettings, dataset) -> list:
    """Open the teachers to learn from, of every fold where there are folds."""
    from distill.logit_store import open_logits
    from distill.training.cross_validation import open_fold_logits
    from distill.training.ensemble import CachedTeachers

    stores = [open_fold_logits(path, dataset) if settings.folds else [open_logits(path)] for path in settings.logits]
    for path, of_folds in zip(settings.logits, stores, strict=True):
        if not all(store.pixels_known for store in of_folds):
            print(f"note: pixels of {path} are unknown: joined by file name, unchecked")
    named = {
        "weights": settings.teacher_weights,
        "mean": settings.teacher_mean,
        "class_match": settings.class_match,
    }
    given = {name: value for name, value in named.items() if value is not None}
    return [CachedTeachers(of_fold, **given) for of_fold in zip(*stores, strict=True)]


def _check_classes(settings: TrainStudentSettings, dataset) -> None:
    if settings.classes not in (None, dataset.num_classes):
        raise InputError(
            f"--classes {settings.classes} does not fit {dataset.name}, which has {dataset.num_classes}: "
            f"{', '.join(dataset.class_names)}"
        )


def _loss(settings: TrainStudentSettings):
    from distill.training.distillation_loss import DistillationLoss

    named = {
        "name": settings.loss,
        "temperature": settings.temperature,
        "weights": settings.loss_weights,
        "options": settings.loss_options,
    }
    loss = DistillationLoss(**named, lambda_=settings.lambda_)
    if settings.logits is not None:
        return loss
    _check_no_teacher_is_needed(settings)
    return DistillationLoss(lambda_=0.0) if settings.lambda_ is None else loss


def _check_no_teacher_is_needed(settings: TrainStudentSettings) -> None:
    default = TrainStudentSettings(data="", out="")
    ignored = [name for name in _FOR_TEACHERS if getattr(settings, name) != getattr(default, name)]
    if ignored:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in ignored)
        raise InputError(f"without a teacher's logits nothing uses {flags}: give --logits, or leave it out")


def main() -> None:
    run_stage(train_student, TrainStudentSettings)


if __name__ == "__main__":
    main()
