"""Cache a teacher's logits: `python -m distill.teacher_logits --data D --teacher facenet --weights W --out L.h5`."""

from dataclasses import dataclass, field

from distill.data.views import ViewSpec
from distill.stage import run_stage

_VIEWS = 4


@dataclass(frozen=True, kw_only=True)
class TeacherLogitsSettings:
    """Score every image with a teacher, once. The same command again goes on after an interruption."""

    data: str
    """A data set: a path whose layout is recognised, or "synthetic". All its splits are scored."""
    weights: str
    """What the teacher learned: the directory of its run (or of its folds), a .keras or .weights.h5 file."""
    out: str
    """The logit store to write, an .h5 file; of a teacher with folds, a folder with a store of each."""
    teacher: str = "facenet"
    """Name of the network."""
    views: int | None = None
    """Views of each image: the untouched one, and views - 1 augmented ones. By default 4, or all crops."""
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
    from distill.data.data_settings import print_notes
    from distill.data.open_dataset import open_dataset
    from distill.training.cross_validation import fold_path, folds_in

    dataset = open_dataset(settings.data)
    print_notes(dataset)
    folds = folds_in(settings.weights)
    if not folds:
        _cache(settings, dataset, weights=settings.weights, out=settings.out)
    for fold in folds:
        out = fold_path(settings.out, fold, ".h5")
        _cache(settings, dataset, weights=str(fold_path(settings.weights, fold)), out=str(out))


def _cache(settings: TeacherLogitsSettings, dataset, *, weights: str, out: str) -> None:
    from distill.networks import build_network, check_class_names, recorded_run, set_policy
    from distill.training.caching import cache_logits
    from teachers import TEACHERS

    check_class_names(weights, dataset)
    set_policy(settings.policy)
    teacher = build_network(
        TEACHERS,
        settings.teacher,
        classes=dataset.num_classes,
        image_size=settings.image_size,
        weights=weights,
    )
    store = cache_logits(
        teacher,
        dataset,
        out,
        views=(settings.view.crop_count or _VIEWS) if settings.views is None else settings.views,
        view_spec=settings.view,
        teacher_run=recorded_run(weights),
        batch_size=settings.batch_size,
    )
    views, classes = store.logits.shape[1:]
    print(f"{out}: {len(store):,} images x {views} views x {classes} classes of {store.header.teacher_name}")


def main() -> None:
    run_stage(teacher_logits, TeacherLogitsSettings)


if __name__ == "__main__":
    main()
