"""Networks that Keras 2 saved give what Keras 2 computes: `tf_keras` writes them, and says the right values."""

import hashlib
import io
import json
import re
import zipfile
from collections import Counter
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from distill.runtimes.image_model import BEFORE_SOFTMAX, LOGITS
from distill.runtimes.input_format import InputFormat
from distill.runtimes.open_model import open_model
from tests.runtimes.conftest import refusal, softmax

tf_keras = pytest.importorskip("tf_keras", reason="tf_keras, which writes the files of Keras 2, is not installed")
tf = pytest.importorskip("tensorflow")
old = tf_keras.layers

SHAPE, CLASSES = (12, 10, 3), 4
FORMS = (".h5", ".keras", ".json")
DEEP = 1e-3  # what roundings of a hundred layers add up to, with sums taken in another order


def lived(model, seed=0):
    """Give every weight a value of its own, so that no two can be confused, and outputs of moderate size."""
    rng = np.random.default_rng(seed)

    def drawn(shape):
        if len(shape) < 2:
            return rng.uniform(0.5, 1.5, shape)
        return rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape)

    *weights, kernel, bias = (drawn(weight.shape) for weight in model.get_weights())
    model.set_weights([*weights, 0.02 * kernel, bias])
    return model


def saved(model, folder, form) -> str:
    """Save a network of Keras 2 in one of the `FORMS`, and return the path of the file to open."""
    if form == ".json":
        (folder / "net.json").write_text(model.to_json())
        model.save_weights(folder / "net.h5")
    else:
        model.save(folder / f"net{form}")
    return str(folder / f"net{form}")


