"""One decorator gives every network its signature and help, and leaves each network what it was."""

import hashlib
import inspect
import json
from pathlib import Path

import keras
import pytest

from distill.building_blocks.builder import builder
from students import STUDENTS
from teachers import TEACHERS

BUILDERS = {**TEACHERS, **STUDENTS}
# Name -> parameters, and the sha256 over kind, name and weight shapes of every layer, when each had a signature of
# its own. A file of weights that fitted then fits now.
KNOWN = json.loads((Path(__file__).parent / "networks.json").read_text())
ARGUMENTS = ["include_top", "weights", "input_tensor", "input_shape", "pooling", "classes"]
ARGUMENTS += ["classifier_activation", "name"]


@builder(
    name="tiny",
    input_shape=(8, 8, 1),
    classes=4,
    smallest=lambda crop, **_: 2 * crop + 1,
    last_map="6x6x1",
    flattens=True,
    options={"crop": "pixels cut off on every side."},
)
def tiny(x, top, *, crop=1):
    """A crop and a dense layer."""
    x = keras.layers.Cropping2D(crop)(x)
    return x if top is None else top(keras.layers.Flatten()(x), use_bias=False)


def laid_out(model) -> list:
    layers = [
        [type(layer).__name__, layer.name, [list(weight.shape) for weight in layer.weights]] for layer in model.layers
    ]
    return [model.count_params(), hashlib.sha256(json.dumps(layers).encode()).hexdigest()]


@pytest.mark.parametrize("name", BUILDERS)
def test_every_network_is_what_it_was(name):
    with keras.StatelessScope(initialize_variables=False):  # shapes without values
        assert laid_out(BUILDERS[name]()) == KNOWN[name]


def test_every_network_is_known():
    assert KNOWN.keys() == BUILDERS.keys()


@pytest.mark.parametrize("name", BUILDERS)
def test_signature_and_help_are_those_of_keras_applications(name):
    parameters = inspect.signature(BUILDERS[name]).parameters
    of_keras = inspect.signature(keras.applications.MobileNetV2).parameters
    assert list(parameters)[: len(ARGUMENTS)] == ARGUMENTS
    assert set(ARGUMENTS) <= set(of_keras)
    assert parameters["name"].default == name
    assert parameters["classifier_activation"].default is None
    text = inspect.getdoc(BUILDERS[name])
    for argument in parameters:
        assert f"\n    {argument}: " in text
    assert max(map(len, text.splitlines())) <= 118


def test_options_and_facts_of_a_builder_stand_in_its_signature_and_help():
    assert str(inspect.signature(tiny)).endswith("classes=4, classifier_activation=None, name='tiny', *, crop=1)")
    assert tiny.__name__ == "tiny"
    assert tiny.__doc__.startswith("A crop and a dense layer.\n\nPixels in are 0..255")
    assert "by default (8, 8, 1); at least 3x3." in tiny.__doc__
    assert "    crop: pixels cut off on every side.\n" in tiny.__doc__


def test_options_reach_the_layers_and_the_smallest_size():
    assert tiny(crop=3).count_params() == 2 * 2 * 4
    assert tiny(include_top=False).output_shape == (None, 6, 6, 1)
    assert tiny(include_top=False, pooling="avg", input_shape=(None, None)).output_shape == (None, 1)
    with pytest.raises(ValueError, match="tiny needs images of at least 7x7"):
        tiny(crop=3, input_shape=(6, 9))
    with pytest.raises(ValueError, match="needs a fixed height and width to flatten"):
        tiny(input_shape=(None, None))
    with pytest.raises(TypeError, match="unexpected keyword argument 'cropp'"):
        tiny(cropp=1)
