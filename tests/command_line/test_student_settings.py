"""Which network the student's flags build, and what they are refused with."""

import dataclasses
import re

import keras
import numpy as np
import pytest
import tyro

from distill.command_line.literals import parse_literal
from distill.command_line.stage import outline, settings_from_dict
from distill.command_line.student_settings import StudentSettings
from distill.command_line.student_training import TrainStudentSettings
from distill.errors import InputError
from distill.refusals import flag
from students import STUDENTS

MODULE = """
import keras
from keras import layers

def small(classes, width=4, kernel=(3, 3), name="small"):
    pixels = keras.Input((12, 12, 1))
    x = layers.Rescaling(1 / 255)(pixels)
    x = layers.Conv2D(width, kernel, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, layers.Dense(classes)(x), name=name)

def of_seven(input_shape=(12, 12)):
    return keras.Sequential([keras.Input((*input_shape, 1)), layers.Flatten(), layers.Dense(7)])

def takes_anything(**options):
    return small(options.pop("classes"), **options)

def softmax(classes):
    small_one = small(classes)
    return keras.Model(small_one.input, layers.Softmax()(small_one.output))

def nested(classes):
    backbone = keras.Sequential([keras.Input((12, 12, 3)), layers.Conv2D(4, 3), layers.GlobalMaxPooling2D()])
    pixels = keras.Input((12, 12, 3))
    return keras.Model(pixels, layers.Dense(classes)(backbone(pixels)))

def nothing(classes):
    pass

def fails(classes):
    raise RuntimeError("no such luck")

class Own(keras.Model):
    def __init__(self, classes):
        super().__init__()
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


def build(student, **settings):
    return StudentSettings(**settings).build_student(student, 7)


def test_a_function_from_elsewhere_is_called_with_what_was_given_and_no_more():
    assert build("own_networks:small").layers[2].filters == 4
    network = build("own_networks:small", student_options={"width": 5, "kernel": [1, 2], "name": "mine"})
    assert (network.layers[2].kernel.shape, network.name) == ((1, 2, 1, 5), "mine")
    assert build("own_networks:takes_anything", student_options={"width": 9}).layers[2].filters == 9
    assert build("own_networks:of_seven").output_shape == (None, 7)
    assert build("own_networks:of_seven", image_size=8).input_shape == (None, 8, 8, 1)


def test_a_network_of_keras_applications():
    options = {"weights": None, "classifier_activation": None, "input_shape": (32, 32, 3), "alpha": 0.35}
    network = build("keras.applications:MobileNetV2", student_options=options)
    assert (network.input_shape, network.output_shape) == ((None, 32, 32, 3), (None, 7))


@pytest.mark.parametrize(("name", "keep_prob", "scale"), [("microexpnet", 0.5, None), ("slim_resnet", 0.8, 1 / 255)])
def test_defaults_are_those_of_the_network(name, keep_prob, scale):
    network = build(name)
    assert network.get_layer("dropout").rate == pytest.approx(1 - keep_prob)
    scales = [layer.scale for layer in network.layers if layer.name == "scale_pixels"]
    assert scales == ([] if scale is None else [scale])


def test_options_of_our_own_networks():
    network = build(
        "microexpnet", student_options={"keep_prob": 0.8, "pixel_scale": 1 / 16, "input_shape": [32, 32, 3]}
    )
    assert network.input_shape == (None, 32, 32, 3)
    assert network.get_layer("dropout").rate == pytest.approx(0.2)
    assert network.get_layer("scale_pixels").scale == 1 / 16


@pytest.mark.parametrize(
    ("student", "settings", "message"),
    [
        ("microexpnett", {}, 'unknown network "microexpnett": did you mean microexpnet'),
        ("microexpnet", {"student_options": {"keep_prb": 1}}, 'has no option "keep_prb": did you mean keep_prob?'),
        ("microexpnet", {"student_options": {"keep_prob": 0}}, "built with keep_prob=0: keep_prob must be above 0"),
        ("microexpnet", {"student_options": {"keep_prob": "much"}}, "cannot be built with keep_prob='much': "),
        ("microexpnet", {"student_options": {"classes": 3}}, "the data says how many classes microexpnet must have"),
        ("microexpnet", {"student_options": {"include_top": False}}, "[84, 84, 1] and gives [6, 6, 32], expect"),
        ("microexpnet", {"image_size": 9, "student_options": {"input_shape": (9, 9)}}, "say the same: give one"),
        ("microexpnet", {"policy": "float16"}, 'unknown numeric policy "float16": did you mean float32 or mixed_'),
        ("own_networks:small", {"student_options": {"widht": 1}}, 'has no option "widht": did you mean width?'),
        ("own_networks:small", {"image_size": 9}, "small takes no input_shape, so its image size is its own"),
        ("own_networks:smal", {}, "has no function smal"),
        ("own_nets:small", {}, "own_nets:small cannot be imported"),
        ("own_networks:nothing", {}, "own_networks:nothing returned NoneType, expected a network, a keras.Model"),
        ("own_networks:nothing", {"student_options": {"x": 1}}, 'has no option "x": it takes none'),
        ("own_networks:fails", {}, "own_networks:fails cannot be built: no such luck"),
        ("own_networks:softmax", {}, "ends in Softmax: omit it"),
        ("own_networks:Own", {}, "is a Python class of its own, or has not seen an image: build it of Keras layers"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused_in_one_line(student, settings, message):
    with pytest.raises(InputError) as refused:
        build(student, **settings)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("student", "computes_in"),
    [
        ("own_networks:small", {"bfloat16", "float32"}),
        ("own_networks:of_seven", {"float32"}),  # a layer that gives the logits, and nothing else
        ("own_networks:nested", {"bfloat16", "float32"}),
        ("microexpnet", {"bfloat16", "float32"}),
    ],
)
def test_half_precision_keeps_weights_and_logits_in_float32(student, computes_in, tmp_path):
    networks = []
    for policy in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(1)
        networks.append(build(student, policy=policy))
    whole, half = networks
    assert keras.config.dtype_policy().name == "float32"
    assert {str(weight.dtype) for weight in half.weights} == {"float32"}
    assert {layer.compute_dtype for layer in half.layers if layer.weights} == computes_in
    pixels = np.random.default_rng(0).uniform(0, 255, (4, *half.input_shape[1:])).astype(np.float32)
    expected, logits = (np.asarray(network(pixels)) for network in (whole, half))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=0.02 * np.abs(expected).max())
    # 16 bits would leave the last 16 of 32 at zero.
    assert np.any(logits.view(np.uint32) & 0xFFFF)
    half.save(tmp_path / "half.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "half.keras")(pixels), logits)


@pytest.mark.parametrize("student", STUDENTS)
def test_every_student_computes_in_half_precision_all_but_its_logits(student):
    computing = [layer for layer in build(student, policy="mixed_bfloat16").layers if layer.weights]
    assert {layer.compute_dtype for layer in computing} == {"bfloat16", "float32"}
    assert computing[-1].compute_dtype == "float32"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.8", 0.8), ("-1", -1), ("None", None), ("True", True), ("(48, 48, 3)", (48, 48, 3)), ("relu", "relu"),
        ("'relu'", "relu"), ("{'a': [1]}", {"a": [1]}), ("1e-3", 1e-3), ("a b", "a b"), ("", ""),
    ],
)  # fmt: skip
def test_values_are_python_literals(text, value):
    assert parse_literal(text) == value
    settings = tyro.cli(StudentSettings, args=["--student-options", "x", text, "y", "1"])
    assert settings.student_options == {"x": value, "y": 1}


@pytest.mark.parametrize("text", ["b'bytes'", "{1, 2}", "1e999", "3j"])
def test_what_no_record_can_hold_is_no_value(text):
    with pytest.raises(InputError, match="cannot stand in a record"):
        parse_literal(text)


def test_options_from_a_file_are_those_of_the_flags():
    stored = settings_from_dict(StudentSettings, {"student_options": {"kernel": [1, 2], "width": 3}})
    network = stored.build_student("own_networks:small", 7)
    assert network.layers[2].kernel.shape == (1, 2, 1, 3)


def test_help_names_what_matters_first_and_every_flag_in_a_group():
    first, *groups = outline(TrainStudentSettings)
    assert len(TrainStudentSettings.first_flags) == 10
    assert first.startswith("What matters first: --data, --logits, --student")
    listed = re.findall(r"--[\w-]+", " ".join(groups))
    assert sorted(listed) == sorted(f"--{flag(field.name)}" for field in dataclasses.fields(TrainStudentSettings))
