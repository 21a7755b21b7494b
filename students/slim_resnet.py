"""`SlimResNet`: residual students of our own, in three sizes. They know more per byte than MicroExpNet.

Their units and their sources stand in `distill/building_blocks/residual_units.py`. A stem that halves the picture at
once, and no unit at that size, keep them near the cost of MicroExpNet.
"""

from typing import Any

from distill.building_blocks.builder import builder
from distill.building_blocks.conventions import checked_keep_prob
from distill.building_blocks.residual_units import STUDENT_OPTIONS, Variant, residual_layers

_SLIM: dict[str, Any] = {"stem": 24, "stem_kernel": 5, "widths": (48, 96), "strides": (2, 2, 2), "units": 1}
_SMALL: dict[str, Any] = {"stem": 16, "stem_kernel": 5, "widths": (32, 64), "strides": (2, 2, 2), "units": 1}
_WIDE: dict[str, Any] = {"stem": 24, "widths": (64, 128, 192), "strides": (2, 2, 2, 2), "units": 1}

_SHARED: dict[str, Any] = {
    "input_shape": (48, 48, 1),
    "classes": 7,
    "smallest": 1,  # every layer pads
    "options": STUDENT_OPTIONS,
}


@builder(name="slim_resnet", last_map="6x6x96", **_SHARED)
def SlimResNet(x, top, *, keep_prob=0.8, pixel_scale=1 / 255):
    """Residual network of two units, 164,383 parameters at its default shape."""
    return _layers(_SLIM, x, top, keep_prob, pixel_scale)


@builder(name="slim_resnet_small", last_map="6x6x64", **_SHARED)
def SlimResNetSmall(x, top, *, keep_prob=0.8, pixel_scale=1 / 255):
    """Residual network of two units, 73,751 parameters at its default shape: less than 100,000 bytes as int8."""
    return _layers(_SMALL, x, top, keep_prob, pixel_scale)


@builder(name="slim_resnet_wide", last_map="3x3x192", **_SHARED)
def SlimResNetWide(x, top, *, keep_prob=0.8, pixel_scale=1 / 255):
    """Residual network of three units, 865,407 parameters at its default shape: less than 1,000,000 bytes as int8."""
    return _layers(_WIDE, x, top, keep_prob, pixel_scale)


def _layers(stem_and_stages, x, top, keep_prob, pixel_scale):
    variant = Variant(**stem_and_stages, dropout=1 - checked_keep_prob(keep_prob))
    return residual_layers(variant, x, top, pixel_scale=pixel_scale)
