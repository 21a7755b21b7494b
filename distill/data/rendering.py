"""Render views into pixels: one batched operation, at each network's own size and channels, on any Keras backend."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import keras
import numpy as np
from keras import KerasTensor, ops

from distill.data.operations import OPERATIONS, STAGES, Operation
from distill.data.view_columns import PARAMETERS, operations_in

Tensor: TypeAlias = KerasTensor


class _Act(NamedTuple):
    """An operation, and its parameters of every view of a batch."""

    operation: Operation
    parameters: dict[str, Tensor]


def render(
    images_uint8: Tensor,
    parameters: Tensor,
    *,
    image_shape: tuple[int, int, int],
    columns: Sequence[str] = PARAMETERS,
    warp: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Render one view of every image.

    Rotation, zoom, shift, mirroring and the change of size are a single bilinear interpolation, so a view
    looks the same at every size. An image at least twice as large as the result is first averaged over
    whole blocks, because bilinear interpolation alone would skip pixels. Outside the image its edge
    continues.

    Args:
        images_uint8: uint8 [B, H, W, 1 or 3], a tensor of the backend or a NumPy array.
        parameters: float32 [B, len(columns)], from `ViewSpec.parameters`.
        image_shape: height, width and channels (1 or 3) of the result.
        columns: what the parameters are, `ViewSpec.columns` where it has operations from outside.
        warp: what interpolates; by default the fastest of the backend, op by op. Compiled into one loop by XLA,
            `warp_anywhere` takes a quarter of the time of `warp_tensorflow`, which XLA does not know.

    Returns:
        float32 [B, height, width, channels], values 0..255.
    """
    height, width, channels = image_shape
    pixels = ops.cast(images_uint8, "float32")
    if channels == 1 and pixels.shape[-1] == 3:
        pixels = ops.image.rgb_to_grayscale(pixels, data_format="channels_last")
    acts = _acts(parameters, columns)
    # Colour before geometry: interpolation keeps the range, and the source is mostly the smaller picture.
    pixels = _recoloured(_shrink(pixels, height, width), acts["colour"])
    transforms = _transforms(acts, source=pixels.shape[1:3], target=(height, width))
    warp = warp or (warp_tensorflow if keras.config.backend() == "tensorflow" else warp_anywhere)
    pixels = warp(pixels, transforms, height=height, width=width)
    for act in acts["rendered"]:
        pixels = _where_active(act, pixels)
    if channels == 3 and pixels.shape[-1] == 1:
        pixels = ops.repeat(pixels, 3, axis=-1)
    return pixels


def render_numpy(
    images_uint8: np.ndarray,
    parameters: np.ndarray,
    *,
    image_shape: tuple[int, int, int],
    columns: Sequence[str] = PARAMETERS,
) -> np.ndarray:
    """`render` for NumPy arrays in and out."""
    return ops.convert_to_numpy(render(images_uint8, parameters, image_shape=image_shape, columns=columns))


def warp_tensorflow(pixels: Tensor, transforms: Tensor, *, height: int, width: int) -> Tensor:
    """`warp_anywhere` as the one operation that TensorFlow has for it, several times as fast."""
    import tensorflow as tf  # here, so that the other backends do without

    return tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels,
        transforms=transforms,
        output_shape=(height, width),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def warp_anywhere(pixels: Tensor, transforms: Tensor, *, height: int, width: int) -> Tensor:
    """Interpolate each image bilinearly at affinely transformed points.

    The pixel in column x and row y of the result is read at column a x + b y + c and row d x + e y + f.
    A point outside the image is moved to the nearest one on the centres of its outermost pixels.

    Args:
        pixels: float32 [B, H, W, C].
        transforms: float32 [B, 8], rows (a, b, c, d, e, f, 0, 0).
        height, width: size of the result.

    Returns:
        float32 [B, height, width, C].
    """
    source_height, source_width, channels = pixels.shape[1:]
    a, b, c, d, e, f = (row[:, None, None] for row in ops.unstack(transforms, axis=1)[:6])
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    left, right, to_right = _neighbours(a * x + b * y + c, source_width)
    top, bottom, to_bottom = _neighbours(d * x + e * y + f, source_height)
    flat = ops.reshape(pixels, (-1, source_height * source_width, channels))

    def read(row: Tensor, column: Tensor) -> Tensor:
        index = ops.reshape(row * source_width + column, (-1, height * width, 1))
        return ops.reshape(ops.take_along_axis(flat, index, axis=1), (-1, height, width, channels))

    above = (1 - to_right) * read(top, left) + to_right * read(top, right)
    below = (1 - to_right) * read(bottom, left) + to_right * read(bottom, right)
    return (1 - to_bottom) * above + to_bottom * below


