"""DenseNet: five units whose convolutions read all before them, of the CNN teaching collection."""

from keras import layers

from distill.building_blocks.conventions import classifier, finished, image_input, pooled

WIDTHS = (8, 16, 32, 64, 128)


def DenseNet(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=14,
    classifier_activation=None,
    name="densenet",
):
    """Densely connected network of five units, 2,065,686 parameters at its default shape and classes.

    What a unit's later convolutions join does not include the unit's input, and every convolution has a bias: the
    published count says so. Dropout rates are shares dropped; after a unit that is four values of five.

    Pixels in are 0..255, `[B, H, W, C]`; the model scales them. Raw logits `[B, classes]` come out, since a
    distillation needs them: pass `classifier_activation="softmax"` for probabilities.

    Args:
        include_top: False ends at the last feature map, 8x8x96 at the default shape.
        weights: None, or a `.weights.h5` or `.keras` file to load.
        input_tensor: a Keras tensor of pixels to build on; its shape is the input shape.
        input_shape: `(H, W, C)` or `(H, W)`, by default (32, 32, 3); at least 4x4. Without the top, H and W
            may be None.
        pooling: with `include_top=False`, None, "avg" or "max".
        classes: number of logits.
        classifier_activation: activation of the last layer; None gives raw logits.
        name: name of the model.

    Raises:
        ValueError: an `input_shape` that is no image shape, too small, or of unknown size where the map is
            flattened; an unknown `pooling`; or a `weights` file that does not fit.

    Reference: Huang et al., "Densely Connected Convolutional Networks", 2016, https://arxiv.org/abs/1608.06993,
    for the dense unit; that a unit returns its last convolution alone is the collection's.
    """
    inputs = image_input(
        input_tensor,
        input_shape,
        default=(32, 32, 3),
        smallest=4,  # two pools halve it
        name=name,
        any_size=not include_top,  # the classifier reads a flattened map
    )
    x = _features(layers.Rescaling(1 / 255, name="scale_pixels")(inputs))
    if include_top:
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dropout(0.4, name="dropout")(x)
        x = classifier(x, classes, classifier_activation)
    else:
        x = pooled(x, pooling)
    return finished(inputs, x, weights=weights, name=name)


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