def check_same(model, source, *, tolerance=1e-4):
    """Check that the network in a file gives what `model` gives, which ends in a softmax or in logits."""
    opened = open_model(source)
    rng = np.random.default_rng(1)
    pixels = np.float32(rng.uniform(0, 255, (5, *opened.input_shape)) * rng.uniform(0, 1, (5, 1, 1, 1)))
    expected, logits = np.float32(model.predict(pixels, verbose=0)), opened.predict(pixels)
    if opened.logits_from != LOGITS:
        logits = softmax(logits)
    np.testing.assert_allclose(logits, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
    assert np.ptp(expected, axis=0).max() > 1e-3 * np.abs(expected).max(), "the images make no difference"


def classifier(*layers, shape=SHAPE, head=None):
    return lived(
        tf_keras.Sequential([old.Input(shape), *layers, old.GlobalAveragePooling2D(), head or old.Dense(CLASSES)])
    )


def functional(between, shape=SHAPE):
    inputs = old.Input(shape)
    outputs = old.Dense(CLASSES)(old.GlobalAveragePooling2D()(between(inputs)))
    return lived(tf_keras.Model(inputs, outputs))


def conv(filters=4, **settings):
    return old.Conv2D(filters, 3, padding="same", **settings)


LAYERS = {
    "an activation that means another since": lambda: [old.Rescaling(1 / 64, -2), conv(activation="hard_sigmoid")],
    "the same as a layer": lambda: [old.Rescaling(1 / 64, -2), conv(), old.Activation("hard_sigmoid")],
    "an activation of TensorFlow": lambda: [conv(activation=tf.nn.relu6), conv(activation=tf.nn.swish)],
    "slopes": lambda: [conv(), old.LeakyReLU(0.3), conv(), old.LeakyReLU(alpha=0.1), conv(), old.ELU(alpha=0.7)],
    "thresholds": lambda: [conv(), old.ReLU(6.0, 0.1, 0.5), old.ThresholdedReLU(2.0), old.PReLU(shared_axes=[1, 2])],
    "norms": lambda: [old.BatchNormalization(axis=-1), conv(), old.LayerNormalization(), old.GroupNormalization(2)],
    "a norm of one scale": lambda: [old.BatchNormalization(scale=False), conv(), old.UnitNormalization()],
    "a norm for many replicas": lambda: [conv(), old.BatchNormalization(synchronized=True)],
    "statistics": lambda: [old.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0]), conv()],
    "convolutions": lambda: [
        old.SeparableConv2D(4, 3, depth_multiplier=2, strides=1, dilation_rate=2, padding="same"),
        old.DepthwiseConv2D(3, depth_multiplier=2, activation="relu"),
        old.Conv2D(6, 3, groups=2),
        old.Conv2DTranspose(4, 3, strides=2, padding="same", output_padding=1),
    ],
    "regularised": lambda: [
        conv(
            kernel_regularizer="l2",
            activity_regularizer=tf_keras.regularizers.l1_l2(0.1),
            kernel_constraint="max_norm",
        ),
        conv(kernel_initializer=tf_keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")),
        old.ActivityRegularization(0.1),
    ],
    "left out in use": lambda: [
        old.RandomFlip("horizontal", seed=1),
        old.RandomRotation(0.1),
        old.RandomZoom(0.1),
        old.RandomTranslation(0.1, 0.1),
        old.RandomContrast(0.1),
        old.RandomBrightness(0.1),
        old.RandomHeight(0.1),
        old.RandomWidth(0.1),
        old.GaussianNoise(0.1),
        conv(),
        old.Dropout(0.5, noise_shape=(None, 1, 1, 4), seed=3),
        old.SpatialDropout2D(0.5),
        old.GaussianDropout(0.5),
        old.AlphaDropout(0.5),
    ],
    "shapes": lambda: [
        old.Resizing(9, 7),
        old.CenterCrop(8, 6),
        old.ZeroPadding2D((1, 2)),
        old.Cropping2D(1),
        old.UpSampling2D(2, interpolation="bilinear"),
        old.AveragePooling2D(3, 2, padding="same"),
        old.MaxPooling2D(2, padding="same"),
        old.Permute((2, 1, 3)),
        old.Reshape((-1, 4, 3)),
    ],
    "rows read one after the other": lambda: [
        old.Reshape((12, 30)),
        old.Bidirectional(old.LSTM(3, return_sequences=True)),
        old.GRU(3, return_sequences=True),
        old.SimpleRNN(3, return_sequences=True),
        old.TimeDistributed(old.Dense(6)),
        old.Reshape((6, 4, 3)),
    ],
    "recurrence of older releases": lambda: [
        old.Rescaling(1 / 64, -2),
        old.Reshape((12, 30)),
        old.LSTM(4, return_sequences=True, recurrent_activation="hard_sigmoid"),
        old.GRU(4, return_sequences=True, reset_after=False),
        old.Reshape((6, 8, 1)),
    ],
    "half precision": lambda: [conv(dtype="mixed_float16"), old.BatchNormalization(dtype="mixed_float16")],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_layers(tmp_path, name, form):
    model = classifier(*LAYERS[name]())
    check_same(model, saved(model, tmp_path, form), tolerance=3e-3 if name == "half precision" else 1e-4)


def test_every_layer_that_both_have_can_be_read():
    """No setting that `tf_keras` writes by default is one that stops Keras 3."""
    from distill.runtimes.keras2 import translate

    given = {
        "Conv1D": (4, 3), "Conv2D": (4, 3), "Conv3D": (4, 3), "Conv1DTranspose": (4, 3), "Conv2DTranspose": (4, 3),
        "Conv3DTranspose": (4, 3), "SeparableConv1D": (4, 3), "SeparableConv2D": (4, 3), "DepthwiseConv1D": (3,),
        "DepthwiseConv2D": (3,), "ConvLSTM1D": (4, 3), "ConvLSTM2D": (4, 3), "ConvLSTM3D": (4, 3), "Dense": (4,),
        "LSTM": (4,), "GRU": (4,), "SimpleRNN": (4,), "MultiHeadAttention": (2, 4), "EinsumDense": ("ab,bc->ac", 4),
        "Embedding": (4, 3), "Dropout": (0.5,), "SpatialDropout1D": (0.5,), "SpatialDropout2D": (0.5,),
        "SpatialDropout3D": (0.5,), "GaussianNoise": (0.5,), "GaussianDropout": (0.5,), "AlphaDropout": (0.5,),
        "RandomCrop": (4, 4), "RandomRotation": (0.1,), "RandomZoom": (0.1,), "RandomTranslation": (0.1, 0.1),
        "RandomContrast": (0.1,), "RandomBrightness": (0.1,), "RandomHeight": (0.1,), "RandomWidth": (0.1,),
        "Resizing": (4, 4), "CenterCrop": (4, 4), "Rescaling": (2.0,), "Reshape": ((4,),), "Permute": ((1, 2),),
        "RepeatVector": (2,), "Activation": ("relu",), "Dot": (1,),
    }  # fmt: skip
    none = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract", "Attention", "Flatten",
            "AdditiveAttention", "BatchNormalization", "LayerNormalization", "GroupNormalization", "Normalization",
            "UnitNormalization", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "ThresholdedReLU", "InputLayer",
            "Identity", "Masking", "RandomFlip", "UpSampling2D", "ZeroPadding2D", "Cropping2D", "MaxPooling2D",
            "AveragePooling2D", "GlobalMaxPooling2D", "GlobalAveragePooling2D", "ActivityRegularization")  # fmt: skip
    for name in (*given, *none):
        arguments = given.get(name, ((3,),) if name == "InputLayer" else ())
        layer = getattr(old, name)(*arguments)
        described = json.loads(json.dumps(tf_keras.layers.serialize(layer), default=float))
        translated = translate(described, old=True)
        built = keras.saving.deserialize_keras_object(translated)
        assert built.name == layer.name


