"""The CNN teaching collection: published sizes, hand-made counts at the sizes of faces, wiring and its quirks."""

import math
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf

from teachers.densenet import DenseNet
from teachers.inception import Inception
from teachers.resnet import ResNet
from teachers.vgg import VGG
from teachers.xception import Xception

BUILDERS = {"vgg": VGG, "resnet": ResNet, "densenet": DenseNet, "inception": Inception, "xception": Xception}
PUBLISHED = {  # name: (classes, parameters)
    "vgg": (10, 1_186_378),
    "resnet": (100, 68_671_236),
    "densenet": (14, 2_065_686),
    "inception": (100, 1_373_284),
    "xception": (100, 4_456_548),
}
NORMALISED_CHANNELS = {  # a norm of w channels holds 2w parameters that are not trainable
    "vgg": 0,
    "resnet": 16 + 2 * (32 + 32 + 32 + 64 + 64 + 256),
    "densenet": 8 + 16 + 32 + 64 + 128 + 96 + 96,
    "inception": 0,
    "xception": 32 + 64 + 2 * 64 + 3 * 128 + 256 + 128,
}
# Filters times pixels of the first kernel.
STEM_KERNELS = {"vgg": 64 * 9, "resnet": 16 * 9, "densenet": 4 * 9, "inception": 64 * 49, "xception": 32 * 9}
MAPS = {  # name: (channels, sides of the last feature map at 32, 48 and 84 pixels)
    "vgg": (256, {32: 4, 48: 6, 84: 10}),
    "resnet": (256, {32: 8, 48: 12, 84: 21}),
    "densenet": (96, {32: 8, 48: 12, 84: 21}),
    "inception": (128, {32: 1, 48: 1, 84: 2}),  # 2, 3 and 6 pixels before the pool of stride 3
    "xception": (128, {32: 14, 48: 22, 84: 40}),
}
HIDDEN = {"resnet": 4096, "inception": 1024}  # the others have no dense layer before the logits
SMALLEST = {"vgg": 8, "resnet": 4, "densenet": 4, "inception": 17, "xception": 5}


@cache
def blueprint(name, **options):
    """A network whose weights have shapes but no values: those of ResNet at 84x84 would fill 1.9 GB."""
    with keras.StatelessScope(initialize_variables=False):
        return BUILDERS[name](**options)


def count(weights):
    return sum(math.prod(weight.shape) for weight in weights)


def sources(name, layer):
    """The names of the layers that `layer` of the published network `name` reads."""
    model = blueprint(name)
    makers = {id(each.output): each.name for each in model.layers}
    return [makers[id(tensor)] for tensor in keras.tree.flatten(model.get_layer(layer).input)]


def configs(name, kind, *keys):
    """The settings `keys` of the published network's layers of class `kind`, in order."""
    layers = [layer for layer in blueprint(name).layers if layer.__class__.__name__ == kind]
    return {layer.name: tuple(layer.get_config()[key] for key in keys) for layer in layers}


@pytest.mark.parametrize("name", BUILDERS)
def test_published_count_shape_and_classes(name):
    model = blueprint(name)
    classes, parameters = PUBLISHED[name]
    assert (model.input_shape, model.output_shape) == ((None, 32, 32, 3), (None, classes))
    assert model.count_params() == parameters
    assert count(model.non_trainable_weights) == 2 * NORMALISED_CHANNELS[name]


@pytest.mark.parametrize(("size", "classes"), [(48, 7), (84, 8)])
@pytest.mark.parametrize("name", BUILDERS)
def test_count_at_the_size_of_faces(name, size, classes):
    """Against the published count, only the first kernel and what follows the feature map differ."""
    published_classes, parameters = PUBLISHED[name]
    change = dense_parameters(name, size, classes) - dense_parameters(name, 32, published_classes)
    model = blueprint(name, input_shape=(size, size, 1), classes=classes)
    assert model.count_params() == parameters - 2 * STEM_KERNELS[name] + change
    assert model.output_shape == (None, classes)


def dense_parameters(name, size, classes):
    channels, sides = MAPS[name]
    widths = [channels * sides[size] ** 2, HIDDEN.get(name), classes]
    widths = [width for width in widths if width is not None]
    return sum((before + 1) * after for before, after in zip(widths, widths[1:], strict=False))


