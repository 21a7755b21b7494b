"""Batches: the same view of an image for the student and for its teacher's outputs."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from keras import KerasTensor, tree

from distill.data.columns import blocks
from distill.data.dataset import Dataset
from distill.data.mixing import Mixer, mixed_labels, mixed_rows
from distill.data.rendering import render
from distill.data.view_columns import in_columns
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.losses.objective import LOGITS, Batch
from distill.refusals import check_at_least
from distill.training.labels import label_probabilities, smoothed
from distill.training.recipe import VIEW_ORDERS

Tensor: TypeAlias = KerasTensor | np.ndarray


class TeacherOutputs(Protocol):
    """The outputs of a teacher for the images of one dataset, from a cache or computed for each batch."""

    online: bool
    """Whether it is computed for every batch, which takes longer by far than a training step."""

    def __call__(
        self, picked: np.ndarray, views: np.ndarray, images_uint8: np.ndarray, parameters: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        """Return each output by its name, such as "logits" float32 [n, C].

        Args:
            picked: int [n], positions in the dataset.
            views: int [n], the view of each.
            images_uint8: [n, H, W, 1 or 3], the images themselves.
            parameters: float32 [n, len(PARAMETERS)] of their views.
        """
        ...


class CachedOutputs:
    """Outputs that were computed before: arrays [N, V, ...] by their names.

    Args:
        outputs: arrays, or what has their `shape` and gives some views of some rows when it is indexed.
    """

    online = False

    def __init__(self, **outputs: Any):
        self.outputs = outputs

    def __call__(
        self, picked: np.ndarray, views: np.ndarray, images_uint8: np.ndarray, parameters: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the rows of these views."""
        return {name: array[picked, views] for name, array in self.outputs.items()}


class Rows(NamedTuple):
    """A batch before its views are rendered, or several of them one after the other: [B, ...] or [steps, B, ...]."""

    images_uint8: Tensor
    """uint8 [B, H, W, 1 or 3], as the dataset serves them: a quarter of the bytes of float pixels, and fewer pixels
    than the student takes."""
    parameters: Tensor
    """float32 [B, len(columns)] of the `ViewBatches`: which view of each image."""
    label_probs: Tensor
    teacher: Mapping[str, Tensor]
    sample_weights: Tensor


def _whole(picked: np.ndarray) -> np.ndarray:
    return picked


