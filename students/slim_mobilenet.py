"""`SlimMobileNet`: a student of inverted residual units. It knows more per byte than those of plain convolutions.

Sources: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018,
https://arxiv.org/abs/1801.04381, section 3, for the unit and for the last convolution. The stem alone halves the
picture, so that the first unit still sees 24x24. ReLU stands in the place of ReLU6: 8 bits have their own bounds.
"""

from typing import NamedTuple

from keras import layers

from distill.building_blocks.builder import builder
from distill.building_blocks.conventions import checked_keep_prob, checked_pixel_scale
from distill.building_blocks.residual_units import STUDENT_OPTIONS, averaged, normalised


class Unit(NamedTuple):
    """What distinguishes one unit from another."""

    channels: int
    """That leave it."""
    stride: int
    expansion: int
    """How many times as many channels there are inside as enter."""


_STEM, _HEAD = 16, 96
_UNITS = (Unit(16, 1, 4), Unit(32, 2, 4), Unit(32, 1, 4), Unit(48, 2, 4), Unit(48, 1, 3), Unit(48, 1, 3))


@builder(
    name="slim_mobilenet",
    input_shape=(48, 48, 1),
    classes=7,
    smallest=1,  # every layer pads
    last_map="6x6x96",
    options=STUDENT_OPTIONS,
)
def SlimMobileNet(x, top, *, keep_prob=0.8, pixel_scale=1 / 255):
    """Network of six inverted residual units, 69,399 parameters: less than 100,000 bytes as int8."""
    x = layers.Rescaling(checked_pixel_scale(pixel_scale), name="scale_pixels")(x)
    x = normalised(layers.Conv2D(_STEM, 3, 2, "same", use_bias=False, name="stem_conv")(x), "stem")
    for number, unit in enumerate(_UNITS, start=1):
        x = _unit(x, unit, f"unit{number}")
    x = normalised(layers.Conv2D(_HEAD, 1, use_bias=False, name="head_conv")(x), "head")
    return averaged(x, top, 1 - checked_keep_prob(keep_prob))


def _unit(x, unit, name):
    """Widen, look around, narrow without ReLU; and the sum with what came in, where size and channels stay."""
    y = layers.Conv2D(unit.expansion * x.shape[-1], 1, use_bias=False, name=f"{name}_expand_conv")(x)
    y = normalised(y, f"{name}_expand")
    y = layers.DepthwiseConv2D(3, unit.stride, "same", use_bias=False, name=f"{name}_depthwise_conv")(y)
    y = normalised(y, f"{name}_depthwise")
    y = layers.Conv2D(unit.channels, 1, use_bias=False, name=f"{name}_project_conv")(y)
    y = normalised(y, f"{name}_project", relu=False)
    return layers.Add(name=f"{name}_add")([x, y]) if unit.stride == 1 and x.shape[-1] == unit.channels else y
