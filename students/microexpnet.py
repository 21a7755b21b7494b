"""MicroExpNet in its two published sizes, and the sixteen candidates that they were chosen from.

Source: Çuğu, Şener, Akbaş, "MicroExpNet: An Extremely Small and Fast Model For Expression Recognition From
Face Images", 2017 and IPTA 2019, https://arxiv.org/abs/1711.07011.
"""

from dataclasses import dataclass, replace

from keras import initializers, layers

from distill.building_blocks.conventions import (
    checked_keep_prob,
    checked_pixel_scale,
    classifier,
    finished,
    image_input,
    pooled,
)


@dataclass(frozen=True)
class Variant:
    """What tells one candidate from another: where it loses resolution, and how wide its dense layer is."""

    conv1_stride: int
    pool1: bool
    pool2: bool
    units: int


# Where the four families of candidates lose resolution, and how wide they are before they are squeezed.
FAMILIES = {
    "v": Variant(conv1_stride=4, pool1=False, pool2=False, units=256),
    "p1": Variant(conv1_stride=2, pool1=True, pool2=False, units=256),
    "p2": Variant(conv1_stride=4, pool1=False, pool2=True, units=768),
    "p12": Variant(conv1_stride=2, pool1=True, pool2=True, units=768),
}
SQUEEZES = {"m": 1, "s": 4, "xs": 8, "xxs": 16}

VARIANTS = {
    f"{family}_{size}": replace(variant, units=variant.units // squeeze)
    for family, variant in FAMILIES.items()
    for size, squeeze in SQUEEZES.items()
}
MICROEXPNET_2017, MICROEXPNET_2019 = VARIANTS["v_xxs"], VARIANTS["p12_xxs"]


def MicroExpNet(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=8,
    classifier_activation=None,
    name="microexpnet",
    *,
    keep_prob=0.5,
    pixel_scale=1.0,
):
    """MicroExpNet of 2019, 65,000 parameters at its default shape.

    Pixels in are 0..255, `[B, H, W, C]`; by default they reach the first convolution unscaled, as published.
    Raw logits `[B, classes]` come out, since a distillation needs them: pass
    `classifier_activation="softmax"` for probabilities.

    Args:
        include_top: False ends at the last feature map, 6x6x32 at the default shape.
        weights: None, or a `.weights.h5` or `.keras` file to load.
        input_tensor: a Keras tensor of pixels to build on; its shape is the input shape.
        input_shape: `(H, W, C)` or `(H, W)`, by default (84, 84, 1); any size works.
        pooling: with `include_top=False`, None, "avg" or "max".
        classes: number of logits.
        classifier_activation: activation of the last layer; None gives raw logits.
        name: name of the model.
        keep_prob: share of the dense layer that dropout keeps in training, above 0 and up to 1.
        pixel_scale: what pixels are multiplied by, above 0. 1 is published; but activations of unscaled pixels
            drown the biases, drawn from N(0, 0.5²), and units die early. From scratch, 1/16 learns sooner.

    Raises:
        ValueError: an `input_shape`, `pooling` or `keep_prob` out of range, or a `weights` file that does
            not fit.
    """
    return build(
        MICROEXPNET_2019,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
        keep_prob=keep_prob,
        pixel_scale=pixel_scale,
    )


def build(
    variant,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=8,
    classifier_activation=None,
    name="microexpnet",
    *,
    keep_prob=0.5,
    pixel_scale=1.0,
):
    """The network of one `Variant`; the other arguments, values and errors are those of `MicroExpNet`."""
    checked_keep_prob(keep_prob)
    checked_pixel_scale(pixel_scale)
    inputs = image_input(
        input_tensor,
        input_shape,
        default=(84, 84, 1),
        smallest=1,  # every layer pads
        name=name,
        any_size=not include_top,
    )
    x = inputs if pixel_scale == 1 else layers.Rescaling(pixel_scale, name="scale_pixels")(inputs)
    x = _features(x, variant)
    if include_top:
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(variant.units, activation="relu", bias_initializer=_bias(), name="dense")(x)
        x = layers.Dropout(1 - keep_prob, name="dropout")(x)
        x = classifier(x, classes, classifier_activation, bias_initializer=_bias())
    else:
        x = pooled(x, pooling)
    return finished(inputs, x, weights=weights, name=name)


def _builder(variant, default_name, doc):
    def builder(
        include_top=True,
        weights=None,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=8,
        classifier_activation=None,
        name=default_name,
        *,
        keep_prob=0.5,
        pixel_scale=1.0,
    ):
        return build(
            variant,
            include_top,
            weights,
            input_tensor,
            input_shape,
            pooling,
            classes,
            classifier_activation,
            name,
            keep_prob=keep_prob,
            pixel_scale=pixel_scale,
        )

    builder.__doc__ = f"{doc}\n\n    Arguments, values and errors are those of `MicroExpNet`.\n    "
    return builder


MicroExpNet2017 = _builder(
    MICROEXPNET_2017,
    "microexpnet_2017",
    "MicroExpNet of 2017, 71,368 parameters at its default shape; its last feature map is 11x11x32.",
)

CANDIDATES = {
    f"microexpnet_{row}": _builder(variant, f"microexpnet_{row}", f"Candidate {row} of MicroExpNet's paper.")
    for row, variant in VARIANTS.items()
}
"""The builders of all sixteen candidates, `microexpnet_v_m` to `microexpnet_p12_xxs`: family, then size."""


def _features(x, variant):
    x = _conv(x, 16, 8, variant.conv1_stride, "conv1")
    if variant.pool1:
        x = layers.MaxPooling2D(2, padding="same", name="pool1")(x)
    x = _conv(x, 32, 4, 2, "conv2")
    if variant.pool2:
        x = layers.MaxPooling2D(2, padding="same", name="pool2")(x)
    return x


def _conv(x, filters, kernel, strides, name):
    return layers.Conv2D(filters, kernel, strides, "same", activation="relu", bias_initializer=_bias(), name=name)(x)


def _bias():
    """A fresh initialiser per layer: one object would give every layer of a width the same values."""
    return initializers.RandomNormal(stddev=0.5)
