"""`SlimResNet`: a residual student of our own. It knows more per byte than MicroExpNet, and takes longer per face.

Its units and their sources stand in `distill/building_blocks/residual_units.py`. A stem that halves the picture at
once, and no unit at that size, keep it near the cost of MicroExpNet.
"""

from distill.building_blocks.conventions import checked_keep_prob
from distill.building_blocks.residual_units import Variant, build

_STEM_AND_STAGES = {"stem": 24, "stem_kernel": 5, "widths": (48, 96), "strides": (2, 2, 2), "units": 1}


def SlimResNet(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=7,
    classifier_activation=None,
    name="slim_resnet",
    *,
    keep_prob=0.8,
    pixel_scale=1 / 255,
):
    """Residual network of two units, 164,383 parameters at its default shape.

    Pixels in are 0..255, `[B, H, W, C]`; the model scales them. Raw logits `[B, classes]` come out, since a
    distillation needs them: pass `classifier_activation="softmax"` for probabilities.

    Args:
        include_top: False ends at the last feature map, 6x6x96 at the default shape.
        weights: None, or a `.weights.h5` or `.keras` file to load.
        input_tensor: a Keras tensor of pixels to build on; its shape is the input shape.
        input_shape: `(H, W, C)` or `(H, W)`, by default (48, 48, 1); any size works. H and W may be None.
        pooling: with `include_top=False`, None, "avg" or "max".
        classes: number of logits.
        classifier_activation: activation of the last layer; None gives raw logits.
        name: name of the model.
        keep_prob: share of the averaged features that dropout keeps in training, above 0 and up to 1.
        pixel_scale: what pixels are multiplied by, above 0; the first batch norm makes little depend on it.

    Raises:
        ValueError: an `input_shape`, `pooling`, `keep_prob` or `pixel_scale` out of range, or a `weights` file that
            does not fit.
    """
    variant = Variant(**_STEM_AND_STAGES, dropout=1 - checked_keep_prob(keep_prob))
    return build(
        variant,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
        pixel_scale=pixel_scale,
    )
