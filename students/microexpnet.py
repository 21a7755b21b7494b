"""MicroExpNet in its two published sizes, and the sixteen candidates that they were chosen from.

Source: Çuğu, Şener, Akbaş, "MicroExpNet: An Extremely Small and Fast Model For Expression Recognition From
Face Images", 2017 and IPTA 2019, https://arxiv.org/abs/1711.07011.
"""

from dataclasses import dataclass, replace
from typing import Any

from keras import initializers, layers

from distill.building_blocks.builder import builder
from distill.building_blocks.conventions import checked_keep_prob, checked_pixel_scale


@dataclass(frozen=True)
class Variant:
    """What distinguishes one candidate from another: where it loses resolution, and how wide its dense layer is."""

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


_SHARED: dict[str, Any] = {
    "input_shape": (84, 84, 1),
    "classes": 8,
    "smallest": 1,  # every layer pads
    "flattens": True,
    "options": {
        "keep_prob": "share of the dense layer that dropout keeps in training, above 0 and up to 1.",
        "pixel_scale": "what pixels are multiplied by, above 0. 1 is published; but activations of unscaled pixels "
        "drown the biases, drawn from N(0, 0.5²), and units die early. From scratch, 1/16 learns faster.",
    },
}


@builder(name="microexpnet", last_map="6x6x32", **_SHARED)
def MicroExpNet(x, top, *, keep_prob=0.5, pixel_scale=1.0):
    """MicroExpNet of 2019, 65,000 parameters at its default shape.

    By default pixels reach the first convolution unscaled, as published.
    """
    return variant_layers(MICROEXPNET_2019, x, top, keep_prob=keep_prob, pixel_scale=pixel_scale)


@builder(name="microexpnet_2017", last_map="11x11x32", **_SHARED)
def MicroExpNet2017(x, top, *, keep_prob=0.5, pixel_scale=1.0):
    """MicroExpNet of 2017, 71,368 parameters at its default shape; pixels as in that of 2019."""
    return variant_layers(MICROEXPNET_2017, x, top, keep_prob=keep_prob, pixel_scale=pixel_scale)


def variant_layers(variant, x, top, *, keep_prob, pixel_scale):
    """Lay the layers of one `Variant` on pixels `x`, for `distill.building_blocks.builder`."""
    checked_keep_prob(keep_prob)
    if checked_pixel_scale(pixel_scale) != 1:
        x = layers.Rescaling(pixel_scale, name="scale_pixels")(x)
    x = _features(x, variant)
    if top is None:
        return x
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(variant.units, activation="relu", bias_initializer=_bias(), name="dense")(x)
    x = layers.Dropout(1 - keep_prob, name="dropout")(x)
    return top(x, bias_initializer=_bias())


def _candidate(row, variant):
    side = 6 if variant.pool2 else 11

    @builder(name=f"microexpnet_{row}", last_map=f"{side}x{side}x32", **_SHARED)
    def candidate(x, top, *, keep_prob=0.5, pixel_scale=1.0):
        """One of the sixteen candidates of MicroExpNet's paper."""
        return variant_layers(variant, x, top, keep_prob=keep_prob, pixel_scale=pixel_scale)

    return candidate


CANDIDATES = {f"microexpnet_{row}": _candidate(row, variant) for row, variant in VARIANTS.items()}
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