def test_what_a_network_of_keras_3_says_stays_as_it_is():
    from distill.runtimes.keras2 import translate

    inputs = keras.Input(SHAPE)
    nested = keras.Sequential([keras.layers.Conv2D(3, 3, activation="hard_sigmoid"), keras.layers.LeakyReLU(0.1)])
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(nested(inputs / 2 + keras.ops.mean(inputs, -1, True))))
    described = json.loads(keras.Model(inputs, outputs).to_json())
    assert translate(described, old=False) == described


OPERATIONS = {
    "scaled": lambda x: x / 127.5 - 1,
    "the other way round": lambda x: 2.0 * (1.0 - x) + (-x),
    "cast": lambda x: tf.cast(tf.cast(x, tf.float32) / 255.0, tf.float32),
    "caffe's preprocessing": lambda x: tf_keras.applications.imagenet_utils.preprocess_input(x, mode="caffe"),
    "torch's preprocessing": lambda x: tf_keras.applications.imagenet_utils.preprocess_input(x, mode="torch"),
    "tf's preprocessing": lambda x: tf_keras.applications.mobilenet.preprocess_input(x),
    "channels apart": lambda x: (x - tf.constant([1.0, 2.0, 3.0])) / tf.constant([4.0, 5.0, 6.0]),
    "slices": lambda x: x[:, 1:-1, ::2] + x[:, 2:, 1::2],
    "channels": lambda x: tf.concat([x[..., :1], x[..., ::-1], tf.reverse(x, axis=[-1])], axis=-1),
    "tensors": lambda x: x * x - tf.maximum(x, 9.0) + tf.minimum(x, 100.0),
    "functions": lambda x: tf.sqrt(tf.abs(x)) + tf.exp(-x) + tf.math.log(x + 1) + tf.square(x) + tf.pow(x, 1.5),
    "activations": lambda x: tf.nn.relu(x - 99) + tf.nn.relu6(x) + tf.sigmoid(x) + tf.tanh(x) + tf.nn.swish(x - 99),
    "more activations": lambda x: (
        tf.nn.leaky_relu(x - 99, alpha=0.1) + tf.nn.elu(x) + tf.nn.selu(x) + tf.nn.gelu(x / 99) + tf.nn.softplus(x)
    ),
    "backend": lambda x: tf_keras.backend.clip(x, 9, 99) + tf_keras.activations.relu(x - 99),
    "clipped": lambda x: tf.clip_by_value(x, 9.0, 99.0),
    "reduced": lambda x: x - tf.reduce_mean(x, axis=[1, 2], keepdims=True) + tf.reduce_max(x, axis=-1, keepdims=True),
    "summed": lambda x: tf.reduce_sum(tf.stack([x, 2 * x], axis=1), axis=1) + tf.reduce_min(x, 1, True),
    "shaped": lambda x: tf.squeeze(tf.expand_dims(tf.transpose(tf.reshape(x, [-1, 6, 20, 3]), [0, 2, 1, 3]), 1), [1]),
    "softmaxes": lambda x: (
        tf.nn.softmax(x / 99) + tf.nn.log_softmax(x / 99, axis=1) + tf.math.l2_normalize(x, axis=-1)
    ),
    "resized": lambda x: tf.image.resize(x, [7, 9]) + tf.image.resize(x, (7, 9), method="nearest"),
    "passed on": lambda x: tf.identity(x) + tf.stop_gradient(x),
}
_NO_KERAS_FORM = ("caffe's preprocessing", "channels")  # Keras 2 cannot write an ellipsis into a .keras file


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_functions_of_tensorflow_between_layers(tmp_path, name, form):
    if form == ".keras" and name in _NO_KERAS_FORM:
        pytest.skip("Keras 2 cannot write that")
    model = functional(OPERATIONS[name])
    check_same(model, saved(model, tmp_path, form))