class ViewBatches:
    """The training batches of every epoch: shuffled, each image in its next view or in a random one.

    Args:
        dataset: images to train on.
        image_shape: height, width, channels that the student takes.
        view_spec: how views are drawn. It must be the one that `teacher` scored, since an augmentation that the
            teacher never scored would be taught the wrong answer.
        teacher: its outputs for `dataset`; None for labels alone.
        views: V, the number of views that epochs take from; None draws a new view in every epoch, which only
            labels can teach.
        view_order: "next": every image goes through its views in turn; "random": an epoch takes any of the V, for
            each image by itself, and V epochs may omit some.
        partner_ids: among which the partners of mixed views are drawn, see `Mixer`. In the place of a view whose
            partner `dataset` lacks, the next one is taken.
        sample_weights: float32 [N], how much each image of `dataset` counts in the loss; None: all the same.
        batch_size: examples in a batch; the last one of an epoch may be shorter.
        label_smoothing: share of every label that is spread evenly over all classes.
        seed: order of the images, and the view that each of them begins with, or takes in an epoch.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        image_shape: tuple[int, int, int],
        view_spec: ViewSpec,
        teacher: TeacherOutputs | None = None,
        views: int | None = None,
        view_order: str = "next",
        partner_ids: np.ndarray | None = None,
        sample_weights: np.ndarray | None = None,
        batch_size: int = 64,
        label_smoothing: float = 0.0,
        seed: int = 0,
    ):
        for name, array in teacher.outputs.items() if isinstance(teacher, CachedOutputs) else ():
            if array.shape[:2] != (len(dataset), views):
                raise ValueError(f"{name} must be [{len(dataset)}, {views}, ...]. Received: shape={array.shape}")
        if sample_weights is not None and sample_weights.shape != (len(dataset),):
            raise ValueError(f"sample_weights must be [{len(dataset)}]. Received: shape={sample_weights.shape}")
        if view_order not in VIEW_ORDERS:
            raise ValueError(f'view_order must be one of {VIEW_ORDERS}. Received: "{view_order}"')
        if view_order == "random" and views is None:
            raise InputError(
                'the view order "random" has no views to take from, since every epoch draws new ones: '
                "omit it, or say which views there are, by --view.crops, or of students by --logits or --views"
            )
        check_at_least(1, batch_size=batch_size)
        self.dataset = dataset
        self.image_shape = image_shape
        self.view_spec = view_spec
        self.columns = view_spec.columns
        self.teacher = teacher
        self.views = views
        self.view_order = view_order
        self.batch_size = batch_size
        self.seed = seed
        self.label_smoothing = label_smoothing
        self.sample_weights = (
            np.broadcast_to(np.float32(1), len(dataset)) if sample_weights is None else sample_weights
        )
        self._mixer = Mixer(dataset, view_spec, partner_ids)
        self._first_view = self._drawn_views(1)
        self._views_of: tuple[int, np.ndarray] = (-1, self._first_view)  # of the last epoch that drew them at random

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.dataset) // self.batch_size)

    def views_of_epoch(self, epoch: int) -> np.ndarray:
        """int64 [N]: the view of each image in `epoch`, counted from 0."""
        return self._views_at(np.arange(len(self.dataset)), epoch)

    def _views_at(self, picked: np.ndarray, epoch: int) -> np.ndarray:
        if self.views is None:
            return np.full(len(picked), epoch + 1)
        if self.view_order == "next":
            return (self._first_view[picked].astype(np.int64) + epoch) % self.views
        if self._views_of[0] != epoch:
            self._views_of = epoch, self._drawn_views(2, epoch)
        return self._views_of[1][picked].astype(np.int64)

    def _drawn_views(self, *key: int) -> np.ndarray:
        """Draw a view for each image; NumPy draws the same ones in blocks as at once, of eight bytes each."""
        views, generator = self.views or 1, np.random.default_rng([self.seed, *key])
        drawn = np.empty(len(self.dataset), np.min_scalar_type(views))
        for rows in blocks(len(drawn)):
            drawn[rows] = generator.integers(0, views, rows.stop - rows.start)
        return drawn

    def order(self, epoch: int) -> list[np.ndarray]:
        """Return the positions of the images in each batch of `epoch`, the same at every call."""
        shuffled = np.arange(len(self.dataset), dtype=np.min_scalar_type(len(self.dataset)))
        np.random.default_rng([self.seed, 0, epoch]).shuffle(shuffled)  # what `permutation` gives, in fewer bytes
        starts = range(0, len(shuffled), self.batch_size)
        return [shuffled[start : start + self.batch_size] for start in starts]

    def epoch(self, epoch: int) -> Iterator[Rows]:
        """Yield the batches of `epoch`, the same at every call."""
        for picked in self.order(epoch):
            yield self.rows(picked, epoch)

    @property
    def images(self) -> int:
        """How many images an epoch goes through."""
        return len(self.dataset)

    @property
    def online(self) -> bool:
        """Whether a teacher computes its outputs for every batch."""
        return self.teacher is not None and self.teacher.online

    def teacher_sample(self) -> Mapping[str, np.ndarray]:
        """Return the teacher's outputs for one image, each [1, ...]: their names and shapes."""
        return self.rows(np.zeros(1, np.int64), epoch=0).teacher

    @property
    def bytes_per_image(self) -> int:
        """Of the pixels and the features that are read for one."""
        outputs = self.teacher.outputs if isinstance(self.teacher, CachedOutputs) else {}
        features = sum(4 * math.prod(each.shape[2:]) for name, each in outputs.items() if name != LOGITS)
        return math.prod(self.dataset.image_shape) + features

    @property
    def smallest_batch(self) -> int:
        """How many images the shortest batch holds, the last one of an epoch."""
        return len(self.dataset) % self.batch_size or self.batch_size

    def blocks(self, epoch: int, *, steps: int, part: Callable[[np.ndarray], np.ndarray] = _whole) -> Iterator[Rows]:
        """Yield the batches of `epoch`, up to `steps` at a time as one `Rows`; a short last batch comes alone.

        Args:
            part: what to take of the positions in some batches, [steps, B].
        """
        turns = [(self, picked) for picked in self.order(epoch)]
        return _blocks(turns, epoch, steps=steps, part=part, columns=self.columns)

    def block(self, picked: np.ndarray, epoch: int) -> Rows:
        """Return the images at `picked`, [steps, B], as several batches in one."""
        rows = self.rows(picked.ravel().astype(np.int64), epoch)
        return tree.map_structure(lambda column: column.reshape(*picked.shape, *column.shape[1:]), rows)

    def rows(self, picked: np.ndarray, epoch: int) -> Rows:
        """Return the images at `picked`, in the views they have in `epoch`."""
        views = self._views_at(picked, epoch)
        views = self._mixer.permitted(picked, views, self.views or 1)
        mixture = self._mixer.mixture(picked, views)
        images = self._mixer.read(picked, mixture)
        parameters = self.view_spec.parameters(self.dataset.ids[picked], views)
        teacher = {} if self.teacher is None else self.teacher(picked, views, images, parameters)
        label_probs = mixed_labels(self._labels_at(picked), self._labels_at(mixture.partners), mixture.share)
        weights = mixed_rows(self.sample_weights[picked], self.sample_weights[mixture.partners], mixture.share)
        return Rows(images, parameters, label_probs, teacher, weights)

    def _labels_at(self, picked: np.ndarray) -> np.ndarray:
        """Return float32 [n, C]: the labels to learn from of the images at `picked`."""
        return smoothed(label_probabilities(self.dataset, picked), self.label_smoothing)

    def render(self, rows: Rows) -> Batch:
        """Draw the views of a batch."""
        images = render(rows.images_uint8, rows.parameters, image_shape=self.image_shape, columns=self.columns)
        return Batch(images, rows.label_probs, rows.teacher, rows.sample_weights)


