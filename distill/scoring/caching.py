"""Score data once with a teacher: its logits and features for every view of every image, into a logit store."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from distill.data.class_order import ASSUMED, GIVEN, ClassOrder
from distill.data.dataset import Dataset, check_is_dataset
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.logit_store import LogitHeader, LogitStore, LogitWriter, Shard, open_logits
from distill.logit_store.header import differences
from distill.logit_store.layout import PART, decode_ids
from distill.logit_store.parts import PART_FILES, parts_folder
from distill.logit_store.reading import DamagedError, read_content
from distill.progress import progress_bar
from distill.refusals import check_at_least
from distill.runtimes.foreign_network import with_class_order
from distill.runtimes.image_model import LOGITS, ImageModel
from distill.runtimes.softmax import probe_images
from distill.scoring.features import LayerFeature, described
from distill.scoring.folding import fold_batch_norm
from distill.scoring.network_identity import (
    check_raw_logits,
    explained_by_rounding,
    numeric_policy,
    weights_sha256,
)
from distill.scoring.scorer import ScoredPart, Scorer
from distill.versions import versions

_SCORED_AGAIN = 4  # images: whatever changes a teacher shows in each of them


def cache_logits(
    teacher: keras.Model | ImageModel,
    dataset: Dataset,
    out: str | Path,
    *,
    views: int = 4,
    view_spec: ViewSpec | None = None,
    class_names: Sequence[str] | None = None,
    teacher_training: Mapping[str, str] | None = None,
    shard: Shard | None = None,
    features: Sequence[str] = (),
    feature_dtype: str = "float16",
    flip_average: bool = False,
    shift_average: int = 0,
    batch_size: int = 256,
    rows_per_part: int | None = None,
    progress: bool = True,
    open_scorer: "OpenScorer | None" = None,
) -> LogitStore | None:
    """Compute and store the logits, and features, of `views` views of every image of `dataset`.

    An interrupted call that is repeated goes on where it stopped; a finished store of the same settings is
    opened; to a finished store of fewer views or features the others are added. Where anything is stored, the
    teacher is first checked on a few images of it, because its fingerprint need not cover all that it computes.

    Args:
        teacher: takes pixels 0..255 at its own `input_shape`, returns raw logits.
        out: path of the `.h5` file.
        views: views 0 (the untouched image) to `views` - 1 are scored.
        view_spec: how views are drawn.
        class_names: the classes that the teacher tells apart, in its own order; by default those that it names
            itself, or else those of `dataset`, which the store then says are assumed.
        teacher_training: fingerprints of the images that the teacher learned from, "train", and that chose its
            epoch, "validation", where they are known: see `RunRecord.training_fingerprints`.
        shard: which share to compute, where other processes compute the rest; their parts stay in the folder
            `<out>.parts` until `merge_parts`.
        features: layers whose outputs are stored, too: "conv5" averaged to a vector, "conv5@7" to a map of 7 x 7.
        feature_dtype: "float16", "bfloat16" or "float32", in the file.
        flip_average: store the mean of the logits of each view and of its mirror image, in twice the time, as where
            `ImageModel.flip_average` says so.
        shift_average: store the mean of the logits of each view and of it moved by so many pixels towards each
            corner, in five times the time, as where `ImageModel.shift_average` says so.
        batch_size: images in one call of the teacher, see `Scorer`.
        rows_per_part: images that are written together; an interruption costs at most these. By default 512, or
            fewer where their features are large.
        progress: show a bar with images/s and time left.
        open_scorer: what scores, given the teacher, `dataset`, and `view_spec`, `batch_size` and `features` of a
            `Scorer`; by default one in this process.

    Returns:
        The store; None where `shard` leaves the rest to others.

    Raises:
        InputError: the teacher has another number of classes, ends in a softmax, lacks a layer, or gives numbers that
            are not finite; it no longer gives the logits that are stored; `out` holds something else, or another
            process writes it; there is no room.
    """
    check_is_dataset(dataset)
    check_at_least(1, batch_size=batch_size)
    teacher = named_teacher(teacher, dataset, class_names=class_names)
    teacher = replace(
        teacher,
        flip_average=flip_average or teacher.flip_average,
        shift_average=shift_average or teacher.shift_average,
    )
    view_spec = view_spec or ViewSpec()
    header = describe_logits(teacher, dataset, views=views, view_spec=view_spec, teacher_training=teacher_training)
    wanted = [LayerFeature.parse(text) for text in dict.fromkeys(features)]
    header = replace(header, features=described(wanted, teacher, dtype=feature_dtype, listed_by="--features list"))
    view_spec.parameters([""], [views - 1])  # refuses more views than there are crops, before anything is written
    writer = LogitWriter(
        out,
        header,
        sample_ids=dataset.ids,
        content_hashes=dataset.content_hashes,
        labels=dataset.labels_among(teacher.class_names),
        rows_per_part=rows_per_part,
        shard=shard,
    )
    with writer:
        missing = writer.missing()
        store = open_logits(writer.path) if writer.views_present else None
        stored = [LayerFeature.parse(each.name) for each in writer.header.features]
        opened = (open_scorer or _scorer_here)(
            teacher, dataset, view_spec=view_spec, batch_size=batch_size, features=stored
        )
        with opened as scorer:
            _check_gives_the_same(teacher, scorer, writer, store)
            if writer.complete:
                print(f"{out} is already complete")
            else:
                _score_missing(teacher, writer, missing, scorer, store, progress=progress)
        written = writer.finish()
        complete = writer.complete
    del writer  # its columns of all images, before those of the store are read
    return open_logits(written) if complete else None


class PartScorer(Protocol):
    """What `cache_logits` needs of a `Scorer`."""

    dataset: Dataset

    def score(self, indices: np.ndarray, views: Sequence[int]) -> np.ndarray: ...

    def score_parts(
        self, parts: Sequence[slice], views: Sequence[int], on_batch: Callable[[int], None]
    ) -> Iterator[ScoredPart]: ...


OpenScorer = Callable[..., AbstractContextManager[PartScorer]]


@contextmanager
def _scorer_here(
    teacher: ImageModel, dataset: Dataset, *, features: Sequence[LayerFeature], **how: Any
) -> Iterator[Scorer]:
    yield open_scorer(teacher, dataset, features=features, **how)


def open_scorer(teacher: ImageModel, dataset: Dataset, *, features: Sequence[LayerFeature], **how: Any) -> Scorer:
    """Return what scores `dataset` for a store, with the teacher as it is fastest."""
    model = inference_model(teacher, keep=[each.layer for each in features])
    return Scorer(model, dataset, features=features, **how)


def named_teacher(
    teacher: keras.Model | ImageModel,
    dataset: Dataset,
    *,
    class_names: Sequence[str] | None = None,
) -> ImageModel:
    """Return `teacher` with the classes that it tells apart: those given, its own, or those of `dataset`.

    Raises:
        InputError: whatever `as_image_model` refuses.
    """
    if class_names is not None:
        order = ClassOrder(tuple(class_names), GIVEN)
    elif isinstance(teacher, ImageModel) and teacher.class_names:
        order = ClassOrder(teacher.class_names, teacher.class_order)
    else:
        order = ClassOrder(tuple(dataset.class_names), ASSUMED)
    return with_class_order(as_image_model(teacher, order.names), order)


def as_image_model(teacher: keras.Model | ImageModel, class_names: Sequence[str]) -> ImageModel:
    """Return `teacher` as an `ImageModel`, checked to give a logit for each of `class_names`.

    Raises:
        InputError: it has another number of classes, takes something else than images, or ends in a softmax.
    """
    if isinstance(teacher, keras.Model):
        check_raw_logits(teacher)
        teacher = ImageModel(
            name=teacher.name,
            input_shape=teacher.input_shape[1:],
            classes=teacher.output_shape[-1],
            sha256=weights_sha256(teacher),
            numeric_policy=numeric_policy(teacher),
            logits_from=LOGITS,
            input_format={},
            network=teacher,
            predict=teacher.predict_on_batch,
        )
    if teacher.classes != len(class_names):
        raise InputError(
            f"{teacher.name} gives {teacher.classes} logits, the classes are {len(class_names)} "
            f"({', '.join(class_names)}): name the teacher's own classes in order (--classes)"
        )
    return teacher


def inference_model(teacher: ImageModel, *, keep: Collection[str] = ()) -> ImageModel:
    """Return the same teacher, made faster for inference where that changes its logits by rounding alone.

    Args:
        keep: names of layers whose outputs are to stay what they are.
    """
    if teacher.network is None:
        return teacher
    folded = fold_batch_norm(teacher.network, keep=keep)
    images = probe_images(teacher.input_shape)
    before, after = (
        np.asarray(keras.ops.convert_to_numpy(network(images, training=False)), np.float32)
        for network in (teacher.network, folded)
    )
    same = np.abs(after - before).max() <= explained_by_rounding(before, teacher.numeric_policy)
    return replace(teacher, network=folded) if same else teacher


def describe_logits(
    teacher: ImageModel,
    dataset: Dataset,
    *,
    views: int,
    view_spec: ViewSpec,
    teacher_training: Mapping[str, str] | None = None,
) -> LogitHeader:
    """Return the header of the store that `cache_logits` writes for a teacher with `class_names`."""
    return LogitHeader(
        class_names=teacher.class_names,
        class_order=teacher.class_order,
        views=views,
        view_spec=view_spec.to_dict(),
        teacher_name=teacher.name,
        teacher_sha256=teacher.sha256,
        teacher_input_shape=teacher.input_shape,
        numeric_policy=teacher.numeric_policy,
        logits_from=teacher.logits_from,
        input_format=teacher.scored_as,
        dataset_fingerprint=dataset.fingerprint,
        dataset_name=dataset.name,
        teacher_training=dict(teacher_training or {}),
        versions=versions(),
    )


def _check_gives_the_same(
    teacher: ImageModel, scorer: PartScorer, writer: LogitWriter, store: LogitStore | None
) -> None:
    """Score a few rows of what is stored already again, if anything is.

    Raises:
        InputError: a logit differs by more than rounding explains.
    """
    found = _some_stored(scorer.dataset, writer, store)
    if found is None:
        return
    rows, stored = found
    scored = scorer.score(rows, range(stored.shape[1]))
    _check_same(teacher, writer, scorer.dataset.ids[rows], stored=stored, scored=scored)


def _check_same(
    teacher: ImageModel, writer: LogitWriter, ids: np.ndarray, *, stored: np.ndarray, scored: np.ndarray
) -> None:
    """Refuse logits that differ from stored ones, [n, V, C] of samples with these ids, by more than rounding."""
    difference = np.abs(scored - stored)
    if difference.max() > explained_by_rounding(stored, teacher.numeric_policy):
        row, view, column = worst = np.unravel_index(difference.argmax(), difference.shape)
        which = f"{ids[row]}, view {view}, {writer.header.class_names[column]}"
        raise InputError(
            f"{teacher.name} no longer gives the logits that {writer.path} began with ({which}: stored "
            f"{stored[worst]:.6g}, now {scored[worst]:.6g}): bring it back as it was, or choose another --out"
        )


def _some_stored(
    dataset: Dataset, writer: LogitWriter, store: LogitStore | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return rows of `dataset` and what is stored of them: in the finished store, or in any part of this one."""
    if store is not None:
        rows = np.arange(min(len(dataset), _SCORED_AGAIN))
        return rows, store.read(store.rows_of(dataset)[rows])
    for path in sorted(parts_folder(writer.path).glob(PART_FILES)):  # those of other shards too
        try:
            part = read_content(path, kind=PART, columns=("sample_id", "logits"))
        except DamagedError:  # it is written anew
            continue
        rows = part.extent.first_row + np.arange(min(part.extent.rows, _SCORED_AGAIN))
        ids = decode_ids(part.columns["sample_id"][: len(rows)])
        if not differences(part.header, writer.header) and np.array_equal(ids, dataset.ids[rows]):
            return rows, part.columns["logits"][: len(rows)]
    return None


