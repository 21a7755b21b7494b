"""One tiny network of five layers, and every way to write it down."""

import os

import keras
import numpy as np
import pytest

from distill.errors import InputError

SHAPE, CLASSES = (8, 6, 3), 4
layers = keras.layers


@pytest.fixture(scope="session")
def plain() -> keras.Model:
    """Formatted pixels [B, 8, 6, 3] -> logits of four classes; its norm has lived."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(5, 3, use_bias=False, name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.ReLU(name="relu")(x))
    model = keras.Model(inputs, layers.Dense(CLASSES, name="dense")(x), name="plain")
    rng = np.random.default_rng(0)
    model.get_layer("norm").set_weights([rng.uniform(0.5, 1.5, 5) for _ in range(4)])
    model.get_layer("dense").set_weights([rng.normal(0, 1, (5, CLASSES)), rng.normal(0, 1, CLASSES)])
    return model


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, (7, *SHAPE)).astype(np.float32)


@pytest.fixture
def in_tmp_path(tmp_path):
    """Run the test in an empty folder."""
    before = os.getcwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(np.float64(logits) - np.float64(logits).max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def refusal(function, *args, **kwargs) -> str:
    """Return the message with which a call is refused, one line."""
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)
