"""Mixed pictures: views in which an image is blended with another one (mixup), or shows a part of it (CutMix).

Which image, and how much of it, is drawn from the keyed bits that draw the rest of a view. Pixels are mixed as the
dataset serves them, before anything else happens to a view, so that a teacher is asked about exactly the picture
that the student sees. Partners are drawn among all images of the dataset, whatever its splits: a run takes those
views alone whose partners it may learn from.

Sources: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", https://arxiv.org/abs/1710.09412; Yun et al.
2019, "CutMix", https://arxiv.org/abs/1905.04899, eq. 1 and 2; both with shares from Beta(1, 1), which is even. Beyer
et al. 2022, "Knowledge distillation: A good teacher is patient and consistent", https://arxiv.org/abs/2106.05237, for
teachers that are asked about mixed pictures.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from distill.data.columns import TextIndex, encoded, text_column
from distill.data.dataset import Dataset
from distill.data.operations import uniform_draws
from distill.data.views import ViewSpec
from distill.errors import InputError

_ONE = 1 << 16  # shares are whole numbers of it, so that every machine mixes the same pixels
_OF_MIXING = "\0mixing"  # no operation from outside can have this name
_DRAWS = 5  # kind, partner, share, column and row of the centre of what is cut out


class Mixture(NamedTuple):
    """How the images of a batch are mixed."""

    partners: np.ndarray
    """int64 [n]: position of each image's partner, the image itself where it is not mixed, -1 where the dataset
    lacks the partner."""
    share: np.ndarray
    """float32 [n]: how much of the picture is the image's own, 0..1; the rest is its partner's."""
    pasted: np.ndarray
    """int64 [n, 4]: left, top, right and bottom edge of what CutMix takes from the partner, pixels; zeros without."""

    @property
    def blended(self) -> np.ndarray:
        """bool [n]: the pictures of mixup."""
        return (self.share < 1) & ~self.pasted.any(axis=1)


class Mixer:
    """Reads the images of a dataset as the views of a specification mix them.

    Args:
        dataset: the images.
        view_spec: with its shares of `mixup` and `cutmix`.
        partner_ids: str [P], among which partners are drawn, in any order; by default those of `dataset`. Where
            cached logits prescribe the views, these are the ids in their store.
    """

    def __init__(self, dataset: Dataset, view_spec: ViewSpec, partner_ids: np.ndarray | None = None):
        self.dataset = dataset
        self.view_spec = view_spec
        self.mixes = view_spec.mixes
        self._positions = _positions(dataset.ids, partner_ids) if self.mixes else None

    def mixture(self, picked: np.ndarray, views: Sequence[int] | np.ndarray) -> Mixture:
        """Return how view `views[i]` of the image at `picked[i]` is mixed."""
        picked = np.asarray(picked, np.int64)
        partners, share, pasted = (
            picked.copy(),
            np.ones(len(picked), np.float32),
            np.zeros((len(picked), 4), np.int64),
        )
        if self._positions is None:
            return Mixture(partners, share, pasted)
        spec = self.view_spec
        drawn = uniform_draws(spec.seed, self.dataset.ids[picked], views, draws=_DRAWS, of=_OF_MIXING)
        chosen = np.asarray(views) > 0
        blended = chosen & (drawn[:, 0] < spec.mixup)
        cut = chosen & ~blended & (drawn[:, 0] < spec.mixup + spec.cutmix)
        mixed = blended | cut
        partners[mixed] = self._positions[(drawn[mixed, 1] * len(self._positions)).astype(np.int64)]
        share[blended] = np.rint(drawn[blended, 2] * _ONE) / _ONE
        height, width, _ = self.dataset.image_shape
        pasted[cut] = _boxes(drawn[cut, 2], drawn[cut, 3:5], width=width, height=height)
        left, top, right, bottom = pasted[cut].T
        share[cut] = 1 - (right - left) * (bottom - top) / (width * height)
        return Mixture(partners, share, pasted)

    def read(self, picked: np.ndarray, mixture: Mixture) -> np.ndarray:
        """Return uint8 [n, height, width, channels]: the images at `picked`, mixed.

        Raises:
            InputError: the dataset lacks a partner.
        """
        images = self.dataset.read(picked)
        changed = np.flatnonzero(mixture.share < 1)
        if not changed.size:
            return images
        if (mixture.partners[changed] < 0).any():
            raise InputError(
                f"views are mixed with images that {self.dataset.name} lacks here: give all images that the logits "
                "were cached for"
            )
        images = np.array(images)
        partners = self.dataset.read(mixture.partners[changed])
        for partner, row in zip(partners, changed, strict=True):
            left, top, right, bottom = mixture.pasted[row]
            images[row, top:bottom, left:right] = partner[top:bottom, left:right]
        rows = np.flatnonzero(mixture.blended)
        of_partners = partners[mixture.blended[changed]]
        weight = np.rint(mixture.share[rows] * _ONE).astype(np.uint32)[:, None, None, None]
        images[rows] = (images[rows] * weight + of_partners * (_ONE - weight) + _ONE // 2) // _ONE
        return images

    def permitted(self, picked: np.ndarray, views: np.ndarray, count: int) -> np.ndarray:
        """Return `views`, int [n]; in the place of one whose partner is not there, the next one of `count` that is.

        The untouched image, view 0, is always there.
        """
        views = np.array(views)
        waiting = np.arange(len(views)) if self.mixes else np.empty(0, np.int64)
        while waiting.size:
            waiting = waiting[self.mixture(picked[waiting], views[waiting]).partners < 0]
            views[waiting] = (views[waiting] + 1) % count
        return views


def mixed_rows(own: np.ndarray, partners: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return numbers of a batch, float32 [n] or [n, C], of which a partner's count, too, but for `share`, [n]."""
    share = share.reshape(-1, *[1] * (own.ndim - 1))
    return (share * own + (1 - share) * partners).astype(np.float32)


def mixed_labels(own: np.ndarray, partners: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the labels of a batch, float32 [n, C]: zeros where the image or its partner has none."""
    both = np.logical_and(own.any(axis=1), partners.any(axis=1))
    return np.where(both[:, None], mixed_rows(own, partners, share), np.float32(0))


def _positions(ids: np.ndarray, partner_ids: np.ndarray | None) -> np.ndarray:
    """int64 [P]: where in `ids` each partner stands, in the order of their ids, so that no other order matters."""
    if partner_ids is None:
        return np.argsort(ids, kind="stable")
    return TextIndex(ids).find(encoded(np.sort(text_column(partner_ids, what="sample id", of="the partners"))))


def _boxes(own_share: np.ndarray, centre: np.ndarray, *, width: int, height: int) -> np.ndarray:
    """int64 [n, 4] as `Mixture.pasted`: eq. 2 of CutMix, cut off at the edges, in whole pixels."""
    side = np.sqrt(1 - own_share)
    edges = []
    for middle, extent in zip(centre.T, (width, height), strict=True):
        edges.append([np.rint(np.clip(middle + sign * side / 2, 0, 1) * extent) for sign in (-1, 1)])
    (left, right), (top, bottom) = edges
    return np.stack([left, top, right, bottom], axis=1).astype(np.int64)