@pytest.mark.parametrize("size", [32, 48, 84])
@pytest.mark.parametrize("name", BUILDERS)
def test_last_feature_map(name, size):
    channels, sides = MAPS[name]
    features = blueprint(name, include_top=False, input_shape=(size, size, 1))
    assert features.output_shape == (None, sides[size], sides[size], channels)


@pytest.mark.parametrize("name", BUILDERS)
def test_height_and_width_may_be_unknown_without_the_top(name):
    features = blueprint(name, include_top=False, input_shape=(None, None, 1), pooling="avg")
    assert features.output_shape == (None, MAPS[name][0])
    with pytest.raises(ValueError, match=f"{name} needs a fixed height and width to flatten"):
        BUILDERS[name](input_shape=(None, None, 1))


@pytest.mark.parametrize("include_top", [True, False])
@pytest.mark.parametrize("name", BUILDERS)
def test_smallest_input(name, include_top):
    side = SMALLEST[name]
    model = BUILDERS[name](include_top, input_shape=(side, side, 1), classes=7)
    images = np.random.default_rng(0).uniform(0, 255, (2, side, side, 1))
    assert np.all(np.isfinite(model(images)))
    assert model.output_shape == ((None, 7) if include_top else (None, 1, 1, MAPS[name][0]))
    for shape in [(48, side - 1, 1), (side - 1, 48, 1)]:
        with pytest.raises(ValueError, match=f"{name} needs images of at least {side}x{side}"):
            BUILDERS[name](include_top, input_shape=shape)


@pytest.mark.parametrize("name", BUILDERS)
def test_one_pixel_less_than_the_smallest_input_leaves_a_layer_without_output(name, monkeypatch):
    monkeypatch.setattr("distill.building_blocks.conventions._check_shape", lambda *_: None)
    with pytest.raises(ValueError, match="output size would be zero or negative"):
        BUILDERS[name](include_top=False, input_shape=(SMALLEST[name] - 1, 48, 1))


@pytest.mark.parametrize(("size", "classes", "policy"), [(48, 7, "float32"), (84, 8, "mixed_bfloat16")])
@pytest.mark.parametrize("name", BUILDERS)
def test_finite_gradients_at_the_size_of_faces(name, size, classes, policy):
    model = with_policy(policy, name, input_shape=(size, size, 1), classes=classes)
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 1)).astype("float32")
    with tf.GradientTape() as tape:
        output = tf.cast(model(images, training=False), "float32")
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits([0, 1], output))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    assert [gradient.shape for gradient in gradients] == [weight.shape for weight in model.trainable_weights]
    assert all(np.all(np.isfinite(gradient)) and np.any(gradient) for gradient in gradients)


def with_policy(policy, name, **options):
    """The network in a numeric policy; of ResNet without its dense layer, which holds 151 to 462 M weights here."""
    keras.utils.set_random_seed(0)
    top = {"include_top": False, "pooling": "avg"} if name == "resnet" else {}
    keras.config.set_dtype_policy(policy)
    try:
        return BUILDERS[name](**options, **top)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("vgg", "stage1_conv2", (32, 32, 64)),
        ("vgg", "stage1_pool", (16, 16, 64)),
        ("vgg", "stage2_pool", (8, 8, 128)),
        ("resnet", "unit3_add", (32, 32, 32)),
        ("resnet", "unit3_relu", (16, 16, 32)),
        ("resnet", "unit5_relu", (8, 8, 64)),
        ("densenet", "unit4_conv5", (32, 32, 64)),
        ("densenet", "unit5_concat5", (32, 32, 512)),
        ("densenet", "unit5_norm", (16, 16, 128)),
        ("inception", "pool1", (8, 8, 64)),
        ("inception", "pool2", (4, 4, 192)),
        ("inception", "module3a_concat", (4, 4, 64 + 128 + 32 + 32)),
        ("inception", "module3b_concat", (4, 4, 128 + 192 + 96 + 96)),
        ("inception", "pool3", (2, 2, 512)),
        ("inception", "module4a_concat", (2, 2, 192 + 208 + 48 + 64)),
        ("xception", "stem2_conv", (16, 16, 64)),
        ("xception", "block1_pool", (15, 15, 64)),
        ("xception", "block1_concat", (15, 15, 128)),
        ("xception", "block2_pool", (14, 14, 256)),
        ("xception", "block2_concat", (14, 14, 512)),
    ],
)
def test_published_shapes(name, layer, shape):
    assert blueprint(name).get_layer(layer).output.shape[1:] == shape


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("vgg", [0.4] * 6),
        ("resnet", [0.2, 0.3, 0.4, 0.2, 0.2, 0.4, 0.4, 0.23]),
        ("densenet", [0.8] * 5 + [0.4]),
        ("inception", [0.7]),
        ("xception", [0.4] * 9),  # stem 2, right branches 2 and 3, tail 2
    ],
)
def test_dropout_rates_in_order(name, rates):
    assert [rate for (rate,) in configs(name, "Dropout", "rate").values()] == rates