class JointBatches:
    """The training batches of several datasets in one run: each is of one of them, and they take turns at random.

    Args:
        sources: of one batch size. The first one has the labels that the run is evaluated by, and prescribes the
            views for that.
    """

    def __init__(self, sources: Sequence[ViewBatches]):
        self.sources = tuple(sources)
        first = self.sources[0]
        self.dataset, self.view_spec, self.views = first.dataset, first.view_spec, first.views
        self.columns = tuple(dict.fromkeys(column for source in self.sources for column in source.columns))
        self.batch_size, self.seed = first.batch_size, first.seed
        self.images = sum(source.images for source in self.sources)
        self.online = any(source.online for source in self.sources)
        self.bytes_per_image = max(source.bytes_per_image for source in self.sources)
        self.smallest_batch = min(source.smallest_batch for source in self.sources)
        self.teacher_sample, self.image_shape = first.teacher_sample, first.image_shape

    def __len__(self) -> int:
        """Batches in an epoch."""
        return sum(map(len, self.sources))

    def blocks(self, epoch: int, *, steps: int, part: Callable[[np.ndarray], np.ndarray] = _whole) -> Iterator[Rows]:
        """Yield the batches of `epoch`, as `ViewBatches.blocks` does; those in a block are of one dataset."""
        orders = [iter(source.order(epoch)) for source in self.sources]
        turns = np.repeat(np.arange(len(orders)), [len(source) for source in self.sources])
        turns = np.random.default_rng([self.seed, 3, epoch]).permutation(turns)
        blocks = [(self.sources[turn], next(orders[turn])) for turn in turns]
        return _blocks(blocks, epoch, steps=steps, part=part, columns=self.columns)


def _blocks(
    turns: Sequence[tuple[ViewBatches, np.ndarray]],
    epoch: int,
    *,
    steps: int,
    part: Callable[[np.ndarray], np.ndarray],
    columns: Sequence[str],
) -> Iterator[Rows]:
    """Yield batches, each of a source and the positions in it; neighbours of one source and size go together.

    Args:
        columns: of the parameters in all of them, whatever source they are of.
    """
    for (source, _), group in groupby(turns, key=lambda turn: (turn[0], len(turn[1]))):
        order = [picked for _, picked in group]
        for start in range(0, len(order), steps):
            rows = source.block(part(np.stack(order[start : start + steps])), epoch)
            yield rows._replace(parameters=in_columns(rows.parameters, source.columns, columns))
