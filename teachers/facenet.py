"""FaceNet, an Inception-ResNet cut to the size of FER2013 faces: the default teacher."""

from keras import layers

from distill.building_blocks.builder import builder

# A branch is a row of convolutions (filters, kernel); where the map shrinks, an empty branch is a max pool.
STEM = {
    "stem_2": [[(32, 3)]],
    "stem_3": [[(64, 3)]],
    "stem_4": [[], [(64, 3)]],
    "stem_5": [[(64, 1), (64, (1, 7)), (64, (7, 1)), (96, 3)], [(64, 1), (96, 3)]],
    "stem_6": [[(192, 3)], []],
}
BLOCK_A = [[(32, 1)], [(32, 1), (32, 3)], [(32, 1), (48, 3), (64, 3)]]
REDUCTION_A = [[], [(384, 3)], [(256, 1), (256, 3), (384, 3)]]
BLOCK_B = [[(192, 1)], [(128, 1), (160, (1, 7)), (192, (7, 1))]]
REDUCTION_B = [[], [(256, 1), (384, 3)], [(256, 1), (256, 3)], [(256, 1), (256, 3), (256, 3)]]
BLOCK_C = [[(192, 1)], [(192, 1), (224, (1, 3)), (256, (3, 1))]]


@builder(name="facenet", input_shape=(48, 48, 1), classes=7, smallest=35, last_map="2x2x2048")
def FaceNet(x, top):
    """Inception-ResNet for facial expressions, 21,865,895 parameters at its default shape.

    Reference: Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
    Learning", 2016, https://arxiv.org/abs/1602.07261.
    """
    x = _features(layers.Rescaling(1 / 255, name="scale_pixels")(x))
    if top is None:
        return x
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Dropout(0.6, name="dropout")(x)
    return top(x)


def _features(x):
    """The feature map: at 48x48 the stages end at 13x13x384, 6x6x1152 and 2x2x2048."""
    x = _conv(x, 32, 3, "stem_1", strides=2, padding="valid")
    for name, branches in STEM.items():
        x = _shrinking(x, branches, strides=1, name=name)
    for i in range(1, 5):
        x = _residual(x, BLOCK_A, scale=0.15, name=f"block_a{i}")
    x = _shrinking(x, REDUCTION_A, strides=2, name="reduction_a")
    for i in range(1, 8):
        x = _residual(x, BLOCK_B, scale=0.1, name=f"block_b{i}")
    x = _shrinking(x, REDUCTION_B, strides=2, name="reduction_b")
    for i in range(1, 4):
        x = _residual(x, BLOCK_C, scale=0.2, name=f"block_c{i}")
    return x


def _shrinking(x, branches, *, strides, name):
    """Branches that end in an unpadded convolution or in an unpadded max pool, so that the map shrinks."""
    outputs = []
    for i, branch in enumerate(branches, start=1):
        if branch:
            *first, (filters, kernel) = branch
            y = _stacked(x, first, f"{name}_{i}")
            y = _conv(y, filters, kernel, f"{name}_{i}_{len(branch)}", strides=strides, padding="valid")
        else:
            y = layers.MaxPooling2D(3, strides, name=f"{name}_{i}_pool")(x)
        outputs.append(y)
    return _concatenated(outputs, name)


def _residual(x, branches, *, scale, name):
    """x + scale * expansion(branches of x): the expansion is linear, and no ReLU follows the sum."""
    outputs = [_stacked(x, branch, f"{name}_{i}") for i, branch in enumerate(branches, start=1)]
    expanded = _conv(_concatenated(outputs, name), x.shape[-1], 1, f"{name}_expand", relu=False)
    scaled = layers.Rescaling(scale, name=f"{name}_scale")(expanded)
    return layers.Add(name=f"{name}_add")([x, scaled])


def _stacked(x, convolutions, name):
    for i, (filters, kernel) in enumerate(convolutions, start=1):
        x = _conv(x, filters, kernel, f"{name}_{i}")
    return x


def _conv(x, filters, kernel, name, *, strides=1, padding="same", relu=True):
    """Convolution without bias, batch normalisation without scale, ReLU."""
    x = layers.Conv2D(filters, kernel, strides, padding, use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(scale=False, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _concatenated(outputs, name):
    return outputs[0] if len(outputs) == 1 else layers.Concatenate(name=f"{name}_concat")(outputs)
