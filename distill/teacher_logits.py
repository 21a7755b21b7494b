"""Cache a teacher's logits: `python -m distill.teacher_logits --data D --teacher facenet --weights W --out L.h5`."""

from dataclasses import dataclass, field

from distill.data.views import ViewSpec
from distill.stage import run_stage


@dataclass(frozen=True, kw_only=True)
class TeacherLogitsSettings:
    """Score every image with a teacher, once. The same command again goes on after an interruption."""

    data: str
    """A data set: a path whose layout is recognised, or "synthetic". All its splits are scored."""
    weights: str
    """What the teacher learned: the directory of its run, a .keras file or a .weights.h5 file."""
    out: str
    """The logit store to write, an .h5 file."""
    teacher: str = "facenet"
    """Name of the network."""
    views: int = 4
    """Views of each image: the untouched one, and views - 1 augmented ones."""
    view: ViewSpec = field(default_factory=ViewSpec)
    """How the views are drawn. Students trained on the store see the same ones."""
    image_size: int | None = None
    """Height and width that the network takes; those of the weights by default."""
    policy: str = "float32"
    """"float32", or "mixed_bfloat16", which is faster on processors with bfloat16 units."""
    batch_size: int = 256
    """Rendered views in one call of the teacher."""


def teacher_logits(settings: TeacherLogitsSettings) -> None:
    """Cache the logits that `settings` describe, into `settings.out`."""
    from distill.data.open_dataset import open_dataset
    from distill.networks import build_network, check_class_names, set_policy
    from distill.training.caching import cache_logits
    from teachers import TEACHERS

    dataset = open_dataset(settings.data)
    for note in dataset.notes:
        print(f"note: {note}")
    check_class_names(settings.weights, dataset)
    set_policy(settings.policy)
    teacher = build_network(
        TEACHERS,
        settings.teacher,
        classes=dataset.num_classes,
        image_size=settings.image_size,
        weights=settings.weights,
    )
    store = cache_logits(
        teacher,
        dataset,
        settings.out,
        views=settings.views,
        view_spec=settings.view,
        batch_size=settings.batch_size,
    )
    views, classes = store.logits.shape[1:]
    print(f"{settings.out}: {len(store):,} images x {views} views x {classes} classes of {store.header.teacher_name}")


def main() -> None:
    run_stage(teacher_logits, TeacherLogitsSettings)


if __name__ == "__main__":
    main()
