"""Ask a teacher once: its logits for every view of every image, into a logit store."""

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from distill.data.dataset import Dataset
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.logit_store import LogitHeader, LogitStore, LogitWriter, open_logits
from distill.training.folding import fold_batch_norm
from distill.training.network_identity import check_gives_logits, numeric_policy, weights_sha256
from distill.training.run_directory import versions
from distill.training.scoring import Scorer


def cache_logits(
    teacher: keras.Model,
    dataset: Dataset,
    out: str | Path,
    *,
    views: int = 4,
    view_spec: ViewSpec | None = None,
    teacher_run: Mapping | None = None,
    batch_size: int = 256,
    rows_per_part: int = 512,
    progress: bool = True,
) -> LogitStore:
    """Compute and store the logits of `views` views of every image of `dataset`.

    An interrupted call that is repeated goes on where it stopped; a finished store of the same settings is
    opened without asking the teacher.

    Args:
        teacher: takes pixels 0..255 at its own `input_shape`, returns raw logits.
        out: path of the `.h5` file.
        views: views 0 (the untouched image) to `views` - 1 are scored.
        view_spec: how views are drawn.
        teacher_run: the record (settings.json) of the run that trained the teacher, so that the store can tell
            which faces it learned from.
        batch_size: rendered views in one call of the teacher.
        rows_per_part: images that are written together; an interruption costs at most these.
        progress: show a bar with images/s and time left.

    Raises:
        InputError: the teacher has another number of classes, ends in a softmax, or gives logits that are
            not finite; or `out` holds something else.
    """
    check_gives_logits(teacher, dataset)
    if batch_size < 1:
        raise InputError(f"batch-size must be at least 1, received {batch_size}")
    view_spec = view_spec or ViewSpec()
    writer = LogitWriter(
        out,
        _header(teacher, dataset, views, view_spec, teacher_run),
        sample_ids=dataset.ids,
        content_hashes=dataset.content_hashes,
        labels=dataset.labels,
        rows_per_part=rows_per_part,
    )
    if writer.complete:
        print(f"{out} is already complete")
        return open_logits(writer.finish())
    scorer = Scorer(fold_batch_norm(teacher), dataset, view_spec=view_spec, batch_size=batch_size)
    missing = writer.missing()
    done = len(dataset) - sum(rows.stop - rows.start for rows in missing)
    with tqdm(total=len(dataset), initial=done, desc=teacher.name, unit="image", disable=not progress) as bar:
        for rows in missing:
            indices = np.arange(rows.start, rows.stop)
            writer.write(rows, scorer.score(indices, range(views), on_batch=bar.update))
    return open_logits(writer.finish())


def _header(
    teacher: keras.Model, dataset: Dataset, views: int, view_spec: ViewSpec, teacher_run: Mapping | None
) -> LogitHeader:
    training = {} if teacher_run is None else teacher_run["data"]
    return LogitHeader(
        class_names=dataset.class_names,
        views=views,
        view_spec=view_spec.to_dict(),
        teacher_name=teacher.name,
        teacher_sha256=weights_sha256(teacher),
        teacher_input_shape=teacher.input_shape[1:],
        numeric_policy=numeric_policy(teacher),
        dataset_fingerprint=dataset.fingerprint,
        dataset_name=dataset.name,
        teacher_training={split: training[split]["fingerprint"] for split in ("train", "validation") if training},
        versions=versions(),
    )
