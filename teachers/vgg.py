"""VGG: three stages of two 3x3 convolutions and a pool, of the CNN teaching collection."""

from keras import layers

from distill.building_blocks.builder import builder

WIDTHS = (64, 128, 256)


@builder(
    name="vgg",
    input_shape=(32, 32, 3),
    classes=10,
    smallest=8,  # three pools halve it
    flattens=True,
    last_map="4x4x256",
)
def VGG(x, top):
    """VGG of six convolutions, 1,186,378 parameters at its default shape and classes.

    Every convolution has a bias and no normalisation: the published count says so.

    Reference: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    2014, https://arxiv.org/abs/1409.1556, for the stages; the dropout after every convolution is the collection's.
    """
    x = _features(layers.Rescaling(1 / 255, name="scale_pixels")(x))
    if top is None:
        return x
    return top(layers.Flatten(name="flatten")(x))


def _features(x):
    """The feature map: at 32x32 the stages end at 16x16x64, 8x8x128 and 4x4x256."""
    for i, width in enumerate(WIDTHS, start=1):
        for j in (1, 2):
            x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"stage{i}_conv{j}")(x)
            x = layers.Dropout(0.4, name=f"stage{i}_dropout{j}")(x)
        x = layers.MaxPooling2D(2, name=f"stage{i}_pool")(x)
    return x
