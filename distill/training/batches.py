"""Batches: the same view of an image for the student and, from the cache, of its teacher."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from distill.data.dataset import UNLABELLED, Dataset
from distill.data.rendering import render
from distill.data.views import PARAMETERS, ViewSpec
from distill.errors import InputError


class Batch(NamedTuple):
    """What one training step sees. It holds no teacher, so a step can neither train nor swap one."""

    images: tf.Tensor
    """float32 [B, height, width, channels], 0..255, at the student's own size."""
    label_probs: tf.Tensor
    """float32 [B, C]; a row of zeros is an unlabelled example."""
    teacher_logits: tf.Tensor
    """float32 [B, C], raw, of the very view in `images`; [B, 0] when training from labels alone."""
    sample_weights: tf.Tensor
    """float32 [B]."""


class ViewBatches:
    """The training batches of every epoch: shuffled, each image in its next view.

    Args:
        dataset: images to train on.
        image_shape: height, width, channels that the student takes.
        view_spec: how views are drawn. It must be the one that `teacher_logits` were cached with, since
            an augmentation that the teacher never scored would be taught the wrong answer.
        teacher_logits: float32 [N, V, C] of `dataset` in its order, or None for labels alone.
        views: V, the number of views that epochs go through in turn; None draws a new view in every
            epoch, which only labels can teach.
        batch_size: examples in a batch; the last one of an epoch may be shorter.
        seed: order of the images, and the view that each of them begins with.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        image_shape: tuple[int, int, int],
        view_spec: ViewSpec,
        teacher_logits: np.ndarray | None = None,
        views: int | None = None,
        batch_size: int = 64,
        seed: int = 0,
    ):
        if teacher_logits is not None and teacher_logits.shape[:2] != (len(dataset), views):
            raise ValueError(
                f"teacher_logits must be [{len(dataset)}, {views}, C]. Received: shape={teacher_logits.shape}"
            )
        if batch_size < 1:
            raise InputError(f"batch size must be at least 1, received {batch_size}")
        self.dataset = dataset
        self.image_shape = image_shape
        self.view_spec = view_spec
        self.teacher_logits = teacher_logits
        self.views = views
        self.batch_size = batch_size
        self.seed = seed
        self.label_probs = label_probabilities(dataset)
        self.sample_weights = np.ones(len(dataset), np.float32)
        self._first_view = np.random.default_rng([seed, 1]).integers(0, views or 1, len(dataset))

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.dataset) // self.batch_size)

    def views_of_epoch(self, epoch: int) -> np.ndarray:
        """int64 [N]: the view of each image in `epoch`, counted from 0."""
        if self.views is None:
            return np.full(len(self.dataset), epoch + 1)
        return (self._first_view + epoch) % self.views

    def epoch(self, epoch: int) -> tf.data.Dataset:
        """Return the batches of one epoch, the same at every call: a `tf.data.Dataset` of `Batch`."""
        classes = self.dataset.num_classes
        teacher_classes = 0 if self.teacher_logits is None else classes
        signature = (
            tf.TensorSpec([None, *self.dataset.image_shape], tf.uint8),
            tf.TensorSpec([None, len(PARAMETERS)], tf.float32),
            tf.TensorSpec([None, classes], tf.float32),
            tf.TensorSpec([None, teacher_classes], tf.float32),
            tf.TensorSpec([None], tf.float32),
        )
        rows = tf.data.Dataset.from_generator(lambda: self._rows(epoch), output_signature=signature)
        return rows.map(self._render).prefetch(2)

    def _rows(self, epoch: int) -> Iterator[tuple[np.ndarray, ...]]:
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.dataset))
        views = self.views_of_epoch(epoch)
        for start in range(0, len(order), self.batch_size):
            picked = order[start : start + self.batch_size]
            if self.teacher_logits is None:
                teacher_logits = np.empty((len(picked), 0), np.float32)
            else:
                teacher_logits = self.teacher_logits[picked, views[picked]]
            yield (
                self.dataset.read(picked),
                self.view_spec.parameters(self.dataset.ids[picked], views[picked]),
                self.label_probs[picked],
                teacher_logits,
                self.sample_weights[picked],
            )

    def _render(self, images_uint8, parameters, label_probs, teacher_logits, sample_weights) -> Batch:
        images = render(images_uint8, parameters, image_shape=self.image_shape)
        return Batch(images, label_probs, teacher_logits, sample_weights)


def label_probabilities(dataset: Dataset) -> np.ndarray:
    """Return the labels as float32 [N, C]: soft labels where the data has them, else one-hot, else zeros."""
    if dataset.label_probs is not None:
        return dataset.label_probs
    one_hot = np.zeros((len(dataset), dataset.num_classes), np.float32)
    labelled = np.flatnonzero(dataset.labels != UNLABELLED)
    one_hot[labelled, dataset.labels[labelled]] = 1
    return one_hot
