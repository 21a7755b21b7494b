"""ResNet: six units with convolutions for shortcuts, of the CNN teaching collection."""

from dataclasses import dataclass

from keras import layers

from distill.building_blocks.conventions import classifier, finished, image_input, pooled


@dataclass(frozen=True)
class Unit:
    """What tells one unit from another."""

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


def ResNet(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=100,
    classifier_activation=None,
    name="resnet",
):
    """Residual network of six units, 68,671,236 parameters at its default shape and classes.

    All but 1.6 M of them are in a dense layer of 4096 units that reads the flattened map; they grow with the area
    of the image, to 152.2 M at 48x48x1 and 463.6 M at 84x84x1. No convolution drops its bias, although a
    normalisation follows each: the published count has them.

    Pixels in are 0..255, `[B, H, W, C]`; the model scales them. Raw logits `[B, classes]` come out, since a
    distillation needs them: pass `classifier_activation="softmax"` for probabilities.

    Args:
        include_top: False ends at the last feature map, 8x8x256 at the default shape.
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

    Reference: He et al., "Deep Residual Learning for Image Recognition", 2015,
    https://arxiv.org/abs/1512.03385, for the sum; the units, pools and dropout are the collection's.
    """
    inputs = image_input(
        input_tensor,
        input_shape,
        default=(32, 32, 3),
        smallest=4,  # two pools halve it
        name=name,
        any_size=not include_top,  # the dense layer reads a flattened map
    )
    x = _features(layers.Rescaling(1 / 255, name="scale_pixels")(inputs))
    if include_top:
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dropout(0.4, name="dropout1")(x)
        x = layers.Dense(4096, activation="relu", name="dense")(x)
        x = layers.Dropout(0.23, name="dropout2")(x)
        x = classifier(x, classes, classifier_activation)
    else:
        x = pooled(x, pooling)
    return finished(inputs, x, weights=weights, name=name)


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
