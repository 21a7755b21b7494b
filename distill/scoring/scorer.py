"""Score images with a network: raw logits, and features, of any views, in inference mode."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from distill.data.dataset import Dataset
from distill.data.mixing import Mixer
from distill.data.rendering import render, render_numpy
from distill.data.view_columns import PARAMETERS
from distill.data.views import ViewSpec
from distill.quiet import without_retracing_warnings
from distill.runtimes.image_model import ImageModel
from distill.scoring.features import LayerFeature, predict_with_layers, with_layers

ScoredPart = tuple[slice, np.ndarray, dict[str, np.ndarray]]
"""Rows, their logits [rows, views, C], and their features by name, [rows, views, ...]."""


class Scorer:
    """Computes logits of a model for chosen views of chosen images.

    Args:
        model: takes pixels 0..255 at its own `input_shape`, returns logits [B, C]; a network, or whatever else
            an `ImageModel` runs.
        dataset: where the images come from.
        view_spec: how views are drawn; only view 0 is used where it is None.
        partner_ids: among which the partners of mixed views are drawn, see `Mixer`.
        batch_size: images in one call of the model, or those of all views of one image where these are more: a view
            counts once, and once more for each copy that its logits are averaged over.
        features: of its layers, to be computed in the same pass.
    """

    def __init__(
        self,
        model: keras.Model | ImageModel,
        dataset: Dataset,
        *,
        view_spec: ViewSpec | None = None,
        partner_ids: np.ndarray | None = None,
        batch_size: int = 256,
        features: Sequence[LayerFeature] = (),
    ):
        without_retracing_warnings()
        self.dataset = dataset
        self.view_spec = view_spec or ViewSpec()
        self.batch_size = batch_size
        self._mixer = Mixer(dataset, self.view_spec, partner_ids)
        self.features = tuple(features)
        self._copies = _copies_of(model)
        self._outputs = compile_outputs(model, dataset.image_shape, self.view_spec.columns, self.features)

    def score(
        self,
        indices: np.ndarray,
        views: Sequence[int] = (0,),
        on_batch: Callable[[int], None] = lambda images: None,
    ) -> np.ndarray:
        """Return float32 [len(indices), len(views), C]; every image is read once for all its views.

        `on_batch` is called with the number of images after each batch, for a progress bar.
        """
        return self.score_all(indices, views, on_batch)[0]

    def score_all(
        self,
        indices: np.ndarray,
        views: Sequence[int] = (0,),
        on_batch: Callable[[int], None] = lambda images: None,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return what `score` does, and float32 [len(indices), len(views), ...] of each feature by its name."""
        indices = np.asarray(indices)
        images_per_batch = max(1, self.batch_size // (len(views) * self._copies))
        scored = []
        for start in range(0, len(indices), images_per_batch):
            picked = indices[start : start + images_per_batch]
            repeated, repeated_views = np.repeat(picked, len(views)), np.tile(views, len(picked))
            parameters = self.view_spec.parameters(self.dataset.ids[repeated], repeated_views)
            if self._mixer.mixes:  # then every view has a picture of its own
                images = self._mixer.read(repeated, self._mixer.mixture(repeated, repeated_views))
            else:
                images = self.dataset.read(picked)
            outputs = self._outputs(images, parameters)
            scored.append([each.reshape(len(picked), len(views), *each.shape[1:]) for each in outputs])
            on_batch(len(picked))
        logits, *features = (np.concatenate(parts) for parts in zip(*scored, strict=True))
        return logits, {each.name: values for each, values in zip(self.features, features, strict=True)}

    def score_parts(
        self,
        parts: Sequence[slice],
        views: Sequence[int],
        on_batch: Callable[[int], None] = lambda images: None,
    ) -> Iterator[ScoredPart]:
        """Yield every part, a slice of rows, with what `score_all` returns for it."""
        for rows in parts:
            yield rows, *self.score_all(np.arange(rows.start, rows.stop), views, on_batch)

    def score_for_evaluation(self) -> np.ndarray:
        """Return float32 [N, C]: of every image, the mean over the views that evaluate a network."""
        return self.score(np.arange(len(self.dataset)), self.view_spec.evaluation_views).mean(axis=1)


def compile_outputs(
    model: keras.Model | ImageModel,
    image_shape: tuple[int, int, int],
    columns: Sequence[str] = PARAMETERS,
    features: Sequence[LayerFeature] = (),
) -> Callable[[np.ndarray, np.ndarray], list[np.ndarray]]:
    """Return a function from B uint8 images and the parameters of V views of each to logits and features.

    They are float32 [B V, C], and [B V, ...] of each feature, and come out of one pass. The logits are the mean over
    the copies of each view that `model` says, see `ImageModel.averages`.

    Raises:
        InputError: one cannot look into this kind of model for features.
    """
    averages = _Averages(model, features)
    network = model.network if isinstance(model, ImageModel) else model
    if network is None:
        predict = predict_with_layers(model, averages.layers)

        def run(pixels: np.ndarray) -> list[np.ndarray]:
            logits, of_layers = predict(averages.shown(pixels))
            return averages([np.asarray(each, np.float32) for each in (logits, *of_layers)])

        return _with_numpy(run, model.input_shape, columns)
    tapped = with_layers(network, averages.layers) if averages.layers else network
    if keras.config.backend() == "tensorflow":
        return _in_one_graph(tapped, averages, network.input_shape[1:], image_shape, columns)

    def run_keras(pixels: np.ndarray) -> list[np.ndarray]:
        given = tapped.predict_on_batch(averages.shown(pixels))
        return averages([np.asarray(each, np.float32) for each in (given if averages.layers else [given])])

    return _with_numpy(run_keras, network.input_shape[1:], columns)


class _Averages:
    """Averages over copies of a view, and over the positions of features.

    Args:
        model: an `ImageModel` says over which copies.
        features: of which layers, and how each is averaged.
    """

    def __init__(self, model: keras.Model | ImageModel, features: Sequence[LayerFeature]):
        self.features = features
        self.layers = list(dict.fromkeys(each.layer for each in features))
        averages = model.averages if isinstance(model, ImageModel) else {}
        self.flip, shift = averages.get("flip_average", False), averages.get("shift_average", 0)
        self.moves = list(itertools.product((-shift, shift), repeat=2)) if shift else []
        self.copies = _copies_of(model)

    def shown(self, pixels: Any, ops: Any = np) -> Any:
        """Return what a network is shown for `pixels`: [copies * B, h, w, c], the first copy of all images first."""
        if self.copies == 1:
            return pixels
        copies = [pixels, *(_moved(pixels, down, right, ops) for down, right in self.moves)]
        if self.flip:
            copies += [each[:, :, ::-1] for each in copies]
        return ops.concatenate(copies)

    def __call__(self, outputs: Sequence[Any], ops: Any = np) -> list[Any]:
        """Return logits and features of the logits and the outputs of `layers`, all float32."""
        logits, *of_layers = outputs
        by_name = dict(zip(self.layers, of_layers, strict=True))
        if self.copies > 1:
            logits = ops.mean(ops.reshape(logits, (self.copies, -1, logits.shape[-1])), axis=0)
        return [logits, *(each.averaged(by_name[each.layer], ops) for each in self.features)]


def _copies_of(model: keras.Model | ImageModel) -> int:
    """Return how many images the model is shown where one is scored."""
    return model.copies if isinstance(model, ImageModel) else 1


def _moved(pixels: Any, down: int, right: int, ops: Any) -> Any:
    """Return images [B, h, w, c] moved by whole pixels, their edge repeated where nothing came from."""
    for axis, distance in ((1, down), (2, right)):
        size = pixels.shape[axis]
        pixels = ops.take(pixels, np.clip(np.arange(size) - distance, 0, size - 1), axis=axis)
    return pixels


def _in_one_graph(
    network: keras.Model,
    averages: _Averages,
    input_shape: tuple[int, int, int],
    image_shape: tuple[int, int, int],
    columns: Sequence[str],
) -> Callable[[np.ndarray, np.ndarray], list[np.ndarray]]:
    """`compile_outputs` in TensorFlow: rendering and network in one graph."""
    import tensorflow as tf

    @tf.function(
        input_signature=(
            tf.TensorSpec([None, *image_shape], tf.uint8),
            tf.TensorSpec([None, len(columns)], tf.float32),
        ),
        autograph=False,
    )
    def outputs(images_uint8, parameters):
        views = tf.shape(parameters)[0] // tf.shape(images_uint8)[0]
        repeated = tf.repeat(images_uint8, views, axis=0)
        images = render(repeated, parameters, image_shape=input_shape, columns=columns)
        given = network(averages.shown(images, keras.ops), training=False)
        given = given if averages.layers else [given]
        return averages([keras.ops.cast(each, "float32") for each in given], keras.ops)

    return lambda images, parameters: [each.numpy() for each in outputs(images, parameters)]


def _with_numpy(
    predict: Callable[[np.ndarray], list[np.ndarray]], image_shape: tuple[int, int, int], columns: Sequence[str]
) -> Callable[[np.ndarray, np.ndarray], list[np.ndarray]]:
    """`compile_outputs` for what takes rendered images, NumPy in and out."""

    def outputs(images_uint8, parameters):
        repeated = np.repeat(images_uint8, len(parameters) // len(images_uint8), axis=0)
        return predict(render_numpy(repeated, parameters, image_shape=image_shape, columns=columns))

    return outputs
