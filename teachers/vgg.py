"""VGG: three stages of two 3x3 convolutions and a pool, of the CNN teaching collection."""

from keras import layers

from distill.building_blocks.conventions import classifier, finished, image_input, pooled

WIDTHS = (64, 128, 256)


def VGG(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=10,
    classifier_activation=None,
    name="vgg",
):
    """VGG of six convolutions, 1,186,378 parameters at its default shape and classes.

    Every convolution has a bias and no normalisation: the published count says so.

    Pixels in are 0..255, `[B, H, W, C]`; the model scales them. Raw logits `[B, classes]` come out, since a
    distillation needs them: pass `classifier_activation="softmax"` for probabilities.

    Args:
        include_top: False ends at the last feature map, 4x4x256 at the default shape.
        weights: None, or a `.weights.h5` or `.keras` file to load.
        input_tensor: a Keras tensor of pixels to build on; its shape is the input shape.
        input_shape: `(H, W, C)` or `(H, W)`, by default (32, 32, 3); at least 8x8. Without the top, H and W
            may be None.
        pooling: with `include_top=False`, None, "avg" or "max".
        classes: number of logits.
        classifier_activation: activation of the last layer; None gives raw logits.
        name: name of the model.

    Raises:
        ValueError: an `input_shape` that is no image shape, too small, or of unknown size where the map is
            flattened; an unknown `pooling`; or a `weights` file that does not fit.

    Reference: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    2014, https://arxiv.org/abs/1409.1556, for the stages; the dropout after every convolution is the collection's.
    """
    inputs = image_input(
        input_tensor,
        input_shape,
        default=(32, 32, 3),
        smallest=8,  # three pools halve it
        name=name,
        any_size=not include_top,  # the classifier reads a flattened map
    )
    x = _features(layers.Rescaling(1 / 255, name="scale_pixels")(inputs))
    if include_top:
        x = layers.Flatten(name="flatten")(x)
        x = classifier(x, classes, classifier_activation)
    else:
        x = pooled(x, pooling)
    return finished(inputs, x, weights=weights, name=name)


def _features(x):
    """The feature map: at 32x32 the stages end at 16x16x64, 8x8x128 and 4x4x256."""
    for i, width in enumerate(WIDTHS, start=1):
        for j in (1, 2):
            x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"stage{i}_conv{j}")(x)
            x = layers.Dropout(0.4, name=f"stage{i}_dropout{j}")(x)
        x = layers.MaxPooling2D(2, name=f"stage{i}_pool")(x)
    return x
