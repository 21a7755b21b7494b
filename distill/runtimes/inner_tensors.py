"""What lies within a network of any runtime: its tensors, read in the same pass as its logits."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from distill.runtimes.image_model import InnerOutputs
from distill.runtimes.softmax import Predict

Run = Callable[[np.ndarray], list[np.ndarray]]
"""From what the network takes to all its outputs."""

TO_CHANNELS_LAST, TO_CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


class Made(NamedTuple):
    """How a tensor of a graph was made."""

    channels_first: bool | None
    """Whether what made it says that its channels come first; None: it keeps the order that it finds."""
    source: str | None
    """The first of the tensors that it is made of, if any."""


def inner_outputs(
    tensors: Callable[[], Mapping[str, Made]],
    read: Callable[[Sequence[str]], Run],
    as_logits: Callable[[Predict], Predict],
    *,
    names: Callable[[], Sequence[str]],
    batch: int | None,
    probe: Callable[[int], np.ndarray],
    channels_first: bool,
) -> InnerOutputs:
    """Return what can be read of a graph of tensors.

    Args:
        tensors: how they were made, by their names.
        read: makes the network give its output, and then those tensors.
        as_logits: from a function from pixels in the network's format to its output, to one from pixels to logits.
        names: those that are floats, or stand for them.
        batch: how many images it takes at a time; None: any number.
        probe: so many images, in its format.
        channels_first: how the pixels that it takes lie.
    """

    def channels_last(values: np.ndarray, name: str) -> np.ndarray:
        if values.ndim == 4 and _is_channels_first(name, tensors(), of_input=channels_first):
            return values.transpose(TO_CHANNELS_LAST)
        return values

    @cache
    def shapes() -> Mapping[str, tuple[int, ...]]:
        images = batch or 2
        found = read(names())(probe(images))[1:]
        return {
            name: channels_last(values, name).shape[1:]
            for name, values in zip(names(), found, strict=True)
            if values.ndim > 1 and len(values) == images
        }

    def predict(wanted: Sequence[str]) -> Callable[[np.ndarray], tuple[np.ndarray, Sequence[np.ndarray]]]:
        run = read(wanted)
        seen: list[np.ndarray] = []  # what comes with the output that `logits` is made of

        def output(pixels: np.ndarray) -> np.ndarray:
            first, *seen[:] = _in_batches_of(batch, run, pixels)
            return first

        logits = as_logits(output)

        def both(images: np.ndarray) -> tuple[np.ndarray, Sequence[np.ndarray]]:
            made = logits(images)
            return made, [
                channels_last(values, name).astype(np.float32) for name, values in zip(wanted, seen, strict=True)
            ]

        return both

    return InnerOutputs(shapes, predict)


def _in_batches_of(count: int | None, run: Run, pixels: np.ndarray) -> list[np.ndarray]:
    if count is None:
        return run(pixels)
    padded = np.concatenate([pixels, np.zeros((-len(pixels) % count, *pixels.shape[1:]), pixels.dtype)])
    parts = [run(padded[start : start + count]) for start in range(0, len(padded), count)]
    return [np.concatenate(each)[: len(pixels)] for each in zip(*parts, strict=True)]


def _is_channels_first(name: str, tensors: Mapping[str, Made], *, of_input: bool) -> bool:
    """Whether [B, C, H, W] it is: as the last one before that says so, or else as the pixels are."""
    at: str | None = name
    for _ in tensors:  # a damaged graph may go round in a circle
        made = None if at is None else tensors.get(at)
        if made is None:
            return of_input
        if made.channels_first is not None:
            return made.channels_first
        at = made.source
    return of_input
