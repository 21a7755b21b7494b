"""Ask a teacher again about some of what it said: does a logit store still tell the truth?"""

from dataclasses import dataclass

import keras
import numpy as np

from distill.data.dataset import Dataset
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.logit_store import LogitStore, differences
from distill.runtimes.image_model import ImageModel
from distill.training.caching import as_image_model, describe_logits, inference_model
from distill.training.scoring import Scorer

# Shares of the largest logit: rounding on another processor, or in other batches, stays well below.
_TOLERANCES = {"float32": 1e-3}
_COARSE_TOLERANCE = 0.05


@dataclass(frozen=True)
class SpotCheck:
    """What a teacher said when it was asked again."""

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
    teacher: keras.Model | ImageModel, store: LogitStore, dataset: Dataset, *, images: int = 64, seed: int = 0
) -> SpotCheck:
    """Ask `teacher` again about all views of images drawn at random.

    Args:
        dataset: the images that the store was written for, or some of them, with their pixels.
        images: how many are drawn; all of them where there are fewer.
        seed: which ones.

    Raises:
        InputError: the teacher, what it sees, or the images are not those of the store; or the largest
            difference is more than rounding explains.
    """
    if images < 1:
        raise InputError(f"a spot check needs at least one image, received {images}")
    teacher = as_image_model(teacher, store.class_names)
    view_spec = ViewSpec.from_dict(store.view_spec)
    _check_header(teacher, store, dataset, view_spec)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(dataset))[:images])
    stored = store.logits[store.rows_of(dataset)[drawn]]
    scorer = Scorer(inference_model(teacher), dataset, view_spec=view_spec)
    asked = scorer.score(drawn, range(store.header.views))
    share = _TOLERANCES.get(teacher.numeric_policy, _COARSE_TOLERANCE)
    check = SpotCheck(
        images=len(drawn),
        views=store.header.views,
        largest_difference=float(np.abs(asked - stored).max()),
        tolerance=share * max(float(np.abs(stored).max()), 1.0),
        agreement=float((asked.argmax(2) == stored.argmax(2)).mean()),
    )
    if check.largest_difference > check.tolerance:
        raise InputError(
            f"{teacher.name} now gives other logits than {store.path} holds: largest difference "
            f"{check.largest_difference:.3g}, rounding explains {check.tolerance:.3g}; same class in "
            f"{check.agreement:.1%} of the views: cache them again"
        )
    return check


def _check_header(teacher: ImageModel, store: LogitStore, dataset: Dataset, view_spec: ViewSpec) -> None:
    """Compare what the store says of its teacher with the one at hand."""
    expected = describe_logits(
        teacher, dataset, views=store.header.views, view_spec=view_spec, class_names=store.class_names
    )
    # A part of the data will do for a spot check, and the file's dtype is no matter of the teacher.
    found = differences(store.header, expected, but=("dataset_fingerprint", "logits_dtype"))
    if found:
        raise InputError(f"{store.path} was written by another teacher, or asked otherwise ({'; '.join(found)})")
