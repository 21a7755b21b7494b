"""Xception: two blocks of depthwise convolutions in parallel with plain ones, of the CNN teaching collection."""

from keras import layers

from distill.building_blocks.builder import builder


@builder(
    name="xception",
    input_shape=(32, 32, 3),
    classes=100,
    smallest=5,  # halved, rounded up, it loses two pixels
    flattens=True,
    last_map="14x14x128",
)
def Xception(x, top):
    """Two blocks of depthwise convolutions, 4,456,548 parameters at its default shape and classes.

    A block joins a left branch of depthwise convolutions and a max pool with a right one that normalises and ends
    in a linear 2x2 convolution; both lose one pixel a side. A depthwise convolution has a bias and no pointwise
    one after it, and the strided convolution pads: the published count says so. In the stem and the tail a
    normalisation follows the ReLU of its convolution.

    Reference: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", 2016,
    https://arxiv.org/abs/1610.02357, for depthwise layers; the blocks are the collection's.
    """
    x = _features(layers.Rescaling(1 / 255, name="scale_pixels")(x))
    if top is None:
        return x
    return top(layers.Flatten(name="flatten")(x))


def _features(x):
    """The feature map: at 32x32 the stem ends at 16x16x64, the blocks at 15x15x128 and 14x14x512."""
    x = _conv(x, 32, "stem1", strides=2)
    x = _conv(x, 64, "stem2")
    x = _block1(x)
    x = _block2(x)
    x = layers.ReLU(name="tail_relu")(x)
    x = _conv(x, 256, "tail1")
    return _conv(x, 128, "tail2")


def _block1(x):
    left = _depthwise(x, "block1_depthwise1", activation="relu")
    left = _depthwise(left, "block1_depthwise2", activation="relu")
    return _joined(left, x, filters=64, norms=2, name="block1")


def _block2(x):
    left = layers.ReLU(name="block2_relu")(x)  # of the left branch alone: the right one reads x as it is
    left = layers.Conv2D(256, 3, padding="same", activation="relu", name="block2_conv")(left)
    left = _depthwise(left, "block2_depthwise1", activation="relu")
    left = _depthwise(left, "block2_depthwise2", activation=None)
    return _joined(left, x, filters=256, norms=3, name="block2")


def _joined(left, x, *, filters, norms, name):
    """The pooled left branch, parallel to the right one of `x`, which is normalised `norms` times, with dropout."""
    left = layers.MaxPooling2D(2, strides=1, name=f"{name}_pool")(left)
    for i in range(1, norms + 1):
        x = _normalised(x, f"{name}_right{i}")
    right = layers.Conv2D(filters, 2, name=f"{name}_right_conv")(x)
    return layers.Concatenate(name=f"{name}_concat")([left, right])


def _conv(x, filters, name, *, strides=1):
    x = layers.Conv2D(filters, 3, strides, "same", activation="relu", name=f"{name}_conv")(x)
    return _normalised(x, name)


def _depthwise(x, name, *, activation):
    return layers.DepthwiseConv2D(3, padding="same", activation=activation, name=name)(x)


def _normalised(x, name):
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.Dropout(0.4, name=f"{name}_dropout")(x)
