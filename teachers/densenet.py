"""DenseNet: five units whose convolutions read all before them, of the CNN teaching collection."""

from keras import layers

from distill.building_blocks.builder import builder

WIDTHS = (8, 16, 32, 64, 128)


@builder(
    name="densenet",
    input_shape=(32, 32, 3),
    classes=14,
    smallest=4,  # two pools halve it
    flattens=True,
    last_map="8x8x96",
)
def DenseNet(x, top):
    """Densely connected network of five units, 2,065,686 parameters at its default shape and classes.

    What a unit's later convolutions join does not include the unit's input, and every convolution has a bias: the
    published count says so. Dropout rates are shares dropped; after a unit that is four values of five.

    Reference: Huang et al., "Densely Connected Convolutional Networks", 2016, https://arxiv.org/abs/1608.06993,
    for the dense unit; that a unit returns its last convolution alone is the collection's.
    """
    x = _features(layers.Rescaling(1 / 255, name="scale_pixels")(x))
    if top is None:
        return x
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(0.4, name="dropout")(x)
    return top(x)


def _features(x):
    """The feature map: at 32x32 the units keep the size, then two pools end at 16x16x96 and 8x8x96."""
    x = _conv(x, 4, 3, "stem_conv")
    for i, width in enumerate(WIDTHS, start=1):
        x = _unit(x, width, f"unit{i}")
        x = layers.Dropout(0.8, name=f"unit{i}_dropout")(x)
        if i == len(WIDTHS):
            x = layers.MaxPooling2D(2, name=f"unit{i}_pool")(x)
        x = layers.BatchNormalization(name=f"unit{i}_norm")(x)
    x = _conv(x, 96, 1, "last_conv")
    x = layers.BatchNormalization(name="last_norm1")(x)
    x = layers.MaxPooling2D(2, name="last_pool")(x)
    return layers.BatchNormalization(name="last_norm2")(x)


def _unit(x, width, name):
    """The last of five convolutions: two of `x`, then each of all those before it."""
    outputs = [_conv(x, width, 3, f"{name}_conv{i}") for i in (1, 2)]
    for i in (3, 4, 5):
        joined = layers.Concatenate(name=f"{name}_concat{i}")(outputs)
        outputs = [*outputs, _conv(joined, width, 3, f"{name}_conv{i}")]
    return outputs[-1]


def _conv(x, filters, kernel, name):
    return layers.Conv2D(filters, kernel, padding="same", activation="relu", name=name)(x)