def application(name, scale, **settings):
    """Build an application whose norms have seen a few images of -scale..scale, so that it distinguishes them."""
    settings = {"weights": None, "include_top": False, "input_shape": (48, 48, 3), **settings}
    base = getattr(tf_keras.applications, name)(**settings)
    norms = [each for each in base._flatten_layers() if isinstance(each, old.BatchNormalization)]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    rng = np.random.default_rng(0)
    base(np.float32(rng.uniform(-scale, scale, (8, 48, 48, 3)) * rng.uniform(0, 1, (8, 1, 1, 1))), training=True)
    for norm, before in zip(norms, momentum, strict=True):
        norm.momentum = before
    return base


@pytest.mark.parametrize(
    ("name", "form", "settings"),
    [("MobileNet", ".h5", {"alpha": 0.25}), ("MobileNet", ".keras", {"alpha": 0.25}), ("EfficientNetB0", ".h5", {})],
)
def test_an_application_in_a_sequential(tmp_path, name, form, settings):
    base = application(name, 255, **settings)
    base.trainable = False
    model = tf_keras.Sequential([base, old.GlobalAveragePooling2D(), old.Dropout(0.2), old.Dense(CLASSES)])
    check_same(model, saved(model, tmp_path, form), tolerance=DEEP)


@pytest.mark.parametrize(
    ("name", "form", "settings"),
    [
        ("MobileNetV2", ".h5", {"alpha": 0.35}),
        ("MobileNetV3Small", ".keras", {"alpha": 0.75, "include_preprocessing": False}),
        ("ResNet50", ".keras", {}),
        ("VGG16", ".h5", {}),
    ],
)
def test_an_application_in_a_functional_network(tmp_path, name, form, settings):
    base = application(name, 1, **settings)
    for layer in base.layers[:20]:
        layer.trainable = False
    inputs = old.Input((48, 48, 3))
    features = base(old.RandomFlip("horizontal")(inputs) / 127.5 - 1, training=False)
    model = tf_keras.Model(inputs, old.Dense(CLASSES)(old.GlobalMaxPooling2D()(features)))
    check_same(model, saved(model, tmp_path, form), tolerance=DEEP)


