"""Train a student: `python -m distill.train_student --data D --logits L.h5 --student microexpnet --out RUN`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from distill.data.data_settings import FoldSettings
from distill.stage import run_stage
from distill.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class TrainStudentSettings(FoldSettings, Recipe):
    """Train a student, from cached logits or from labels alone.

    The same command again goes on with a run that was interrupted.
    """

    out: str
    """Directory of the run."""
    logits: str | None = None
    """A store that distill.teacher_logits wrote, or with --folds its folder of them; none: labels alone."""
    student: str = "microexpnet"
    """Name of the network."""
    loss: str = "microexpnet"
    """"microexpnet", or "hinton", which multiplies the soft part by the squared temperature."""
    temperature: float = 8.0
    """T, which softens both the teacher and the student in the soft part of the loss."""
    lambda_: Annotated[float | None, arg(name="lambda")] = None
    """Weight of the soft part, 0..1; the labels weigh 1 - lambda. By default 0.5 with logits, else 0."""
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


def train_student(settings: TrainStudentSettings) -> None:
    """Train the student that `settings` describe, into `settings.out`; with folds, one for each."""
    loss = _loss(settings)
    import keras

    from distill.networks import build_network
    from distill.training.cross_validation import cross_validate, folds_text
    from distill.training.train import train
    from students import STUDENTS

    def train_one(dataset, out: str | Path, fold: dict | None = None) -> keras.Model:
        logits = stores[0 if fold is None else fold["number"]] if stores else None
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
            logits=logits,
            loss=loss,
            views=settings.views,
            recipe=settings,
            provenance={"fold": fold},
        )

    dataset = settings.open_folds() if settings.folds else settings.open()
    _check_classes(settings, dataset)
    stores = [] if settings.logits is None else _open_logits(settings, dataset)
    if settings.folds:
        print(folds_text(cross_validate(train_one, dataset, out=settings.out)))
    else:
        train_one(dataset, settings.out)


def _open_logits(settings: TrainStudentSettings, dataset) -> list:
    """Open the logits to learn from, of every fold where there are folds."""
    from distill.logit_store import open_logits
    from distill.training.cross_validation import open_fold_logits

    stores = open_fold_logits(settings.logits, dataset) if settings.folds else [open_logits(settings.logits)]
    if not all(store.pixels_known for store in stores):
        print(f"note: pixels of {settings.logits} are unknown: joined by file name, unchecked")
    return stores


def _check_classes(settings: TrainStudentSettings, dataset) -> None:
    from distill.errors import InputError

    if settings.classes not in (None, dataset.num_classes):
        raise InputError(
            f"--classes {settings.classes} does not fit {dataset.name}, which has {dataset.num_classes}: "
            f"{', '.join(dataset.class_names)}"
        )


def _loss(settings: TrainStudentSettings):
    from distill.errors import InputError
    from distill.training.losses import DistillationLoss

    teacher_settings = (settings.temperature, settings.loss)
    if settings.logits is None and teacher_settings != (TrainStudentSettings.temperature, TrainStudentSettings.loss):
        DistillationLoss(name=settings.loss, temperature=settings.temperature)  # names what is wrong in itself
        raise InputError("--temperature and --loss need a teacher's logits: give --logits, or leave them out")

    if settings.lambda_ is None:
        lambda_ = 0.0 if settings.logits is None else DistillationLoss.lambda_
    else:
        lambda_ = settings.lambda_
    return DistillationLoss(name=settings.loss, temperature=settings.temperature, lambda_=lambda_)


def main() -> None:
    run_stage(train_student, TrainStudentSettings)


if __name__ == "__main__":
    main()