def _score_missing(
    teacher: ImageModel,
    writer: LogitWriter,
    missing: Sequence[slice],
    scorer: PartScorer,
    store: LogitStore | None,
    *,
    progress: bool,
) -> None:
    header = writer.header
    # A new feature needs all views to be scored; the logits that come with it are compared with the stored ones.
    new_features = header.features[len(writer.features_present) :]
    first = 0 if new_features else writer.views_present
    stored_rows = None
    if store is not None:
        stored_rows = store.rows_of(scorer.dataset)
        named = f" and {', '.join(store.features)}" if store.features else ""
        print(f"{store.path} holds {writer.views_present} views{named}: the others are added")
    done = writer.rows - sum(rows.stop - rows.start for rows in missing)
    with progress_bar(
        total=writer.rows, initial=done, desc=header.teacher_name, unit="image", disable=not progress
    ) as bar:
        for rows, logits, features in scorer.score_parts(missing, range(first, header.views), bar.update):
            if store is not None and stored_rows is not None:  # read part by part, so that it need not be held whole
                ids = scorer.dataset.ids[rows]
                logits, features = _with_stored(teacher, writer, ids, store, stored_rows[rows], logits, features)
            writer.write(rows, logits, features)


def _with_stored(
    teacher: ImageModel,
    writer: LogitWriter,
    ids: np.ndarray,
    store: LogitStore,
    stored_rows: np.ndarray,
    logits: np.ndarray,
    features: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return all views of some rows: what is stored as it is, and what was scored where nothing is."""
    present = store.header.views
    stored = store.read(stored_rows)
    again = logits.shape[1] + present - writer.header.views  # views that were scored although they are stored
    if again:
        _check_same(teacher, writer, ids, stored=stored, scored=logits[:, :again])
    joined = {
        name: np.concatenate([_stored_feature(store, name, stored_rows), values[:, again:]], axis=1)
        if name in store.features
        else values
        for name, values in features.items()
    }
    return np.concatenate([stored, logits[:, again:]], axis=1), joined


def _stored_feature(store: LogitStore, name: str, rows: np.ndarray) -> np.ndarray:
    """Return float32 [n, views, ...] of all stored views."""
    views = store.header.views
    values = store.read_feature(name, np.repeat(rows, views), np.tile(np.arange(views), len(rows)))
    return values.reshape(len(rows), views, *values.shape[1:])
