"""Ask a teacher once: its logits for every view of every image, into a logit store."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from distill.data.dataset import UNLABELLED, Dataset
from distill.data.expressions import canonical_name
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.logit_store import LogitHeader, LogitStore, LogitWriter, Shard, open_logits
from distill.runtimes.image_model import LOGITS, ImageModel
from distill.training.folding import fold_batch_norm
from distill.training.network_identity import check_raw_logits, numeric_policy, weights_sha256
from distill.training.run_directory import versions
from distill.training.scoring import Scorer


def cache_logits(
    teacher: keras.Model | ImageModel,
    dataset: Dataset,
    out: str | Path,
    *,
    views: int = 4,
    view_spec: ViewSpec | None = None,
    class_names: Sequence[str] | None = None,
    teacher_run: Mapping | None = None,
    shard: Shard | None = None,
    batch_size: int = 256,
    rows_per_part: int = 512,
    progress: bool = True,
) -> LogitStore | None:
    """Compute and store the logits of `views` views of every image of `dataset`.

    An interrupted call that is repeated goes on where it stopped; a finished store of the same settings is
    opened without asking the teacher; to a finished store of fewer views the others are added.

    Args:
        teacher: takes pixels 0..255 at its own `input_shape`, returns raw logits.
        out: path of the `.h5` file.
        views: views 0 (the untouched image) to `views` - 1 are scored.
        view_spec: how views are drawn.
        class_names: the classes that the teacher tells apart, in its own order; by default those of `dataset`.
        teacher_run: the record (settings.json) of the run that trained the teacher, so that the store can tell
            which faces it learned from.
        shard: which share to compute, where other processes compute the rest; their parts stay in the folder
            `<out>.parts` until `merge_parts`.
        batch_size: rendered views in one call of the teacher.
        rows_per_part: images that are written together; an interruption costs at most these.
        progress: show a bar with images/s and time left.

    Returns:
        The store; None where `shard` leaves the rest to others.

    Raises:
        InputError: the teacher has another number of classes, ends in a softmax, or gives logits that are
            not finite; `out` holds something else, or another process writes it; there is no room.
    """
    if batch_size < 1:
        raise InputError(f"batch-size must be at least 1, received {batch_size}")
    class_names = tuple(class_names or dataset.class_names)
    teacher = as_image_model(teacher, class_names)
    view_spec = view_spec or ViewSpec()
    writer = LogitWriter(
        out,
        describe_logits(
            teacher, dataset, views=views, view_spec=view_spec, class_names=class_names, teacher_run=teacher_run
        ),
        sample_ids=dataset.ids,
        content_hashes=dataset.content_hashes,
        labels=_labels_among(class_names, dataset),
        rows_per_part=rows_per_part,
        shard=shard,
    )
    with writer:
        if writer.complete:
            print(f"{out} is already complete")
        else:
            _score_missing(writer, teacher, dataset, view_spec=view_spec, batch_size=batch_size, progress=progress)
        written = writer.finish()
        return open_logits(written) if writer.complete else None


def as_image_model(teacher: keras.Model | ImageModel, class_names: Sequence[str]) -> ImageModel:
    """Return `teacher` as something that can be asked, checked to give a logit for each of `class_names`.

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
            f"({', '.join(class_names)}): name the teacher's own classes in order"
        )
    return teacher


def inference_model(teacher: ImageModel) -> ImageModel:
    """Return the same teacher, made faster for inference where that is possible."""
    return teacher if teacher.network is None else replace(teacher, network=fold_batch_norm(teacher.network))


def describe_logits(
    teacher: ImageModel,
    dataset: Dataset,
    *,
    views: int,
    view_spec: ViewSpec,
    class_names: Sequence[str],
    teacher_run: Mapping | None = None,
) -> LogitHeader:
    """Return the header of the store that `cache_logits` writes."""
    training = {} if teacher_run is None else teacher_run["data"]
    return LogitHeader(
        class_names=class_names,
        views=views,
        view_spec=view_spec.to_dict(),
        teacher_name=teacher.name,
        teacher_sha256=teacher.sha256,
        teacher_input_shape=teacher.input_shape,
        numeric_policy=teacher.numeric_policy,
        logits_from=teacher.logits_from,
        input_format=teacher.input_format,
        dataset_fingerprint=dataset.fingerprint,
        dataset_name=dataset.name,
        teacher_training={split: training[split]["fingerprint"] for split in ("train", "validation") if training},
        versions=versions(),
    )


def _score_missing(
    writer: LogitWriter,
    teacher: ImageModel,
    dataset: Dataset,
    *,
    view_spec: ViewSpec,
    batch_size: int,
    progress: bool,
) -> None:
    present = writer.views_present
    stored = _stored_logits(writer.path, dataset) if present else None
    views = range(present, writer.header.views)
    scorer = Scorer(inference_model(teacher), dataset, view_spec=view_spec, batch_size=batch_size)
    missing = writer.missing()
    done = writer.rows - sum(rows.stop - rows.start for rows in missing)
    with tqdm(total=writer.rows, initial=done, desc=teacher.name, unit="image", disable=not progress) as bar:
        for rows in missing:
            logits = scorer.score(np.arange(rows.start, rows.stop), views, on_batch=bar.update)
            writer.write(rows, logits if stored is None else np.concatenate([stored[rows], logits], axis=1))


def _stored_logits(path: Path, dataset: Dataset) -> np.ndarray:
    store = open_logits(path)
    print(f"{path} holds {store.header.views} views: the others are added")
    return store.logits[store.rows_of(dataset)]


def _labels_among(class_names: Sequence[str], dataset: Dataset) -> np.ndarray:
    """Return the labels as positions in `class_names`; a class that is not among them is `UNLABELLED`."""
    if tuple(class_names) == dataset.class_names:
        return dataset.labels
    positions = {canonical_name(name): position for position, name in enumerate(class_names)}
    # The last entry is where UNLABELLED, -1, is looked up.
    own = [*(positions.get(canonical_name(name), UNLABELLED) for name in dataset.class_names), UNLABELLED]
    return np.array(own)[dataset.labels]
