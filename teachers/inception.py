"""Inception: the first three modules of GoogLeNet, of the CNN teaching collection."""

from keras import layers

from distill.building_blocks.builder import builder

# Filters, in the columns of the paper's table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection.
MODULES_3 = {"module3a": (64, 96, 128, 16, 32, 32), "module3b": (128, 128, 192, 32, 96, 96)}
MODULES_4 = {"module4a": (192, 96, 208, 16, 48, 64)}


@builder(
    name="inception",
    input_shape=(32, 32, 3),
    classes=100,
    smallest=17,  # halved four times, rounded up, a 2x2 pool must fit
    flattens=True,
    last_map="1x1x128",
)
def Inception(x, top):
    """GoogLeNet up to module 4a, 1,373,284 parameters at its default shape and classes.

    The convolution and dense layer of GoogLeNet's first side classifier end it, with an average pool of 2x2 that
    strides by 3 without padding, and so leaves pixels out. Every other layer pads, and every other pool takes
    maxima. Module 3b projects its pool to 96 channels, not to GoogLeNet's 64. Convolutions have a bias and a ReLU,
    and no normalisation: the published count says so.

    Reference: Szegedy et al., "Going Deeper with Convolutions", 2014, https://arxiv.org/abs/1409.4842.
    """
    x = _features(layers.Rescaling(1 / 255, name="scale_pixels")(x))
    if top is None:
        return x
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(1024, activation="relu", name="dense")(x)
    x = layers.Dropout(0.7, name="dropout")(x)
    return top(x)


def _features(x):
    """The feature map: at 32x32 the four halvings and the last pool end at 16, 8, 4, 2 and 1 pixels a side."""
    x = _conv(x, 64, 7, "conv1", strides=2)
    x = _pool(x, 2, "pool1")
    x = _conv(x, 64, 1, "conv2_reduce")
    x = _conv(x, 192, 3, "conv2")
    x = _pool(x, 2, "pool2")
    for name, widths in MODULES_3.items():
        x = _module(x, widths, name)
    x = _pool(x, 2, "pool3")
    for name, widths in MODULES_4.items():
        x = _module(x, widths, name)
    x = layers.AveragePooling2D(2, strides=3, name="last_pool")(x)
    return _conv(x, 128, 1, "last_conv")


def _module(x, widths, name):
    """Four branches of `x`, joined; `widths` is a row of the tables."""
    conv1, reduce3, conv3, reduce5, conv5, projection = widths
    branches = [
        _conv(x, conv1, 1, f"{name}_1x1"),
        _conv(_conv(x, reduce3, 1, f"{name}_3x3_reduce"), conv3, 3, f"{name}_3x3"),
        _conv(_conv(x, reduce5, 1, f"{name}_5x5_reduce"), conv5, 5, f"{name}_5x5"),
        _conv(_pool(x, 1, f"{name}_pool"), projection, 1, f"{name}_projection"),
    ]
    return layers.Concatenate(name=f"{name}_concat")(branches)


def _conv(x, filters, kernel, name, *, strides=1):
    return layers.Conv2D(filters, kernel, strides, "same", activation="relu", name=name)(x)


def _pool(x, strides, name):
    return layers.MaxPooling2D(3, strides, "same", name=name)(x)