@pytest.mark.parametrize(
    ("name", "linear"),
    [
        ("vgg", set()),
        ("resnet", {"stem_conv", *(f"unit{i}_{x}" for i in range(1, 7) for x in ("conv1", "conv2", "shortcut"))}),
        ("densenet", set()),
        ("inception", set()),
        ("xception", {"block1_right_conv", "block2_right_conv", "block2_depthwise2"}),
    ],
)
def test_which_layers_are_linear(name, linear):
    activations = {}
    for kind in ("Conv2D", "DepthwiseConv2D", "Dense"):
        activations |= configs(name, kind, "activation")
    assert {layer for layer, activation in activations.items() if activation == ("linear",)} == {"logits", *linear}
    assert set(activations.values()) == {("linear",), ("relu",)}


def test_vgg_drops_out_after_each_convolution():
    kinds = [layer.__class__.__name__ for layer in blueprint("vgg").layers]
    stage = ["Conv2D", "Dropout"] * 2 + ["MaxPooling2D"]
    assert kinds == ["InputLayer", "Rescaling", *stage * 3, "Flatten", "Dense"]


class TestResNet:
    @pytest.mark.parametrize("i", range(1, 7))
    def test_every_unit_has_a_3x3_convolution_for_a_shortcut(self, i):
        shortcut = blueprint("resnet").get_layer(f"unit{i}_shortcut")
        assert (shortcut.__class__.__name__, shortcut.kernel_size) == ("Conv2D", (3, 3))
        before = f"unit{i - 1}_relu" if i > 1 else "stem_relu"
        assert sources("resnet", f"unit{i}_shortcut") == sources("resnet", f"unit{i}_conv1") == [before]
        assert sources("resnet", f"unit{i}_add") == [f"unit{i}_conv2", f"unit{i}_shortcut"]
        assert sources("resnet", f"unit{i}_conv2") == [f"unit{i}_inner_relu"]

    def test_pools_of_units_3_and_5(self):
        assert configs("resnet", "MaxPooling2D", "pool_size") == {"unit3_pool": ((2, 2),), "unit5_pool": ((2, 2),)}
        assert sources("resnet", "unit4_dropout") == ["unit4_add"]
        assert sources("resnet", "unit5_dropout") == ["unit5_pool"]

    def test_the_sum_is_pooled_then_normalised_then_cut_at_zero(self):
        model = ResNet(include_top=False, input_shape=(16, 16, 1))
        part = keras.Model(model.get_layer("unit4_relu").output, model.get_layer("unit5_relu").output)
        branch, shortcut = model.get_layer("unit5_conv2"), model.get_layer("unit5_shortcut")
        branch.set_weights([np.zeros((3, 3, 64, 64)), np.full(64, -0.5)])
        shortcut.set_weights([np.pad(np.eye(64)[None, None], ((1, 1), (1, 1), (0, 0), (0, 0))), np.full(64, 0.25)])
        x = np.random.default_rng(0).normal(size=(1, 8, 8, 64))
        maxima = (x - 0.25).reshape(1, 4, 2, 4, 2, 64).max((2, 4))
        expected = np.maximum(maxima / np.sqrt(1 + 1e-3), 0)  # a new norm has mean 0 and variance 1
        np.testing.assert_allclose(part(x.astype("float32")), expected, atol=1e-5)

    def test_two_dropouts_around_the_dense_layer(self):
        tail = [layer.name for layer in blueprint("resnet").layers][-6:]
        assert tail == ["unit6_relu", "flatten", "dropout1", "dense", "dropout2", "logits"]


