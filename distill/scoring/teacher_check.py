"""Check an external network on a few labelled images: do its classes and its pixels fit the labels?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from distill.data.dataset import UNLABELLED, Dataset
from distill.data.rendering import render_numpy
from distill.data.views import IDENTITY
from distill.errors import InputError
from distill.reports.diagnosis import CERTAIN, Diagnosis, diagnose, exceeds, order_text, warnings_of
from distill.runtimes.image_model import ImageModel
from distill.runtimes.input_format import PixelFormat

IMAGES = 400
"""How many labelled images are scored: enough to see a tenth more or less of them right, and it takes seconds."""

_DEFAULT: dict[str, Any] = {"range": (0.0, 255.0), "mean": (), "std": (), "order": "rgb"}
_OF_ANY_NETWORK: tuple[dict[str, Any], ...] = ({"range": (0, 255)}, {"range": (0, 1)}, {"range": (-1, 1)})
_OF_COLOR_NETWORKS: tuple[dict[str, Any], ...] = (
    {"range": (0, 1), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},  # ImageNet, torchvision
    {"order": "bgr", "mean": (103.939, 116.779, 123.68)},  # ImageNet, Caffe
    *({**each, "order": "bgr"} for each in _OF_ANY_NETWORK),
)
_PER_CALL = 64


@dataclass(frozen=True)
class TeacherCheck:
    """How a network does on a few labelled images."""

    diagnosis: Diagnosis
    """Of its answers, described as it is."""
    better_input: str | None = None
    """The `--input` flags under which it is far more often right, if any."""
    with_better_input: Diagnosis | None = None
    """Of its answers under these."""
    of_this_project: bool = False
    """Whether it is a network of this project, whose pixels are known."""

    def warnings(self, *, prefix: str = "") -> list[str]:
        """Return what to report to the user, a sentence each; `prefix` is what the network's flags begin with."""
        better = self.with_better_input
        if better is None:
            return warnings_of(self.diagnosis, prefix=prefix, of_this_project=self.of_this_project)
        order = "" if better.better_order is None else f" {order_text(better.better_order)}"
        flags = f"{self.better_input}{order}".replace("--", f"--{prefix}")
        return [
            f"other pixels fit far better: {better.fit:.1%} instead of {self.diagnosis.fit:.1%} of {better.images:,} "
            f"labelled images with {flags}"
        ]


def check_teacher(network: ImageModel, dataset: Dataset, *, images: int = IMAGES) -> TeacherCheck:
    """Compare a network's predictions for some labelled images, untouched, with their labels.

    Where its pixels are 0..255, which they are when nobody described them, or where its accuracy is near chance, the
    usual other input formats are tried as well. Nothing is changed.

    Args:
        network: with `class_names`; of a network of this project, whose `input_format` is empty, only the classes are
            checked.
        dataset: whose labels are found among `class_names` by their names.
        images: the most that are scored.
    """
    labels = dataset.labels_among(network.class_names)
    rows = np.flatnonzero(labels != UNLABELLED)
    if not len(rows):
        return TeacherCheck(Diagnosis(images=0))
    rows = rows[np.linspace(0, len(rows) - 1, min(images, len(rows))).round().astype(int)]  # from all over the data
    pixels = render_numpy(dataset.read(rows), np.tile(IDENTITY, (len(rows), 1)), image_shape=network.input_shape)
    found, right = _diagnosed(network, pixels, labels[rows])
    own = _format_of(network)
    if own is None:
        return TeacherCheck(found, of_this_project=True)
    if not (found.near_chance or _is_default(own)):
        return TeacherCheck(found)
    tried = _tried(network, pixels, labels[rows], own, grey=dataset.image_shape[-1] == 1)
    flags, better, better_right = max(tried, key=lambda each: each[2].sum(), default=("", found, right))
    fits = not better.near_chance or better.better_order is not None
    if not fits or exceeds(better_right, right) < CERTAIN:
        return TeacherCheck(found)
    return TeacherCheck(found, flags, better)


def seen_as(pixels: np.ndarray, wanted: PixelFormat, own: PixelFormat) -> np.ndarray:
    """Return pixels that a network, which puts them into its `own` format, sees as `pixels` in the `wanted` one.

    Args:
        pixels: float32 0..255 [B, h, w, c].
        wanted: of as many channels as `own`.

    Returns:
        float32 [B, h, w, c], of any range.
    """
    (scale, offset), (own_scale, own_offset) = (np.array(each.scale_and_offset()) for each in (wanted, own))
    seen = (pixels[..., ::-1] if wanted.order == "bgr" else pixels) * scale + offset
    given = (seen - own_offset) / own_scale
    return np.ascontiguousarray(given[..., ::-1] if own.order == "bgr" else given, np.float32)


def _tried(
    network: ImageModel, pixels: np.ndarray, labels: np.ndarray, own: PixelFormat, *, grey: bool
) -> list[tuple[str, Diagnosis, np.ndarray]]:
    """Return the flags of each usual format with the result of `_diagnosed`."""
    usual = _OF_ANY_NETWORK if own.channels == 1 else (*_OF_ANY_NETWORK, *_OF_COLOR_NETWORKS)
    tried = []
    for settings in usual:
        if grey and settings.keys() == {"range", "order"}:  # grey images look the same in both orders
            continue
        wanted = replace(own, **{**_DEFAULT, **settings})
        try:
            tried.append((_flags(settings), *_diagnosed(network, seen_as(pixels, wanted, own), labels)))
        except InputError:  # such pixels it does not take
            continue
    return tried


def _diagnosed(network: ImageModel, pixels: np.ndarray, labels: np.ndarray) -> tuple[Diagnosis, np.ndarray]:
    """Return the diagnosis, and which images are right in the order that fits: bool [N]."""
    parts = [network.predict(pixels[start : start + _PER_CALL]) for start in range(0, len(pixels), _PER_CALL)]
    logits, names = np.concatenate(parts), network.class_names
    found = diagnose(logits, labels, names)
    order = np.array([names.index(name) for name in found.better_order or names])
    return found, order[logits.argmax(axis=1)] == labels


def _flags(settings: Mapping[str, str | Sequence[float]]) -> str:
    texts = {
        name: value if isinstance(value, str) else " ".join(f"{number:g}" for number in value)
        for name, value in settings.items()
    }
    return " ".join(f"--input.{name} {text}" for name, text in texts.items())


def _format_of(network: ImageModel) -> PixelFormat | None:
    """Return what becomes of the pixels that an external network is given; None of one of this project."""
    if not network.input_format:
        return None
    given = network.input_format.items()
    values: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in given}
    return PixelFormat(**values)


def _is_default(own: PixelFormat) -> bool:
    return {name: getattr(own, name) for name in _DEFAULT} == _DEFAULT
