"""Train a teacher from labels: `python -m distill.train_teacher --data D --teacher facenet --out RUN`."""

from dataclasses import dataclass

from distill.data.data_settings import DataSettings
from distill.stage import run_stage
from distill.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class TrainTeacherSettings(DataSettings, Recipe):
    """Train a teacher from labels. The same command again goes on with a run that was interrupted."""

    out: str
    """Directory of the run."""
    teacher: str = "facenet"
    """Name of the network."""
    image_size: int | None = None
    """Height and width that the network takes; the published ones by default."""
    policy: str = "float32"
    """"float32", or "mixed_bfloat16", which is faster on processors with bfloat16 units."""


def train_teacher(settings: TrainTeacherSettings) -> None:
    """Train the teacher that `settings` describe, into `settings.out`."""
    import keras

    from distill.networks import build_network, set_policy
    from distill.training.train import train
    from teachers import TEACHERS

    dataset = settings.open()
    set_policy(settings.policy)
    keras.utils.set_random_seed(settings.seed)
    teacher = build_network(TEACHERS, settings.teacher, classes=dataset.num_classes, image_size=settings.image_size)
    train(teacher, dataset, out=settings.out, recipe=settings)


def main() -> None:
    run_stage(train_teacher, TrainTeacherSettings)


if __name__ == "__main__":
    main()
