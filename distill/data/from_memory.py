"""Datasets from what a program holds: arrays, or a pipeline of `tf.data`."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from distill.data import arrays
from distill.data.columns import Names, count_distinct, text_column
from distill.data.dataset import SPLITS, UNLABELLED, ArrayImages, Dataset
from distill.errors import InputError

_IMAGES, _LABELS, _PIPELINE = "the array of images", "the array of labels", "the tf.data.Dataset"
_INFINITE = -1  # tf.data's cardinality of what repeats


def from_arrays(
    images: Any,
    labels: Any = None,
    *,
    class_names: Sequence[str] | None = None,
    splits: str | Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    pixel_range: tuple[float, float] | None = None,
    name: str = "arrays",
) -> Dataset:
    """See `Dataset.from_arrays`."""
    pixels = arrays.checked_images(np.asanyarray(images), source=_IMAGES, pixel_range=pixel_range)
    numbers, probs, names = _labels(labels, class_names, count=len(pixels))
    return Dataset(
        name=name,
        ids=_ids(ids, count=len(pixels), name=name),
        labels=numbers,
        class_names=names,
        images=ArrayImages(pixels),
        splits=_splits(splits, count=len(pixels)),
        label_probs=probs,
    )


def from_tf_data(
    data: Any,
    *,
    class_names: Sequence[str] | None = None,
    splits: str | Sequence[str] | None = None,
    pixel_range: tuple[float, float] | None = None,
    name: str = "tf.data",
) -> Dataset:
    """See `Dataset.from_tf_data`."""
    if isinstance(data, Mapping) and (splits is not None or not data):
        raise InputError("a mapping is of split -> tf.data.Dataset, and names the splits itself: omit splits")
    pipelines = data if isinstance(data, Mapping) else {"": data}
    if isinstance(data, Mapping):
        _splits(list(data), count=len(data))  # before anything is read
    parts = {split: _read(pipeline, pixel_range) for split, pipeline in pipelines.items()}
    shapes = {part.images.shape[1:] for part in parts.values()}
    if len(shapes) > 1 or len({part.labels is None for part in parts.values()}) > 1:
        raise InputError(f"the splits differ in shape ({', '.join(map(str, shapes))}), or only some have labels")
    names = class_names if class_names is not None else _own_class_names(pipelines)
    images, labels = zip(*parts.values(), strict=True)
    counts = {split: len(part.images) for split, part in parts.items()}
    return from_arrays(
        np.concatenate(images) if len(images) > 1 else images[0],
        None if labels[0] is None else np.concatenate(labels),
        class_names=names,
        splits=[split for split, count in counts.items() for _ in range(count)] if "" not in counts else splits,
        ids=[f"{split or 'row'}/{row:05d}" for split, count in counts.items() for row in range(count)],
        name=name,
    )


class _Read(NamedTuple):
    """All of a pipeline: uint8 [N, H, W, 1 or 3], and labels [N] or [N, C] or none."""

    images: np.ndarray
    labels: np.ndarray | None


def _read(pipeline: Any, pixel_range: tuple[float, float] | None) -> _Read:
    if not hasattr(pipeline, "as_numpy_iterator"):
        raise InputError(f"expected a tf.data.Dataset, received {type(pipeline).__name__}")
    if int(pipeline.cardinality()) == _INFINITE:
        raise InputError("the tf.data.Dataset has no end: omit its repeat(), or end it with take(count)")
    pixels, labels, shape = bytearray(), [], None
    for element in pipeline.as_numpy_iterator():
        image, label = _pair(element)
        single = image.ndim == 3
        batch = arrays.checked_images(image[None] if single else image, source=_PIPELINE, pixel_range=pixel_range)
        shape = shape or batch.shape[1:]
        if batch.shape[1:] != shape:
            raise InputError(f"{_PIPELINE} has images of {shape} and {batch.shape[1:]}: resize them with map()")
        pixels += batch.tobytes()
        if label is not None:
            labels.append(np.asarray(label)[None] if single else np.asarray(label))
    if shape is None:
        raise InputError(f"{_PIPELINE} is empty: expected images, or pairs of an image and its label")
    return _Read(np.frombuffer(pixels, np.uint8).reshape(-1, *shape), np.concatenate(labels) if labels else None)


def _pair(element: Any) -> tuple[np.ndarray, Any]:
    """Return images and labels of what a pipeline gives: images, (images, labels), or a dictionary of them."""
    if isinstance(element, Mapping):
        others = sorted(map(str, element.keys() - {"image"}))
        if "image" in element and others and "label" not in element:  # one of them may be the label
            raise InputError(
                f'{_PIPELINE} gives "image" and {", ".join(others)}, expected "label": rename it with map(), or give '
                'images alone, map(lambda each: each["image"])'
            )
        element = (element.get("image"), element.get("label"))
    image, label = element if isinstance(element, tuple) and len(element) == 2 else (element, None)
    if not isinstance(image, np.ndarray) or image.ndim not in (3, 4):
        raise InputError(
            f"{_PIPELINE} gives {_shown(element)}, expected images [(batch,) height, width, 1 or 3], pairs "
            'of these and labels, or dictionaries {"image": ..., "label": ...}'
        )
    return image, label


def _shown(element: Any) -> str:
    if isinstance(element, tuple):
        return f"({', '.join(map(_shown, element))})"
    return f"{list(element.shape)}" if isinstance(element, np.ndarray) else type(element).__name__


def _own_class_names(pipelines: Mapping[str, Any]) -> Sequence[str] | None:
    """Return the attribute `class_names` of pipelines, which those of Keras have."""
    own = {tuple(names) for each in pipelines.values() if (names := getattr(each, "class_names", None)) is not None}
    if len(own) > 1:
        raise InputError(f"the splits have the classes {' and '.join(map(str, own))}: give class_names")
    return next(iter(own), None)


def _labels(
    labels: Any, class_names: Sequence[str] | None, *, count: int
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Return labels, soft labels where there are such, and class names; without labels there may be none."""
    if labels is None:
        nothing = arrays.Labels(np.full(count, UNLABELLED), None, 0)
        return nothing.numbers, None, arrays.checked_class_names(class_names, nothing, source=_LABELS)
    array = np.asarray(labels)
    if array.dtype.kind == "O" and all(
        isinstance(each, Integral) and not isinstance(each, bool) for each in array.flat
    ):
        array = array.astype(np.int64)
    if array.dtype.kind in "SUO" and array.shape in ((count,), (count, 1)):
        array, class_names = arrays.named_labels(array.reshape(-1), class_names, source=_LABELS)
    known = arrays.checked_labels(array, count=count, source=_LABELS)
    return known.numbers, known.probs, arrays.checked_class_names(class_names, known, source=_LABELS)


def _ids(ids: Sequence[str] | np.ndarray | None, *, count: int, name: str) -> np.ndarray:
    """Return a column of text [count], by default of the rows' numbers."""
    if ids is None:
        ids = [f"row/{row:05d}" for row in range(count)]
    shape = np.shape(ids)
    column = text_column(ids, what="file name", of=name) if shape == (count,) else None
    if column is None or count_distinct(column) != count:
        raise InputError(f"ids must be {count} different texts, received {list(shape)}")
    return column


def _splits(splits: str | Sequence[str] | None, *, count: int) -> Any:
    """Return a column of text [count]."""
    given = np.broadcast_to(splits or "", count) if splits is None or isinstance(splits, str) else splits
    expected = f"{', '.join(SPLITS)}: one for all images, or one for each of the {count}"
    if np.shape(given) != (count,):
        raise InputError(f"splits has shape {list(np.shape(given))}, expected {expected}")
    column = Names.of(given)
    unknown = {*column.names} - {*SPLITS}
    if splits is not None and unknown:
        raise InputError(f'splits has "{min(unknown)}", expected {expected}')
    return column
