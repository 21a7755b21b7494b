"""Train a teacher from labels: `python -m distill.train_teacher --data D --teacher facenet --out RUN`."""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from distill.command_line.data_settings import FoldSettings
from distill.command_line.stage import print_next, run_stage
from distill.training.recipe import RECIPES, Recipe


@dataclass(frozen=True, kw_only=True)
class TrainTeacherSettings(FoldSettings, Recipe):
    """Train a teacher from labels, on any backend of Keras (KERAS_BACKEND).

    Repeat the command to resume an interrupted run, or give --resume RUN alone.
    """

    out: str
    """Directory of the run."""
    recipe: str | None = None
    """"facenet", "facenet_steps", "fer_cnn" (after papers) or "strong" (our own): sets what is not given here."""
    teacher: str = "facenet"
    """Name of the network."""
    weights: str | None = None
    """A trained network of that name to begin with, a run or one that comes with this package; where it learned
    other classes, its last layer is new."""
    image_size: int | None = None
    """Height and width that the network takes; the published ones by default."""
    policy: str = "float32"
    """"float32", or "mixed_bfloat16", which is faster on processors with bfloat16 units."""


def train_teacher(settings: TrainTeacherSettings) -> None:
    """Train the teacher that `settings` describe, into `settings.out`; with folds, one for each."""
    import keras

    from distill.experiments.cross_validation import cross_validate, folds_text
    from distill.runs.networks import begin_with, build_network
    from distill.runs.run_record import CommandRecord
    from distill.runs.trained_networks import trained_path
    from distill.training.train import train_from_labels
    from teachers import TEACHERS

    def train(dataset, out: str | Path, fold: dict | None = None) -> keras.Model:
        keras.utils.set_random_seed(settings.seed)
        teacher = build_network(
            TEACHERS,
            settings.teacher,
            classes=dataset.num_classes,
            image_size=settings.image_size,
            policy=settings.policy,
        )
        begun = None
        if settings.weights is not None:
            begun = begin_with(teacher, trained_path(settings.weights), dataset.class_names)
        command = CommandRecord.of("train_teacher", settings)
        return train_from_labels(
            teacher, dataset, out=out, recipe=settings, begins_with_sha256=begun, command=command
        )

    if settings.folds:
        if settings.weights is not None:
            print("note: every fold begins with the same weights: they must never have learned from these images")
        print(folds_text(cross_validate(train, settings.open_folds(), out=settings.out)))
    else:
        train(settings.open(), settings.out)
        print_next(
            f"distill.evaluate {settings.data_flags} --model {quote(settings.out)}",
            f"distill.teacher_logits {settings.data_flags} --teacher {settings.teacher} "
            f"--weights {quote(settings.out)} --out logits.h5",
        )


def main() -> None:
    run_stage(train_teacher, TrainTeacherSettings, backend="any", presets=RECIPES, resumes=True)


if __name__ == "__main__":
    main()
