"""Score images with a network: raw logits of any views, in inference mode."""

from collections.abc import Callable, Sequence

import keras
import numpy as np

from distill.data.dataset import Dataset
from distill.data.mixing import Mixer
from distill.data.rendering import render, render_numpy
from distill.data.view_columns import PARAMETERS
from distill.data.views import ViewSpec
from distill.quiet import without_retracing_warnings
from distill.runtimes.image_model import ImageModel


class Scorer:
    """Computes logits of a model for chosen views of chosen images.

    Args:
        model: takes pixels 0..255 at its own `input_shape`, returns logits [B, C]; a network, or whatever else
            an `ImageModel` runs.
        dataset: where the images come from.
        view_spec: how views are drawn; only view 0 is used where it is None.
        partner_ids: among which the partners of mixed views are drawn, see `Mixer`.
        batch_size: rendered views in one call of the model.
    """

    def __init__(
        self,
        model: keras.Model | ImageModel,
        dataset: Dataset,
        *,
        view_spec: ViewSpec | None = None,
        partner_ids: np.ndarray | None = None,
        batch_size: int = 256,
    ):
        without_retracing_warnings()
        self.dataset = dataset
        self.view_spec = view_spec or ViewSpec()
        self.batch_size = batch_size
        self._mixer = Mixer(dataset, self.view_spec, partner_ids)
        self._logits = compile_scoring(model, dataset.image_shape, self.view_spec.columns)

    def score(
        self,
        indices: np.ndarray,
        views: Sequence[int] = (0,),
        on_batch: Callable[[int], None] = lambda images: None,
    ) -> np.ndarray:
        """Return float32 [len(indices), len(views), C]; every image is read once for all its views.

        `on_batch` is called with the number of images after each batch, for a progress bar.
        """
        indices = np.asarray(indices)
        images_per_batch = max(1, self.batch_size // len(views))
        scored = []
        for start in range(0, len(indices), images_per_batch):
            picked = indices[start : start + images_per_batch]
            repeated, repeated_views = np.repeat(picked, len(views)), np.tile(views, len(picked))
            parameters = self.view_spec.parameters(self.dataset.ids[repeated], repeated_views)
            if self._mixer.mixes:  # then every view has a picture of its own
                images = self._mixer.read(repeated, self._mixer.mixture(repeated, repeated_views))
            else:
                images = self.dataset.read(picked)
            logits = self._logits(images, parameters)
            scored.append(logits.reshape(len(picked), len(views), -1))
            on_batch(len(picked))
        return np.concatenate(scored)

    def score_for_evaluation(self) -> np.ndarray:
        """Return float32 [N, C]: of every image, the mean over the views that evaluate a network."""
        return self.score(np.arange(len(self.dataset)), self.view_spec.evaluation_views).mean(axis=1)


def compile_scoring(
    model: keras.Model | ImageModel, image_shape: tuple[int, int, int], columns: Sequence[str] = PARAMETERS
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function from B uint8 images and the parameters of V views of each to float32 logits [B V, C]."""
    if isinstance(model, ImageModel):
        if model.network is None:
            return _with_numpy(model.predict, model.input_shape, columns)
        model = model.network
    shape = model.input_shape[1:]
    if keras.config.backend() != "tensorflow":
        return _with_numpy(model.predict_on_batch, shape, columns)
    import tensorflow as tf  # rendering and network in one graph

    @tf.function(
        input_signature=(
            tf.TensorSpec([None, *image_shape], tf.uint8),
            tf.TensorSpec([None, len(columns)], tf.float32),
        ),
        autograph=False,
    )
    def logits(images_uint8, parameters):
        views = tf.shape(parameters)[0] // tf.shape(images_uint8)[0]
        repeated = tf.repeat(images_uint8, views, axis=0)
        images = render(repeated, parameters, image_shape=shape, columns=columns)
        return tf.cast(model(images, training=False), tf.float32)

    return lambda images, parameters: logits(images, parameters).numpy()


def _with_numpy(
    predict: Callable[[np.ndarray], np.ndarray], image_shape: tuple[int, int, int], columns: Sequence[str]
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """`compile_scoring` for what takes rendered images, NumPy in and out."""

    def logits(images_uint8, parameters):
        repeated = np.repeat(images_uint8, len(parameters) // len(images_uint8), axis=0)
        images = render_numpy(repeated, parameters, image_shape=image_shape, columns=columns)
        return np.asarray(predict(images), np.float32)

    return logits
