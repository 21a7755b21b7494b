"""FER CNN: the four-stage network of a widely used Keras notebook on FER2013."""

from keras import layers

from distill.building_blocks.builder import builder

STAGES = ((64, 3), (128, 5), (512, 3), (512, 3))  # filters, kernel
DENSE = (256, 512)
DROPOUT = 0.25


@builder(
    name="fer_cnn",
    input_shape=(48, 48, 1),
    classes=7,
    smallest=16,  # four pools halve the map
    flattens=True,
    last_map="3x3x512",
)
def FERCNN(x, top):
    """FER CNN, 4,478,727 parameters at its default shape.

    Pixels reach the first convolution unscaled, as published, and the batch normalisation behind it scales them.

    Source: the notebook "Facial Expression Recognition with Keras": 63.5 % on the 7,178 test images of FER2013
    after 15 epochs, 64.0 % in its best one.
    """
    for i, (filters, kernel) in enumerate(STAGES, start=1):
        x = layers.Conv2D(filters, kernel, padding="same", name=f"stage{i}_conv")(x)
        x = _norm_relu(x, f"stage{i}")
        x = layers.MaxPooling2D(2, name=f"stage{i}_pool")(x)
        x = layers.Dropout(DROPOUT, name=f"stage{i}_dropout")(x)
    if top is None:
        return x
    x = layers.Flatten(name="flatten")(x)
    for i, units in enumerate(DENSE, start=1):
        x = _norm_relu(layers.Dense(units, name=f"dense{i}")(x), f"dense{i}")
        x = layers.Dropout(DROPOUT, name=f"dense{i}_dropout")(x)
    return top(x)


def _norm_relu(x, name):
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
