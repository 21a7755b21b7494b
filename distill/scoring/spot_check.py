"""Score some images of a logit store again: does the teacher still give the logits that are stored?"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from distill.data.dataset import Dataset
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.logit_store import LogitStore, differences
from distill.refusals import check_at_least
from distill.runtimes.image_model import ImageModel
from distill.scoring.caching import describe_logits, inference_model, named_teacher
from distill.scoring.network_identity import explained_by_rounding
from distill.scoring.scorer import Scorer


@dataclass(frozen=True)
class SpotCheck:
    """How the logits of a teacher that scored some images again differ from the stored ones."""

    images: int
    """How many of the stored images were drawn."""
    views: int
    """Views of each of them: all that are stored."""
    largest_difference: float
    """Between a stored logit and the new one."""
    tolerance: float
    """The largest difference that rounding explains."""
    agreement: float
    """Share of the views whose largest logit is that of the same class, 0..1."""


def spot_check(
    teacher: keras.Model | ImageModel,
    store: LogitStore,
    dataset: Dataset,
    *,
    class_names: Sequence[str] | None = None,
    images: int = 64,
    seed: int = 0,
    batch_size: int = 256,
) -> SpotCheck:
    """Let `teacher` score all views of images drawn at random again.

    Args:
        dataset: the images that the store was written for, or some of them, with their pixels.
        class_names: the classes that the teacher tells apart, in its own order; by default those that it names
            itself, or else those of `dataset`.
        images: how many are drawn; all of them where there are fewer.
        seed: which ones, 0 or more.
        batch_size: rendered views in one call of the teacher.

    Raises:
        InputError: the teacher, its classes, what it sees, or the images are not those of the store; or the
            largest difference is more than rounding explains.
    """
    check_at_least(1, images=images, batch_size=batch_size)
    check_at_least(0, seed=seed)
    teacher = named_teacher(teacher, dataset, class_names=class_names)
    view_spec = ViewSpec.from_dict(store.view_spec)
    _check_header(teacher, store, dataset, view_spec=view_spec)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(dataset))[:images])
    stored = store.read(store.rows_of(dataset)[drawn])
    model, partner_ids = inference_model(teacher), store.sample_ids
    scorer = Scorer(model, dataset, view_spec=view_spec, partner_ids=partner_ids, batch_size=batch_size)
    scored = scorer.score(drawn, range(store.header.views))
    check = SpotCheck(
        images=len(drawn),
        views=store.header.views,
        largest_difference=float(np.abs(scored - stored).max()),
        tolerance=explained_by_rounding(stored, teacher.numeric_policy),
        agreement=float((scored.argmax(2) == stored.argmax(2)).mean()),
    )
    if check.largest_difference > check.tolerance:
        raise InputError(
            f"{teacher.name} now gives other logits than {store.path} holds: largest difference "
            f"{check.largest_difference:.3g}, rounding explains {check.tolerance:.3g}; same class in "
            f"{check.agreement:.1%} of the views: cache them again"
        )
    return check


def _check_header(teacher: ImageModel, store: LogitStore, dataset: Dataset, *, view_spec: ViewSpec) -> None:
    """Compare the teacher in the store's header with the one that is given."""
    expected = describe_logits(teacher, dataset, views=store.header.views, view_spec=view_spec)
    # A part of the data will do for a spot check, and the file's dtype is no matter of the teacher.
    found = differences(store.header, expected, but=("dataset_fingerprint", "logits_dtype"))
    if found:
        raise InputError(f"{store.path} was written by another teacher, or with other settings ({'; '.join(found)})")
