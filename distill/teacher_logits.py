"""Cache a teacher's logits: `python -m distill.teacher_logits --data D --teacher facenet --weights W --out L.h5`."""

from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path

from distill.command_line.cluster_settings import ClusterScoringSettings
from distill.command_line.data_settings import DataSetting
from distill.command_line.stage import run_stage
from distill.command_line.teacher_settings import ScoringSettings
from distill.data.views import ViewSpec
from distill.errors import InputError

_VIEWS = 4
_LIST = "list"


@dataclass(frozen=True, kw_only=True)
class TeacherLogitsSettings(ClusterScoringSettings, ScoringSettings, DataSetting):
    """Score every image of a dataset, in all its splits, with a teacher, once.

    Repeat the command to resume after an interruption; with more --views it adds them to a finished store.
    """

    out: str | None = None
    """The logit store to write, an .h5 file; of a teacher with folds, a folder with a store of each."""
    views: int | None = None
    """Views of each image: the untouched one, and views - 1 augmented ones. By default 4, or all crops."""
    view: ViewSpec = field(default_factory=ViewSpec)
    """How the views are drawn. Students trained on the store see the same ones."""
    features: tuple[str, ...] = ()
    """Layers whose outputs are stored, too: LAYER is averaged to a vector, LAYER@SIDE to a map of SIDE x SIDE; of
    ONNX and LiteRT files and of SavedModels a layer is a tensor. "list" prints which there are, with their bytes, and
    ends. They are added to a finished store of the same teacher."""
    feature_dtype: str = "float16"
    """How features are stored: "float16", "bfloat16" or "float32"."""
    shard: str | None = None
    """Share the work: "1/3", "2/3" and "3/3" may run at once, here or on several machines. Their parts, in
    OUT.parts, are joined by distill.cache merge."""

    @property
    def view_count(self) -> int:
        """Views of each image."""
        return (self.view.crop_count or _VIEWS) if self.views is None else self.views

    def __post_init__(self):
        if self.lists and self.features != (_LIST,):
            raise InputError(f"--features {_LIST} stands alone: omit the others, or {_LIST}")
        if self.out is None and not self.lists:
            raise InputError("nothing says where to write: give --out, an .h5 file")
        if self.out is not None and Path(self.out).suffix.lower() in (".npz", ".csv"):
            raise InputError(
                f"{self.out}: a logit store is an .h5 file; python -m distill.cache export then writes it as "
                f"{Path(self.out).suffix}"
            )

    @property
    def lists(self) -> bool:
        """Whether nothing is to be computed."""
        return _LIST in self.features


def teacher_logits(settings: TeacherLogitsSettings) -> None:
    """Cache the logits that `settings` describe, into `settings.out`."""
    from distill.command_line.data_settings import print_notes
    from distill.data.class_map import with_class_map
    from distill.data.open_dataset import open_dataset
    from distill.experiments.cross_validation import fold_path, folds_in
    from distill.runs.recorded_data import recorded_class_map
    from distill.scoring.features import features_text

    settings.set_threads()
    dataset = open_dataset(settings.data, class_names=settings.data_classes)
    if settings.weights:
        dataset = with_class_map(dataset, recorded_class_map([settings.weights]))
    print_notes(dataset)
    weights = settings.weights_path
    if settings.lists:
        first = fold_path(weights, folds_in(weights)[0]) if weights and folds_in(weights) else weights
        teacher = settings.open(dataset, weights=None if first is None else str(first))
        print(features_text(teacher, dtype=settings.feature_dtype, views=settings.view_count))
        return
    with settings.cluster() as shared:
        if not weights or not (folds := folds_in(weights)):
            _cache(settings, dataset, weights=weights, out=str(settings.out), shared=shared)
            return
        for fold in folds:
            out = fold_path(str(settings.out), fold, ".h5")
            _cache(settings, dataset, weights=str(fold_path(weights, fold)), out=str(out), shared=shared)


def _cache(settings: TeacherLogitsSettings, dataset, *, weights: str | None, out: str, shared: bool) -> None:
    from distill.command_line.class_orders import print_accuracy, print_matching_note, print_network_check
    from distill.logit_store import Shard
    from distill.runs.networks import recorded_run
    from distill.scoring.caching import cache_logits

    run = None if weights is None else recorded_run(weights)
    teacher = settings.open(dataset, weights=weights)
    print_matching_note(teacher, dataset)
    # An external one is better checked now than after hours.
    warned = bool(teacher.input_format) and print_network_check(teacher, dataset)
    store = cache_logits(
        teacher,
        dataset,
        out,
        views=settings.view_count,
        view_spec=settings.view,
        teacher_training=None if run is None else run.training_fingerprints,
        features=settings.features,
        feature_dtype=settings.feature_dtype,
        shard=None if settings.shard is None else Shard.parse(settings.shard),
        batch_size=settings.batch_size,
        open_scorer=_scorer_in_cluster(settings, weights) if shared else None,
    )
    if store is None:
        print(
            f"shard {settings.shard} is complete; when all are: python -m distill.cache merge {out}.parts --out {out}"
        )
        return
    header = store.header
    print(
        f"{out}: {len(store):,} images x {header.views} views x {len(header.class_names)} classes "
        f"of {header.teacher_name}"
    )
    for feature in header.features:
        print(f"  {feature}, {feature.bytes_per_view * header.views:,} bytes an image")
    print_accuracy(store, near_chance=not warned)


def _scorer_in_cluster(settings: TeacherLogitsSettings, weights: str | None):
    from distill.cluster.scoring import cluster_scorer

    # What is sent to workers is of a class that they can import: this module may be the program itself.
    teacher = ScoringSettings(**{each.name: getattr(settings, each.name) for each in fields(ScoringSettings)})
    opened = partial(ScoringSettings.open, teacher, weights=weights)
    return partial(cluster_scorer, open_teacher=opened, resources=settings.resources)


def main() -> None:
    run_stage(teacher_logits, TeacherLogitsSettings)


if __name__ == "__main__":
    main()
