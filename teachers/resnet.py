"""ResNet: six units with convolutions for shortcuts, of the CNN teaching collection."""

from dataclasses import dataclass

from keras import layers

from distill.building_blocks.builder import builder


@dataclass(frozen=True)
class Unit:
    """What distinguishes one unit from another."""

    width: int
    dropout: float
    pool: bool = False


UNITS = (
    Unit(32, dropout=0.2),
    Unit(32, dropout=0.3),
    Unit(32, dropout=0.4, pool=True),
    Unit(64, dropout=0.2),
    Unit(64, dropout=0.2, pool=True),
    Unit(256, dropout=0.4),
)


@builder(
    name="resnet",
    input_shape=(32, 32, 3),
    classes=100,
    smallest=4,  # two pools halve it
    flattens=True,
    last_map="8x8x256",
)
def ResNet(x, top):
    """Residual network of six units, 68,671,236 parameters at its default shape and classes.

    All but 1.6 M of them are in a dense layer of 4096 units that reads the flattened map; they grow with the area
    of the image, to 152.2 M at 48x48x1 and 463.6 M at 84x84x1. No convolution drops its bias, although a
    normalisation follows each: the published count has them.

    Reference: He et al., "Deep Residual Learning for Image Recognition", 2015,
    https://arxiv.org/abs/1512.03385, for the sum; the units, pools and dropout are the collection's.
    """
    x = _features(layers.Rescaling(1 / 255, name="scale_pixels")(x))
    if top is None:
        return x
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(0.4, name="dropout1")(x)
    x = layers.Dense(4096, activation="relu", name="dense")(x)
    x = layers.Dropout(0.23, name="dropout2")(x)
    return top(x)


def _features(x):
    """The feature map: at 32x32 units 3 and 5 end at 16x16x32 and 8x8x64, unit 6 at 8x8x256."""
    x = _conv(x, 16, "stem_conv")
    x = _normalised(x, "stem")
    for i, unit in enumerate(UNITS, start=1):
        x = _residual(x, unit, f"unit{i}")
    return x


def _residual(x, unit, name):
    """Two convolutions of `x` plus a third; the sum is pooled and dropped out before it is normalised."""
    y = _normalised(_conv(x, unit.width, f"{name}_conv1"), f"{name}_inner")
    y = _conv(y, unit.width, f"{name}_conv2")
    # A convolution even where the widths agree: no unit of this network has an identity.
    x = layers.Add(name=f"{name}_add")([y, _conv(x, unit.width, f"{name}_shortcut")])
    if unit.pool:
        x = layers.MaxPooling2D(2, name=f"{name}_pool")(x)
    x = layers.Dropout(unit.dropout, name=f"{name}_dropout")(x)
    return _normalised(x, name)


def _conv(x, filters, name):
    return layers.Conv2D(filters, 3, padding="same", name=name)(x)


def _normalised(x, name):
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
