"""Residual units with batch norms, and stacks of them: shared by the networks that are made of nothing else.

Sources: He et al., "Deep Residual Learning for Image Recognition", 2015, https://arxiv.org/abs/1512.03385,
for the units; He et al., "Bag of Tricks for Image Classification with Convolutional Neural Networks", 2018,
https://arxiv.org/abs/1812.01187, for the average pool before a projection.
"""

from dataclasses import dataclass

from keras import layers

from distill.building_blocks.conventions import checked_pixel_scale

STUDENT_OPTIONS = {
    "keep_prob": "share of the averaged features that dropout keeps in training, above 0 and up to 1.",
    "pixel_scale": "what pixels are multiplied by, above 0; the first batch norm makes little depend on it.",
}
"""The options of a student that ends in `averaged`, and what each means."""


@dataclass(frozen=True)
class Variant:
    """What distinguishes one stack from another."""

    stem: int
    """Channels after the first convolution."""
    widths: tuple[int, ...]
    """Channels of each stage."""
    strides: tuple[int, ...]
    """1 or 2: first the stem's, then that of each stage."""
    units: int
    """Per stage; the first one widens and strides."""
    dropout: float
    """Share of the averaged features that is dropped in training."""
    stem_kernel: int = 3


def residual_layers(variant, x, top, *, pixel_scale=1 / 255):
    """Lay the layers of one `Variant` on pixels `x`, for `distill.building_blocks.builder`."""
    x = layers.Rescaling(checked_pixel_scale(pixel_scale), name="scale_pixels")(x)
    return averaged(_features(x, variant), top, variant.dropout)


def averaged(x, top, dropout):
    """`top` of the average of feature map `x`, of which training drops the share `dropout`; without a top, `x`."""
    if top is None:
        return x
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return top(layers.Dropout(dropout, name="dropout")(x))


def normalised(x, name, *, relu=True):
    """Batch normalisation of `x`, then ReLU if asked for."""
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _features(x, variant):
    """The last feature map, `[B, H', W', widths[-1]]`."""
    stem_stride, *strides = variant.strides
    x = _conv(x, variant.stem, variant.stem_kernel, "stem", strides=stem_stride)
    for i, (width, stride) in enumerate(zip(variant.widths, strides, strict=True), start=1):
        for j in range(1, variant.units + 1):
            x = _unit(x, width, stride if j == 1 else 1, f"stage{i}_unit{j}")
    return x


def _unit(x, width, stride, name):
    """ReLU of the sum of two convolutions and the shortcut."""
    y = _conv(x, width, 3, f"{name}_1", strides=stride)
    y = _conv(y, width, 3, f"{name}_2", relu=False)
    total = layers.Add(name=f"{name}_add")([y, _shortcut(x, width, stride, f"{name}_shortcut")])
    return layers.ReLU(name=f"{name}_relu")(total)


def _shortcut(x, width, stride, name):
    """`x` itself, or its projection where the unit changes size or width."""
    if stride == 1 and x.shape[-1] == width:
        return x
    if stride > 1:  # a strided 1x1 convolution would drop three pixels of four
        x = layers.AveragePooling2D(stride, padding="same", name=f"{name}_pool")(x)
    return _conv(x, width, 1, name, relu=False)


def _conv(x, filters, kernel, name, *, strides=1, relu=True):
    """Convolution without bias, batch normalisation, ReLU."""
    x = layers.Conv2D(filters, kernel, strides, "same", use_bias=False, name=f"{name}_conv")(x)
    return normalised(x, name, relu=relu)