ACTIVATIONS = (
    "elu", "selu", "gelu", "mish", "softplus", "softsign", "exponential", "swish", "tanh", "sigmoid", "relu",
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_activations(tmp_path, form):
    def network(inputs):
        scaled = old.Rescaling(1 / 255)(inputs)
        return old.Add()([conv(activation=each)(scaled) for each in ACTIVATIONS])

    model = functional(network)
    check_same(model, saved(model, tmp_path, form))


def branch(inputs, name):
    return old.BatchNormalization(name=f"{name}/norm")(old.Conv2D(3, 1, name=f"{name}/conv")(inputs))


def test_equal_branches_are_not_confused(tmp_path):
    def network(inputs):
        second, first = branch(inputs, "z"), branch(inputs, "a")
        return old.Subtract()([old.ReLU()(first), branch(old.Concatenate()([second, inputs]), "m")])

    model = functional(network)
    inner_in = old.Input(SHAPE)
    inner = tf_keras.Model(inner_in, network(inner_in), name="inner")
    outer = functional(lambda inputs: inner(inputs))
    for each in (model, outer):
        for form in FORMS:
            check_same(each, saved(each, tmp_path, form))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_a_nested_network_that_is_called_twice(tmp_path, kind, form):
    if kind == "functional":
        inner_in = old.Input(SHAPE)
        inner = tf_keras.Model(inner_in, conv(3)(inner_in), name="inner")
    else:
        inner = tf_keras.Sequential([old.Input(SHAPE), conv(3, activation="tanh")], name="inner")
    shared = conv(3)
    model = functional(lambda inputs: old.Add()([inner(shared(inner(inputs))), shared(inputs)]))
    check_same(model, saved(model, tmp_path, form))


@pytest.mark.parametrize("form", FORMS)
def test_networks_in_networks_in_networks(tmp_path, form):
    innermost = tf_keras.Sequential([old.Input(SHAPE), conv(3), old.BatchNormalization()])
    inputs = old.Input(SHAPE)
    middle = tf_keras.Model(inputs, innermost(innermost(inputs)))
    model = lived(tf_keras.Sequential([middle, tf_keras.Sequential([old.Flatten(), old.Dense(CLASSES)])]))
    check_same(model, saved(model, tmp_path, form))


@pytest.mark.parametrize("form", FORMS)
def test_a_nested_network_that_ends_it(tmp_path, form):
    inputs = old.Input(SHAPE)
    head = tf_keras.Sequential([old.Input(SHAPE), old.Flatten(), old.Dense(CLASSES, activation="softmax")])
    model = lived(tf_keras.Model(inputs, head(old.Rescaling(1 / 255)(inputs))))
    source = saved(model, tmp_path, form)
    assert open_model(source).logits_from == BEFORE_SOFTMAX
    check_same(model, source)


@pytest.mark.parametrize("form", FORMS)
def test_attention(tmp_path, form):
    def attend(inputs):
        tokens = old.Reshape((120, 3))(old.LayerNormalization()(inputs))
        attended = old.MultiHeadAttention(2, 4)(tokens, value=tokens)
        return old.Reshape(SHAPE)(old.Add()([tokens, attended]))

    model = functional(attend)
    check_same(model, saved(model, tmp_path, form))


@pytest.mark.parametrize("form", FORMS)
def test_a_global_policy_of_half_precision(tmp_path, form):
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = classifier(old.Rescaling(1 / 255), conv(), head=old.Dense(CLASSES, dtype="float32"))
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    check_same(model, saved(model, tmp_path, form), tolerance=3e-3)


class TestReleasesThatCannotBeRunHere:
    """Files as those releases wrote them, of a network of `tf_keras` that says the right values."""

    @staticmethod
    def rewritten(model, path, change, version="2.2.4"):
        model.save(path)
        with h5py.File(path, "r+") as file:
            description = json.loads(file.attrs["model_config"])
            file.attrs["model_config"] = json.dumps(change(description))
            if version is None:
                del file.attrs["keras_version"]
            else:
                file.attrs["keras_version"] = version
        return str(path)

    @pytest.mark.parametrize("listed", [True, False])
    def test_the_first_layer_says_what_it_takes(self, tmp_path, listed):
        """Keras 2.0 to 2.2; up to 2.2.2 the settings of a Sequential were the list of its layers."""
        model = classifier(conv(activation="relu"), old.LeakyReLU(0.2), head=old.Dense(CLASSES, activation="softmax"))

        def change(description):
            first, *layers = description["config"]["layers"]
            layers[0]["config"]["batch_input_shape"] = first["config"]["batch_input_shape"]
            layers[1]["config"]["batch_input_shape"] = [None, 1, 1, 1]  # given, and never used
            for layer in layers:
                layer.pop("module", None)
                layer["config"].pop("dtype")
            return {"class_name": "Sequential", "config": layers if listed else {"name": "net", "layers": layers}}

        check_same(model, self.rewritten(model, tmp_path / "net.h5", change))

    def test_a_network_in_a_sequential_without_an_input_layer(self, tmp_path):
        inner = tf_keras.Sequential([old.Input(SHAPE), conv(3)])
        model = tf_keras.Sequential([inner, old.Flatten(), old.Dense(CLASSES)])
        model.build((None, *SHAPE))
        lived(model)

        def change(description):
            layers = [each for each in description["config"]["layers"] if each["class_name"] != "InputLayer"]
            first, *rest = layers[0]["config"]["layers"]
            rest[0]["config"]["batch_input_shape"] = first["config"]["batch_input_shape"]
            layers[0]["config"] = rest
            return {"class_name": "Sequential", "config": layers}

        check_same(model, self.rewritten(model, tmp_path / "net.h5", change))

    def test_keras_1(self, tmp_path):
        model = lived(
            tf_keras.Sequential(
                [
                    old.Input(SHAPE),
                    old.Conv2D(4, (3, 2), strides=(2, 1), padding="same", activation="relu"),
                    old.BatchNormalization(),
                    old.MaxPooling2D(2),
                    old.Dropout(0.5),
                    old.Flatten(),
                    old.Dense(6, activation="hard_sigmoid", use_bias=False),
                    old.Dense(CLASSES, activation="softmax"),
                ]
            )
        )

        def change(_):
            convolution = {
                "name": "convolution2d_1", "trainable": True, "batch_input_shape": [None, *SHAPE], "nb_filter": 4,
                "input_dtype": "float32", "nb_row": 3, "nb_col": 2, "init": "glorot_uniform", "activation": "relu",
                "border_mode": "same", "subsample": [2, 1], "dim_ordering": "tf", "W_regularizer": None, "bias": True,
                "b_regularizer": None, "activity_regularizer": None, "W_constraint": None, "b_constraint": None,
            }  # fmt: skip
            dense = {"trainable": True, "init": "uniform", "W_regularizer": None, "input_dim": None}
            layers = [
                {"class_name": "Convolution2D", "config": convolution},
                {"class_name": "BatchNormalization", "config": {"name": "norm", "epsilon": 1e-3, "mode": 0,
                                                                "axis": -1}},
                {"class_name": "MaxPooling2D", "config": {"name": "pool", "pool_size": [2, 2], "strides": [2, 2],
                                                          "border_mode": "valid", "dim_ordering": "tf"}},
                {"class_name": "Dropout", "config": {"name": "drop", "p": 0.5}},
                {"class_name": "Flatten", "config": {"name": "flat"}},
                {"class_name": "Dense", "config": {"name": "first", "output_dim": 6, "activation": "hard_sigmoid",
                                                   "bias": False, **dense}},
                {"class_name": "Dense", "config": {"name": "last", "output_dim": CLASSES, "activation": "softmax",
                                                   "bias": True, **dense}},
            ]  # fmt: skip
            return {"class_name": "Sequential", "config": layers}

        check_same(model, self.rewritten(model, tmp_path / "net.h5", change, version=None))

    def test_a_functional_network_of_keras_2_2(self, tmp_path):
        model = functional(lambda inputs: old.Add()([conv(3)(inputs), old.BatchNormalization()(inputs)]))

        def change(description):
            description["class_name"] = "Model"
            for layer in description["config"]["layers"]:
                layer.pop("module", None)
                if layer["class_name"] == "BatchNormalization":
                    layer["class_name"] = "BatchNormalizationV1"
                    layer["config"] |= {"axis": 3, "fused": True, "renorm": False, "virtual_batch_size": None}
            return description

        check_same(model, self.rewritten(model, tmp_path / "net.h5", change))

    def test_operations_of_tensorflow_2_0(self, tmp_path):
        model = functional(lambda inputs: 2.0 - (inputs - tf.constant([1.0, 2.0, 3.0])) / 127.5)
        nodes = iter([("Sub", {"1": [1.0, 2.0, 3.0]}), ("RealDiv", {"1": 127.5}), ("Sub", {"0": 2.0})])

        def change(description):
            first, *layers = description["config"]["layers"]
            before = first["name"]
            for layer in layers:
                if layer["class_name"] == "TFOpLambda":
                    operation, constants = next(nodes)
                    node = {"name": operation, "op": operation, "attr": {"T": {"type": "DT_FLOAT"}}}
                    layer["class_name"] = "TensorFlowOpLayer"
                    layer["config"] = {
                        "name": operation,
                        "dtype": "float32",
                        "node_def": node,
                        "constants": constants,
                    }
                    layer["inbound_nodes"] = [[[before, 0, 0, {}]]]
                    before = layer["name"]
            return description

        check_same(model, self.rewritten(model, tmp_path / "net.h5", change, version="2.2.4-tf"))

    def test_the_weights_of_keras_2_13(self, tmp_path):
        """Up to there a `.keras` file names its groups otherwise, and counts layers with weights twice."""
        base = tf_keras.Sequential([old.Input(SHAPE), conv(3), old.ReLU(), old.ReLU(), conv(3)])
        model = classifier(conv(3), base, conv(3), old.BatchNormalization(), old.BatchNormalization())
        source = saved(model, tmp_path, ".keras")

        def copy(before, after):
            if "vars" in before:
                before.copy("vars", after)
            counts = Counter()
            for name in sorted(
                before.get("layers", ()), key=lambda each: int((re.findall(r"_(\d+)$", each) or [0])[0])
            ):
                kind, group, found = re.sub(r"_\d+$", "", name), before["layers"][name], []
                group.visititems(lambda _, each, found=found: found.append(each))
                number = f"_{counts[kind]}" if counts[kind] else ""
                copy(group, after.create_group(f"_layer_checkpoint_dependencies/{kind}{number}"))
                counts[kind] += 2 if any(isinstance(each, h5py.Dataset) for each in found) else 1

        with zipfile.ZipFile(source) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        rewritten = io.BytesIO()
        with h5py.File(io.BytesIO(content["model.weights.h5"])) as before, h5py.File(rewritten, "w") as after:
            copy(before, after)
            assert "conv2d_2" in after["_layer_checkpoint_dependencies"]
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr("config.json", content["config.json"])
            archive.writestr("metadata.json", '{"keras_version": "2.13.1"}')
            archive.writestr("model.weights.h5", rewritten.getvalue())
        check_same(model, source)


class TestRefused:
    def source(self, folder, between):
        return saved(functional(between), folder, ".h5")

    @pytest.mark.parametrize(
        ("between", "message"),
        [
            (lambda x: old.Lambda(lambda y: y / 2, name="halve")(x), ' has a layer Lambda ("halve"), which may hold'),
            (lambda x: old.LocallyConnected2D(2, 3, name="local")(x), " holds 'LocallyConnected2D'"),
            (lambda x: tf.math.cumsum(x, axis=1), "calls tf.math.cumsum"),
            (
                lambda x: tf.image.resize(x, [6, 6], preserve_aspect_ratio=True),
                "calls tf.image.resize with preserve_aspect_ratio True",
            ),
            (lambda x: tf.reshape(x, tf.stack([tf.shape(x)[0], 12, 10, 3])), "calls tf.shape"),
            (lambda x: tf.cast(tf.cast(x, tf.int32), tf.float32), "calls tf.cast with dtype 'int32'"),
        ],
    )
    def test_what_keras_3_does_not_have(self, tmp_path, between, message):
        source = self.source(tmp_path, between)
        refused = refusal(open_model, source)
        assert refused.startswith(source)
        assert message in refused
        assert refused.endswith("or let tf_keras run it in a function, module:function (see docs/caching.md)")

    def test_a_setting_that_changes_what_is_computed(self, tmp_path):
        model = functional(
            lambda x: old.Reshape((4, 10, 9))(
                old.GRU(30, return_sequences=True, name="gru")(old.Reshape((12, 30))(x))
            )
        )
        source = saved(model, tmp_path, ".h5")
        with h5py.File(source, "r+") as file:
            text = file.attrs["model_config"]
            file.attrs["model_config"] = text.replace('"time_major": false', '"time_major": true')
        assert 'has a layer "gru" that has time_major True, which GRU of Keras' in refusal(open_model, source)

    def test_the_cause_is_shown_with_the_layer(self, tmp_path):
        source = saved(classifier(conv(name="odd")), tmp_path, ".h5")
        with h5py.File(source, "r+") as file:
            text = file.attrs["model_config"]
            file.attrs["model_config"] = text.replace('"use_bias": true', '"use_bias": true, "speed": 3', 1)
        message = refusal(open_model, source)
        assert message.endswith("layer \"odd\": Unrecognized keyword arguments passed to Conv2D: {'speed': 3}")

    def test_weights_of_another_network(self, tmp_path):
        source = saved(classifier(conv(5, name="few")), tmp_path, ".h5")
        with h5py.File(source, "r+") as file:
            text = file.attrs["model_config"]
            file.attrs["model_config"] = text.replace('"filters": 5', '"filters": 6')
        assert (
            'layer "few" has a weight kernel [3, 3, 3, 6], the file holds few/kernel:0 [3, 3, 3, 5] for it'
            in refusal(open_model, source)
        )


def test_the_function_that_the_page_shows_runs_what_cannot_be_translated(in_tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "caching.md").read_text()
    (example,) = re.findall(r"```py\n(.*?)```", page, flags=re.S)
    assert "old_teacher.py" in page
    (in_tmp_path / "old_teacher.py").write_text(example)
    model = functional(lambda x: old.Lambda(lambda y: y / 2)(x), shape=(12, 12, 3))
    model.save(in_tmp_path / "old_teacher.h5")
    opened = open_model("old_teacher:score", input_format=InputFormat(size=12, channels=3, range=(-1, 1)))
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 12, 12, 3)).astype(np.float32)
    assert opened.sha256 == hashlib.sha256((in_tmp_path / "old_teacher.h5").read_bytes()).hexdigest()
    np.testing.assert_allclose(opened.predict(pixels), model.predict(pixels / 127.5 - 1, verbose=0), atol=1e-5)


