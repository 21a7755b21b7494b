"""DeXpression: two blocks of parallel feature extraction on 224x224 faces, as its Keras port builds them."""

from keras import layers

from distill.building_blocks.builder import builder


@builder(
    name="dexpression",
    input_shape=(224, 224, 3),
    classes=7,
    smallest=lambda padding, **_: 5 if padding == "same" else 43,
    flattens=True,
    last_map="55x55x272",
    options={
        "padding": '"same" or "valid", for every layer but the first pool, which never pads. "valid" needs images of '
        'at least 43x43, and `wiring="paper"`: the port joins maps that have lost different borders.',
        "wiring": 'what `conv_3c` reads. "port": `maxpool_2a`, the pool of block 2\'s input. "paper": a pool of '
        "block 2's output, as the paper wires it; all else is the port's, so it is a corrected port.",
    },
)
def DeXpression(x, top, *, padding="same", wiring="port"):
    """DeXpression as ported to Keras, 6,169,943 parameters, or 6,183,255 where its wiring is corrected.

    Neither is the network as published: that pools with stride 2 after each block (55 to 27 to 13), has ReLU behind
    every convolution, and local response normalisation instead of batch normalisation.

    Reference: Burkert et al., "DeXpression: Deep Convolutional Neural Network for Expression Recognition",
    2015, https://arxiv.org/abs/1509.05371.
    """
    _check_wiring(padding, wiring)
    x = _features(layers.Rescaling(1 / 255, name="scale_pixels")(x), padding, wiring)
    if top is None:
        return x
    return top(layers.Flatten(name="flatten")(x))


def _check_wiring(padding, wiring):
    if wiring not in ("port", "paper"):
        raise ValueError(f"wiring must be 'port' or 'paper'. Received: wiring={wiring!r}")
    if padding not in ("same", "valid"):
        raise ValueError(f"padding must be 'same' or 'valid'. Received: padding={padding!r}")
    if padding == "valid" and wiring == "port":
        raise ValueError(f"padding='valid' needs wiring='paper'. Received: wiring={wiring!r}")


def _features(x, padding, wiring):
    """The feature map: 55x55x272 at 224x224 with padding "same"."""
    x = _conv(x, 64, 7, padding, "conv_1", strides=2)
    x = layers.MaxPooling2D(3, 2, padding="valid", name="maxpool_1")(x)
    x = layers.BatchNormalization(name="norm_1")(x)

    maxpool_2a = layers.MaxPooling2D(3, 1, padding, name="maxpool_2a")(x)
    maxpool_2b = _block(x, maxpool_2a, padding, "2")
    if wiring == "port":
        maxpool_3a = maxpool_2a
    else:
        maxpool_3a = layers.MaxPooling2D(3, 1, padding, name="maxpool_3a")(maxpool_2b)
    return _block(maxpool_2b, maxpool_3a, padding, "3")


def _block(x, pooled_x, padding, number):
    """Two convolutions of `x` in parallel with a linear one of a pool; joined, and pooled."""
    x = _conv(x, 96, 1, padding, f"conv_{number}a")
    x = _conv(x, 208, 3, padding, f"conv_{number}b")
    y = layers.Conv2D(64, 1, name=f"conv_{number}c")(pooled_x)
    x = layers.Concatenate(name=f"concat_{number}")([x, y])
    return layers.MaxPooling2D(3, 1, padding, name=f"maxpool_{number}b")(x)


def _conv(x, filters, kernel, padding, name, strides=1):
    return layers.Conv2D(filters, kernel, strides, padding, activation="relu", name=name)(x)
