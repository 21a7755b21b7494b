"""`SlimResNet`: a residual student of our own. It knows more per byte than MicroExpNet, and takes longer per face.

Its units and their sources stand in `distill/building_blocks/residual_units.py`. A stem that halves the picture at
once, and no unit at that size, keep it near the cost of MicroExpNet.
"""

from typing import Any

from distill.building_blocks.builder import builder
from distill.building_blocks.conventions import checked_keep_prob
from distill.building_blocks.residual_units import Variant, residual_layers

_STEM_AND_STAGES: dict[str, Any] = {
    "stem": 24,
    "stem_kernel": 5,
    "widths": (48, 96),
    "strides": (2, 2, 2),
    "units": 1,
}


@builder(
    name="slim_resnet",
    input_shape=(48, 48, 1),
    classes=7,
    smallest=1,  # every layer pads
    last_map="6x6x96",
    options={
        "keep_prob": "share of the averaged features that dropout keeps in training, above 0 and up to 1.",
        "pixel_scale": "what pixels are multiplied by, above 0; the first batch norm makes little depend on it.",
    },
)
def SlimResNet(x, top, *, keep_prob=0.8, pixel_scale=1 / 255):
    """Residual network of two units, 164,383 parameters at its default shape."""
    variant = Variant(**_STEM_AND_STAGES, dropout=1 - checked_keep_prob(keep_prob))
    return residual_layers(variant, x, top, pixel_scale=pixel_scale)
