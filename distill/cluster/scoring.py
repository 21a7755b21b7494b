"""`cluster_scorer`: a teacher's logits, part by part, from the workers of a cluster."""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from distill.cluster.resources import Resources
from distill.cluster.workers import Workers
from distill.data.dataset import Dataset
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.runtimes.image_model import ImageModel
from distill.scoring.caching import open_scorer
from distill.scoring.scorer import ScoredPart

_COMPARED = 8  # images of every part


@dataclass(frozen=True, eq=False)
class ClusterScorer:
    """Scores as a `Scorer` does, elsewhere."""

    dataset: Dataset
    workers: Workers

    def score(self, indices: np.ndarray, views: Sequence[int] = (0,)) -> np.ndarray:
        """Return float32 [len(indices), len(views), C]."""
        ((_, (logits, _)),) = self.workers.done([(np.asarray(indices), tuple(views))])
        return logits

    def score_parts(
        self,
        parts: Sequence[slice],
        views: Sequence[int],
        on_batch: Callable[[int], None] = lambda images: None,
    ) -> Iterator[ScoredPart]:
        """Yield every part with its logits and features, in the order in which they are done."""
        for (rows, _), (logits, features) in self.workers.done([(rows, tuple(views)) for rows in parts]):
            on_batch(rows.stop - rows.start)
            yield rows, logits, features


@contextmanager
def cluster_scorer(
    teacher: ImageModel,
    dataset: Dataset,
    *,
    open_teacher: Callable[[Dataset], ImageModel],
    resources: Resources,
    **how: Any,
) -> Iterator[ClusterScorer]:
    """Yield what scores `dataset` in the cluster, for `cache_logits`.

    Args:
        teacher: as it was opened here.
        open_teacher: opens the same one in a worker.
        resources: of each worker.
        how: `view_spec`, `batch_size` and `features` of a `Scorer`.
    """
    dataset.content_hashes  # noqa: B018 - known to all, read by one
    same: dict[str, Any] = {"sha256": teacher.sha256, "averages": teacher.averages}
    with Workers(partial(_prepare, open_teacher, dataset, **same, **how), resources) as workers:
        yield ClusterScorer(dataset, workers)


def _prepare(
    open_teacher: Callable[[Dataset], ImageModel],
    dataset: Dataset,
    *,
    sha256: str,
    averages: Mapping[str, Any],
    view_spec: ViewSpec,
    **how: Any,
) -> Callable[[tuple[Any, Sequence[int]]], tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Open the teacher in a worker, and return what scores rows there."""
    teacher = replace(open_teacher(dataset), **averages)
    if teacher.sha256 != sha256:
        raise InputError(
            f"the worker on {socket.gethostname()} has another {teacher.name} (sha256 {teacher.sha256[:16]} instead "
            f"of {sha256[:16]}): give all machines the same files"
        )
    scorer = open_scorer(teacher, dataset, view_spec=view_spec, **how)

    def score(task: tuple[Any, Sequence[int]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        rows, views = task
        indices = np.r_[rows]
        _check_same_images(dataset, indices)
        return scorer.score_all(indices, views)

    return score


def _check_same_images(dataset: Dataset, indices: np.ndarray) -> None:
    """Refuse data whose images are others on this machine: some of every part are looked at."""
    some = dataset.subset(indices[:: max(1, len(indices) // _COMPARED)])
    changed = np.flatnonzero((replace(some).content_hashes != some.content_hashes).any(1))
    if len(changed):
        raise InputError(
            f"the worker on {socket.gethostname()} has another image {some.ids[changed[0]]} of {dataset.name}: give "
            "all machines the same data"
        )
