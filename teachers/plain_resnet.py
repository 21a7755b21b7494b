"""Plain residual networks for small faces, of several sizes: strong teachers, and a quick one for a demo.

Its units and their sources stand in `distill/building_blocks/residual_units.py`.
"""

from distill.building_blocks.residual_units import Variant, build

PLAIN_RESNET = Variant(stem=32, widths=(40, 40, 80, 160, 320), strides=(1, 1, 2, 2, 2, 2), units=2, dropout=0.3)
# The widths of He et al.'s ResNet-18. A stem of stride 2 in place of its 7x7 and pool: wide layers at half resolution
# cost a CPU half as much per multiply-add as narrow ones at full resolution.
RESNET18 = Variant(stem=64, widths=(64, 128, 256, 512), strides=(2, 1, 2, 2, 2), units=2, dropout=0.3)
RESNET10 = Variant(stem=64, widths=(64, 128, 256, 512), strides=(2, 1, 2, 2, 2), units=1, dropout=0.3)
PLAIN_RESNET_TINY = Variant(stem=16, widths=(16, 32, 64), strides=(2, 2, 2, 2), units=1, dropout=0.1)


def PlainResNet(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=7,
    classifier_activation=None,
    name="plain_resnet",
):
    """Plain residual network of ten units, 4,431,463 parameters at its default shape.

    Pixels in are 0..255, `[B, H, W, C]`; the model scales them. Raw logits `[B, classes]` come out, since a
    distillation needs them: pass `classifier_activation="softmax"` for probabilities.

    Args:
        include_top: False ends at the last feature map, 3x3x320 at the default shape.
        weights: None, or a `.weights.h5` or `.keras` file to load.
        input_tensor: a Keras tensor of pixels to build on; its shape is the input shape.
        input_shape: `(H, W, C)` or `(H, W)`, by default (48, 48, 1); any size works. H and W may be None.
        pooling: with `include_top=False`, None, "avg" or "max".
        classes: number of logits.
        classifier_activation: activation of the last layer; None gives raw logits.
        name: name of the model.

    Raises:
        ValueError: an `input_shape` that is no image shape, an unknown `pooling`, or a `weights` file that
            does not fit.
    """
    return build(
        PLAIN_RESNET,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
    )


def PlainResNetTiny(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=7,
    classifier_activation=None,
    name="plain_resnet_tiny",
):
    """Plain residual network of three units, 78,551 parameters; its last feature map is 3x3x64.

    Arguments, values and errors are those of `PlainResNet`.
    """
    return build(
        PLAIN_RESNET_TINY,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
    )


def ResNet18(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=7,
    classifier_activation=None,
    name="resnet18",
):
    """ResNet-18 for small faces, 11,180,871 parameters; its last feature map is 3x3x512 at 48x48.

    Arguments, values and errors are those of `PlainResNet`.
    """
    return build(
        RESNET18,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
    )


def ResNet10(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=7,
    classifier_activation=None,
    name="resnet10",
):
    """`ResNet18` with one unit a stage, 4,906,311 parameters.

    Arguments, values and errors are those of `PlainResNet`.
    """
    return build(
        RESNET10,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
    )
