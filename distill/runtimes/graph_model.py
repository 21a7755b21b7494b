"""A network in the file of another runtime as an `ImageModel`: its logits, and tensors within it in the same pass."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill.runtimes.image_model import BEFORE_SOFTMAX, ImageModel, InnerOutputs
from distill.runtimes.input_format import CHANNELS_FIRST, PixelFormat, refusing
from distill.runtimes.softmax import TYPE_LOGITS, ToLogits, check_given, probe_images, probed
from distill.runtimes.weights import files_sha256

Run = Callable[[np.ndarray], list[np.ndarray]]
"""From images in the network's own format to all its outputs."""

TO_CHANNELS_LAST, TO_CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


class Made(NamedTuple):
    """How a tensor of a graph was made."""

    channels_first: bool | None
    """Whether what made it says that its channels come first; None: it keeps the order that it finds."""
    source: str | None
    """The first of the tensors that it is made of, if any."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """What a runtime makes of a file: how to run the network, and what lies within it."""

    run: Run
    """Gives its one output."""
    dtype: np.dtype | type = np.float32
    """Of the pixels that it takes."""
    batch: int | None
    """How many images it takes at a time; None: any number."""
    before_softmax: bool = False
    """Whether its output is known to be what a softmax, left out, would read; else its values show what it gives."""
    tensors: Callable[[], Mapping[str, Made]]
    """How the tensors within were made, by their names."""
    names: Callable[[], Sequence[str]]
    """Those that are floats, or stand for them."""
    read: Callable[[Sequence[str]], Run]
    """Makes the network give its output, and then tensors of these names."""


def graph_model(
    graph: Graph,
    pixel_format: PixelFormat,
    output_type: str,
    *,
    name: str,
    source: str,
    files: Mapping[str, Path],
    policy: str,
    class_names: Callable[[int], tuple[str, ...]] = lambda classes: (),
) -> ImageModel:
    """Return a graph that takes pixels in `pixel_format` as an `ImageModel`.

    Args:
        output_type: what the user says that it gives, one of `OUTPUT_TYPES`.
        source: the network's file, for messages.
        files: what identifies it.
        class_names: those that the file names, if they are so many.

    Raises:
        InputError: it cannot compute images in `pixel_format`; it gives neither raw logits nor probabilities, or not
            what `output_type` says.
    """
    if graph.before_softmax:
        check_given(BEFORE_SOFTMAX, output_type, source=source)
        output_type = TYPE_LOGITS

    run = in_batches_of(graph.batch, refusing(graph.run, source=source))

    def output(images: np.ndarray) -> np.ndarray:
        return run(pixel_format(images, graph.dtype))[0]

    to_logits, classes, logits_from = probed(output, pixel_format.image_shape, output_type=output_type, source=source)
    return ImageModel(
        name=name,
        input_shape=pixel_format.image_shape,
        classes=classes,
        sha256=files_sha256(files),
        numeric_policy=policy,
        logits_from=BEFORE_SOFTMAX if graph.before_softmax else logits_from,
        input_format=pixel_format.to_dict(),
        network=None,
        predict=lambda images: to_logits(output(images), len(images)),
        class_names=class_names(classes),
        inner=_inner_outputs(graph, pixel_format, to_logits, source=source),
    )


def in_batches_of(count: int | None, run: Run) -> Run:
    """Return `run` for any number of images, where it takes exactly `count` at a time (None: any number)."""
    if count is None:
        return run

    def run_all(images: np.ndarray) -> list[np.ndarray]:
        padded = np.concatenate([images, np.zeros((-len(images) % count, *images.shape[1:]), images.dtype)])
        parts = [run(padded[start : start + count]) for start in range(0, len(padded), count)]
        return [np.concatenate(each)[: len(images)] for each in zip(*parts, strict=True)]

    return run_all


def _inner_outputs(graph: Graph, pixel_format: PixelFormat, to_logits: ToLogits, *, source: str) -> InnerOutputs:
    def read(names: Sequence[str]) -> Run:
        return refusing(graph.read(names), source=source)

    def channels_last(values: np.ndarray, name: str) -> np.ndarray:
        of_input = pixel_format.layout == CHANNELS_FIRST
        if values.ndim == 4 and _is_channels_first(name, graph.tensors(), of_input=of_input):
            return values.transpose(TO_CHANNELS_LAST)
        return values

    @cache
    def shapes() -> Mapping[str, tuple[int, ...]]:
        names, images = graph.names(), probe_images(pixel_format.image_shape)
        count = graph.batch or 2
        pixels = pixel_format(np.resize(images, (count, *images.shape[1:])), graph.dtype)
        _, *tensors = read(names)(pixels)
        return {
            name: channels_last(values, name).shape[1:]
            for name, values in zip(names, tensors, strict=True)
            if values.ndim > 1 and len(values) == count
        }

    def predict(names: Sequence[str]) -> Callable[[np.ndarray], tuple[np.ndarray, Sequence[np.ndarray]]]:
        run = in_batches_of(graph.batch, read(names))

        def both(images: np.ndarray) -> tuple[np.ndarray, Sequence[np.ndarray]]:
            output, *tensors = run(pixel_format(images, graph.dtype))
            return to_logits(output, len(images)), [
                channels_last(values, name).astype(np.float32) for name, values in zip(names, tensors, strict=True)
            ]

        return both

    return InnerOutputs(shapes, predict)


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
