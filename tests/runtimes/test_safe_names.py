"""Networks with names that TensorFlow cannot take run, and are exported, under others."""

import keras
import numpy as np
import pytest

from distill.exporting.graph import probabilities_network
from distill.exporting.litert import litert_flatbuffer
from distill.runtimes.keras_file import load_network
from distill.runtimes.safe_names import give_safe_names, safe_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet-18", "resnet-18"),
        ("a b", "a_b"),
        ("-rf", "rf"),
        ("😀", "network"),
        ("é$", "network"),
        ("a" * 300, "a" * 100),
    ],
)
def test_a_name_is_kept_where_it_can_be(name, expected):
    assert safe_name(name) == expected


def test_such_a_network_is_loaded_run_and_exported(tmp_path):
    keras.utils.set_random_seed(0)
    pixels = keras.Input((8, 8, 1), name="the pixels")
    each = keras.layers.Conv2D(2, 3, name="a b")(pixels)
    each = keras.layers.GlobalAveragePooling2D(name="a_b")(each)
    network = keras.Model(pixels, keras.layers.Dense(3, name="-rf")(each), name="my network 😀")
    weights = network.get_weights()
    network.save(tmp_path / "network.keras")
    loaded = load_network(tmp_path / "network.keras")
    assert loaded.name == "my_network_"
    assert [layer.name for layer in loaded.layers] == ["the_pixels", "a_b_2", "a_b", "rf"]
    for ours, theirs in zip(loaded.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert loaded.predict_on_batch(np.zeros((1, 8, 8, 1))).shape == (1, 3)
    assert litert_flatbuffer(probabilities_network(loaded), "float32")


def test_names_that_tensorflow_takes_stay():
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="logits.1")], name="plain-2")
    give_safe_names(network)
    assert (network.name, network.layers[0].name) == ("plain-2", "logits.1")