class TestDenseNet:
    @pytest.mark.parametrize("i", range(1, 6))
    def test_what_a_unit_reads_and_returns(self, i):
        unit, before = f"unit{i}", f"unit{i - 1}_norm" if i > 1 else "stem_conv"
        assert sources("densenet", f"{unit}_conv1") == sources("densenet", f"{unit}_conv2") == [before]
        for j in (3, 4, 5):
            assert sources("densenet", f"{unit}_conv{j}") == [f"{unit}_concat{j}"]
            assert sources("densenet", f"{unit}_concat{j}") == [f"{unit}_conv{k}" for k in range(1, j)]
        assert sources("densenet", f"{unit}_dropout") == [f"{unit}_conv5"]

    def test_after_the_last_unit(self):
        names = [layer.name for layer in blueprint("densenet").layers]
        tail = ["unit5_dropout", "unit5_pool", "unit5_norm", "last_conv", "last_norm1", "last_pool", "last_norm2"]
        assert names[-10:] == [*tail, "flatten", "dropout", "logits"]
        assert sources("densenet", "unit4_norm") == ["unit4_dropout"]
        assert configs("densenet", "MaxPooling2D", "pool_size") == dict.fromkeys(
            ["unit5_pool", "last_pool"], ((2, 2),)
        )


class TestInception:
    def test_the_last_pool_takes_means_of_2x2_in_strides_of_3(self):
        settings = configs("inception", "AveragePooling2D", "pool_size", "strides", "padding")
        assert settings == {"last_pool": ((2, 2), (3, 3), "valid")}

    @pytest.mark.parametrize(
        ("module", "before", "widths"),
        [
            ("module3a", "pool2", (64, 96, 128, 16, 32, 32)),
            ("module3b", "module3a_concat", (128, 128, 192, 32, 96, 96)),
            ("module4a", "pool3", (192, 96, 208, 16, 48, 64)),
        ],
    )
    def test_branches_of_a_module(self, module, before, widths):
        parts = ["1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "projection"]
        kernels = [1, 1, 3, 1, 5, 1]
        convolutions = configs("inception", "Conv2D", "filters", "kernel_size", "strides")
        for part, width, kernel in zip(parts, widths, kernels, strict=True):
            assert convolutions[f"{module}_{part}"] == (width, (kernel, kernel), (1, 1))
        joined = [f"{module}_{part}" for part in ("1x1", "3x3", "5x5", "projection")]
        assert sources("inception", f"{module}_concat") == joined
        for part in ("1x1", "3x3_reduce", "5x5_reduce", "pool"):
            assert sources("inception", f"{module}_{part}") == [before]
        assert sources("inception", f"{module}_projection") == [f"{module}_pool"]

    def test_pools_between_modules_halve_and_those_within_do_not(self):
        pools = configs("inception", "MaxPooling2D", "pool_size", "strides", "padding")
        assert pools == {
            **{f"pool{i}": ((3, 3), (2, 2), "same") for i in (1, 2, 3)},
            **{f"module{i}_pool": ((3, 3), (1, 1), "same") for i in ("3a", "3b", "4a")},
        }


class TestXception:
    @pytest.mark.parametrize(
        ("block", "before", "norms"), [("block1", "stem2_dropout", 2), ("block2", "block1_concat", 3)]
    )
    def test_the_right_branch_normalises_and_drops_out_in_turn(self, block, before, norms):
        for i in range(1, norms + 1):
            assert sources("xception", f"{block}_right{i}_norm") == [before]
            before = f"{block}_right{i}_dropout"
            assert sources("xception", before) == [f"{block}_right{i}_norm"]
        assert sources("xception", f"{block}_right_conv") == [before]
        assert sources("xception", f"{block}_concat") == [f"{block}_pool", f"{block}_right_conv"]

    def test_the_left_branches(self):
        left1 = ["stem2_dropout", "block1_depthwise1", "block1_depthwise2", "block1_pool"]
        left2 = ["block2_relu", "block2_conv", "block2_depthwise1", "block2_depthwise2", "block2_pool"]
        for path in (left1, ["block1_concat", *left2], ["block2_concat", "tail_relu", "tail1_conv"]):
            for before, layer in zip(path, path[1:], strict=False):
                assert sources("xception", layer) == [before]

    def test_both_branches_of_a_block_lose_one_pixel(self):
        assert configs("xception", "MaxPooling2D", "pool_size", "strides", "padding") == {
            f"block{i}_pool": ((2, 2), (1, 1), "valid") for i in (1, 2)
        }
        convolutions = configs("xception", "Conv2D", "kernel_size", "padding")
        assert convolutions["block1_right_conv"] == convolutions["block2_right_conv"] == ((2, 2), "valid")
