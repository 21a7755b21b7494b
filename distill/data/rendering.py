"""Render views into pixels: one batched operation, at each network's own size and channels."""

import numpy as np
import tensorflow as tf

from distill.data.views import PARAMETERS

_MID_GREY = 127.5


def render(images_uint8: tf.Tensor, parameters: tf.Tensor, *, image_shape: tuple[int, int, int]) -> tf.Tensor:
    """Render one view of every image.

    Rotation, zoom, shift, mirroring and the change of size are a single bilinear interpolation, so a view
    looks the same at every size. An image at least twice as large as asked for is first averaged over
    whole blocks, because bilinear interpolation alone would skip pixels. Outside the image its edge
    continues.

    Args:
        images_uint8: uint8 [B, H, W, 1 or 3].
        parameters: float32 [B, len(PARAMETERS)], from `ViewSpec.parameters`.
        image_shape: height, width and channels (1 or 3) of the result.

    Returns:
        float32 [B, height, width, channels], values 0..255.
    """
    height, width, channels = image_shape
    pixels = tf.cast(images_uint8, tf.float32)
    if channels == 1 and pixels.shape[-1] == 3:
        pixels = tf.image.rgb_to_grayscale(pixels)
    column = dict(zip(PARAMETERS, tf.unstack(parameters, axis=1), strict=True))
    # Light before geometry: interpolation keeps the range, and the source is mostly the smaller picture.
    pixels = _relight(_shrink(pixels, height, width), column)
    pixels = tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels,
        transforms=_transforms(column, source=pixels.shape[1:3], target=(height, width)),
        output_shape=(height, width),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    pixels = _erase(pixels, column)
    if channels == 3 and pixels.shape[-1] == 1:
        pixels = tf.repeat(pixels, 3, axis=-1)
    return pixels


def render_numpy(images_uint8: np.ndarray, parameters: np.ndarray, *, image_shape: tuple[int, int, int]):
    """`render` for NumPy arrays in and out."""
    return render(tf.constant(images_uint8), tf.constant(parameters), image_shape=image_shape).numpy()


def _shrink(pixels: tf.Tensor, height: int, width: int) -> tf.Tensor:
    source_height, source_width = pixels.shape[1:3]
    block = min(source_height // height, source_width // width)
    if block < 2:
        return pixels
    return tf.image.resize(pixels, (source_height // block, source_width // block), method="area")


def _transforms(column: dict, *, source: tuple[int, int], target: tuple[int, int]) -> tf.Tensor:
    """Projective transforms [B, 8] from pixel centres of the view to pixel centres of the source.

    A point of the view, measured in source pixels from the centre, goes back through shift, rotation,
    zoom and mirror, the reverse of the order in which a view is made.
    """
    (source_height, source_width), (height, width) = source, target
    step_x, step_y = source_width / width, source_height / height
    cos = tf.cos(column["angle"]) / column["zoom"]
    sin = tf.sin(column["angle"]) / column["zoom"]
    matrix = (
        (column["mirror"] * cos, -column["mirror"] * sin),
        (sin, cos),
    )
    # First pixel centre of the view, relative to the shifted centre of the face.
    start_x = (step_x - source_width) / 2 - column["shift_x"] * source_width
    start_y = (step_y - source_height) / 2 - column["shift_y"] * source_height
    rows = []
    for (along_x, along_y), side in zip(matrix, (source_width, source_height), strict=True):
        offset = along_x * start_x + along_y * start_y + (side - 1) / 2
        rows += [along_x * step_x, along_y * step_y, offset]
    zeros = tf.zeros_like(cos)
    return tf.stack([*rows, zeros, zeros], axis=1)


def _relight(pixels: tf.Tensor, column: dict) -> tf.Tensor:
    contrast = column["contrast"][:, None, None, None]
    brightness = 255 * column["brightness"][:, None, None, None]
    return tf.clip_by_value((pixels - _MID_GREY) * contrast + _MID_GREY + brightness, 0, 255)


def _erase(pixels: tf.Tensor, column: dict) -> tf.Tensor:
    height, width = pixels.shape[1:3]

    def inside(side: int, start: tf.Tensor, extent: tf.Tensor) -> tf.Tensor:
        centres = (tf.range(side, dtype=tf.float32) + 0.5) / side
        return (centres >= start[:, None]) & (centres < (start + extent)[:, None])

    def painted() -> tf.Tensor:
        rows = inside(height, column["erase_top"], column["erase_height"])
        columns = inside(width, column["erase_left"], column["erase_width"])
        return tf.where(rows[:, :, None, None] & columns[:, None, :, None], _MID_GREY, pixels)

    return tf.cond(tf.reduce_any(column["erase_width"] > 0), painted, lambda: pixels)