def _neighbours(positions: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels before and after each position, int32 [B, h, w], and how far it lies to the second [B, h, w, 1]."""
    positions = ops.clip(positions, 0, side - 1)
    before = ops.floor(positions)
    after = ops.minimum(before + 1, side - 1)
    return ops.cast(before, "int32"), ops.cast(after, "int32"), (positions - before)[..., None]


def _shrink(pixels: Tensor, height: int, width: int) -> Tensor:
    source_height, source_width, channels = pixels.shape[1:]
    block = min(source_height // height, source_width // width)
    if block < 2:
        return pixels
    if source_height % block == source_width % block == 0:
        # The same, faster. Keras 3.15 on JAX fails where it must derive the strides itself.
        return ops.average_pool(pixels, block, strides=block, data_format="channels_last")
    height, width = source_height // block, source_width // block
    by_row = _area_weights(source_height, height)
    # Channels lie innermost, so that each of them has its own copy of the weights.
    by_column = np.kron(_area_weights(source_width, width).T, np.eye(channels, dtype=np.float32))
    pixels = ops.matmul(by_row, ops.reshape(pixels, (-1, source_height, source_width * channels)))
    return ops.reshape(ops.matmul(pixels, by_column), (-1, height, width, channels))


def _area_weights(source: int, target: int) -> np.ndarray:
    """float32 [target, source]: the share of each source pixel in each pixel of a side scaled down."""
    edges = np.arange(target + 1) * (source / target)
    pixel = np.arange(source)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (np.maximum(overlap, 0) * (target / source)).astype(np.float32)


def _acts(parameters: Tensor, columns: Sequence[str]) -> dict[str, list[_Act]]:
    """Return what happens in each stage, in order."""
    column = dict(zip(columns, ops.unstack(ops.convert_to_tensor(parameters), axis=1), strict=True))
    acts: dict[str, list[_Act]] = {stage: [] for stage in STAGES}
    for name, own_columns in operations_in(columns).items():
        operation = OPERATIONS[name]
        own = {parameter: column[each] for parameter, each in zip(operation.parameters, own_columns, strict=True)}
        acts[operation.stage].append(_Act(operation, own))
    return acts


def _transforms(acts: dict[str, list[_Act]], *, source: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Projective transforms [B, 8] from pixel centres of the view to pixel centres of the source.

    A point of the view, measured in source pixels from the centre, goes back through shift, rotation,
    zoom and mirror, the reverse of the order in which a view is made.
    """
    (source_height, source_width), (height, width) = source, target
    step_x, step_y = source_width / width, source_height / height
    # First pixel centre of the view, relative to the shifted centre of the face.
    start_x, start_y = (step_x - source_width) / 2, (step_y - source_height) / 2
    for shift in acts["shift"]:
        right, down = shift.operation(shift.parameters)
        start_x, start_y = start_x - right * source_width, start_y - down * source_height
    # Where a step to the right and one downwards lead to in the source.
    right_step, down_step = (1.0, 0.0), (0.0, 1.0)
    for act in reversed(acts["geometry"]):
        right_step, down_step = (act.operation(*step, act.parameters) for step in (right_step, down_step))
    rows = []
    for along_x, along_y, side in zip(right_step, down_step, (source_width, source_height), strict=True):
        offset = along_x * start_x + along_y * start_y + (side - 1) / 2
        rows += [along_x * step_x, along_y * step_y, offset]
    zeros = ops.zeros_like(start_x)
    return ops.stack([*rows, zeros, zeros], axis=1)


def _recoloured(pixels: Tensor, acts: Sequence[_Act]) -> Tensor:
    for act in acts:
        pixels = act.operation(pixels, act.parameters)
    return ops.clip(pixels, 0, 255)


def _where_active(act: _Act, pixels: Tensor) -> Tensor:
    """Change the images of a batch that the operation does not leave alone; where there are none, take no time."""
    active = act.operation.active(act.parameters)

    def changed() -> Tensor:
        result = act.operation(pixels, act.parameters)
        if act.operation.place is None:  # one from outside may leave the range
            result = ops.clip(ops.cast(result, "float32"), 0, 255)
        return ops.where(active[:, None, None, None], result, pixels)

    return ops.cond(ops.any(active), changed, lambda: pixels)