class TestArchitectures:
    """A network in JSON, and its weights in another file."""

    def test_the_weights_may_lie_anywhere(self, tmp_path):
        model = classifier(conv(), old.BatchNormalization())
        source = saved(model, tmp_path, ".json")
        (tmp_path / "net.h5").rename(tmp_path / "other.hdf5")
        assert "describes a network without its weights: give them as --weights, or" in refusal(open_model, source)
        expected = model.predict(np.ones((1, *SHAPE)), verbose=0)
        opened = open_model(source, weights=str(tmp_path / "other.hdf5"))
        np.testing.assert_allclose(opened.predict(np.ones((1, *SHAPE), np.float32)), expected, rtol=1e-4)
        assert "other.h5 is not a file: expected the weights of" in refusal(
            open_model, source, weights=str(tmp_path / "other.h5")
        )

    def test_two_files_of_weights_are_not_chosen_between(self, tmp_path):
        model = classifier(conv())
        source = saved(model, tmp_path, ".json")
        model.save_weights(tmp_path / "net.weights.h5")
        assert "next to it (net.weights.h5 and net.h5)" in refusal(open_model, source)
        (tmp_path / "net.h5").unlink()
        check_same(model, source)

    def test_the_weights_of_a_whole_network(self, tmp_path):
        model = classifier(conv())
        source = saved(model, tmp_path, ".json")
        model.save(tmp_path / "net.h5")
        check_same(model, source)

    @pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
    def test_of_keras_3(self, plain, pixels, tmp_path, suffix):
        (tmp_path / "net.json").write_text(plain.to_json())
        if suffix == ".h5":
            plain.save(tmp_path / "net.h5")
        else:
            plain.save_weights(tmp_path / "net.weights.h5")
        opened = open_model(str(tmp_path / "net.json"))
        np.testing.assert_allclose(opened.predict(pixels), plain.predict_on_batch(pixels), rtol=1e-5, atol=1e-5)

    def test_a_text_in_a_text(self, tmp_path):
        model = classifier(conv())
        source = saved(model, tmp_path, ".json")
        (tmp_path / "net.json").write_text(json.dumps(model.to_json()))
        check_same(model, source)

    def test_a_file_that_holds_its_own_weights(self, tmp_path):
        source = saved(classifier(conv()), tmp_path, ".h5")
        assert "holds its own weights: omit --weights" in refusal(open_model, source, weights=source)

    @pytest.mark.parametrize("content", ["", "words", "[]", "{}", '"{}"', '{"class_name": "Sequential"}'])
    def test_what_describes_no_network(self, tmp_path, content):
        (tmp_path / "net.json").write_text(content)
        assert "is not a Keras model that can be loaded: " in refusal(open_model, str(tmp_path / "net.json"))
