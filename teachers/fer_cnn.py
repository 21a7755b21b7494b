"""FER CNN: the four-stage network of a widely used Keras notebook on FER2013."""

from keras import layers

from distill.building_blocks.conventions import classifier, finished, image_input, pooled

STAGES = ((64, 3), (128, 5), (512, 3), (512, 3))  # filters, kernel
DENSE = (256, 512)
DROPOUT = 0.25


def FERCNN(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=7,
    classifier_activation=None,
    name="fer_cnn",
):
    """FER CNN, 4,478,727 parameters at its default shape.

    Pixels in are 0..255, `[B, H, W, C]`; they reach the first convolution unscaled, as published, and the batch
    normalisation behind it scales them. Raw logits `[B, classes]` come out, since a distillation needs them: pass
    `classifier_activation="softmax"` for probabilities.

    Args:
        include_top: False ends at the last feature map, 3x3x512 at the default shape.
        weights: None, or a `.weights.h5` or `.keras` file to load.
        input_tensor: a Keras tensor of pixels to build on; its shape is the input shape.
        input_shape: `(H, W, C)` or `(H, W)`, by default (48, 48, 1); at least 16x16.
        pooling: with `include_top=False`, None, "avg" or "max".
        classes: number of logits.
        classifier_activation: activation of the last layer; None gives raw logits.
        name: name of the model.

    Raises:
        ValueError: an `input_shape` too small, an unknown `pooling`, or a `weights` file that does not fit.

    Source: the notebook "Facial Expression Recognition with Keras": 63.5 % on the 7,178 test images of FER2013
    after 15 epochs.
    """
    inputs = image_input(
        input_tensor,
        input_shape,
        default=(48, 48, 1),
        smallest=16,  # four pools halve the map
        name=name,
        any_size=not include_top,  # the dense layers read a flattened map
    )
    x = inputs
    for i, (filters, kernel) in enumerate(STAGES, start=1):
        x = layers.Conv2D(filters, kernel, padding="same", name=f"stage{i}_conv")(x)
        x = _norm_relu(x, f"stage{i}")
        x = layers.MaxPooling2D(2, name=f"stage{i}_pool")(x)
        x = layers.Dropout(DROPOUT, name=f"stage{i}_dropout")(x)
    if include_top:
        x = layers.Flatten(name="flatten")(x)
        for i, units in enumerate(DENSE, start=1):
            x = _norm_relu(layers.Dense(units, name=f"dense{i}")(x), f"dense{i}")
            x = layers.Dropout(DROPOUT, name=f"dense{i}_dropout")(x)
        x = classifier(x, classes, classifier_activation)
    else:
        x = pooled(x, pooling)
    return finished(inputs, x, weights=weights, name=name)


def _norm_relu(x, name):
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
