"""A small trained student and real-looking faces to export it with."""

import keras
import numpy as np
import pytest

from distill.data.splits import with_splits
from distill.data.synthetic_faces import synthetic_faces
from students import MicroExpNet


@pytest.fixture(scope="session")
def faces():
    """Synthetic faces with splits."""
    return with_splits(synthetic_faces(count=240, classes=7, seed=0))


@pytest.fixture(scope="session")
def student(faces) -> keras.Model:
    """A student that has learned a little, and is very sure of it."""
    keras.utils.set_random_seed(0)
    network = MicroExpNet(classes=7, input_shape=(32, 32), pixel_scale=1 / 64, name="small")
    network.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    part = faces.split("train")
    pixels = keras.ops.image.resize(part.read(np.arange(len(part))).astype(np.float32), (32, 32))
    network.fit(pixels, part.labels, epochs=20, verbose=0)
    last = network.layers[-1]
    last.set_weights([6 * weight for weight in last.get_weights()])
    return network
