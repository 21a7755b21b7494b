"""Plain residual networks for small faces, of several sizes: strong teachers, and a quick one for a demo.

Its units and their sources stand in `distill/building_blocks/residual_units.py`.
"""

from typing import Any

from distill.building_blocks.builder import builder
from distill.building_blocks.residual_units import Variant, residual_layers

PLAIN_RESNET = Variant(stem=32, widths=(40, 40, 80, 160, 320), strides=(1, 1, 2, 2, 2, 2), units=2, dropout=0.3)
# The widths of He et al.'s ResNet-18. A stem of stride 2 in place of its 7x7 and pool: wide layers at half resolution
# cost a CPU half as much per multiply-add as narrow ones at full resolution.
RESNET18 = Variant(stem=64, widths=(64, 128, 256, 512), strides=(2, 1, 2, 2, 2), units=2, dropout=0.3)
RESNET10 = Variant(stem=64, widths=(64, 128, 256, 512), strides=(2, 1, 2, 2, 2), units=1, dropout=0.3)
PLAIN_RESNET_TINY = Variant(stem=16, widths=(16, 32, 64), strides=(2, 2, 2, 2), units=1, dropout=0.1)


_SHARED: dict[str, Any] = {"input_shape": (48, 48, 1), "classes": 7, "smallest": 1}  # every layer pads


@builder(name="plain_resnet", last_map="3x3x320", **_SHARED)
def PlainResNet(x, top):
    """Plain residual network of ten units, 4,431,463 parameters at its default shape."""
    return residual_layers(PLAIN_RESNET, x, top)


@builder(name="plain_resnet_tiny", last_map="3x3x64", **_SHARED)
def PlainResNetTiny(x, top):
    """Plain residual network of three units, 78,551 parameters."""
    return residual_layers(PLAIN_RESNET_TINY, x, top)


@builder(name="resnet18", last_map="3x3x512", **_SHARED)
def ResNet18(x, top):
    """ResNet-18 for small faces, 11,180,871 parameters."""
    return residual_layers(RESNET18, x, top)


@builder(name="resnet10", last_map="3x3x512", **_SHARED)
def ResNet10(x, top):
    """`ResNet18` with one unit a stage, 4,906,311 parameters."""
    return residual_layers(RESNET10, x, top)
