"""The teachers' published sizes, shapes and wiring."""

import keras
import numpy as np
import pytest

from teachers import TEACHERS
from teachers.dexpression import DeXpression
from teachers.facenet import FaceNet
from teachers.fer_cnn import FERCNN
from teachers.plain_resnet import PlainResNet, PlainResNetTiny

COLLECTION = {"vgg", "resnet", "densenet", "inception", "xception"}  # in test_cnn_collection.py
PARAMETERS = {  # name: (all, not trainable)
    "facenet": (21_865_895, 56_064),
    "dexpression": (6_169_943, 128),
    "fer_cnn": (4_478_727, 3_968),
    # By hand: a norm of w channels has 4w, 2w of them not trainable. Twice a unit's two norms and a
    # projection's one make 20w. Stem 9*32 + 4*32; stage 1 (9*32 + 27*40 + 32)*40 + 20*40; stage 2,
    # of one width, 37*40*40 + 20*40; a stage that doubles the width to w, 32*w*w + 20*w; logits 321*7.
    "plain_resnet": (
        416 + 56_800 + 60_000 + (206_400 + 822_400 + 3_283_200) + 2_247,
        2 * (32 + 5 * 40 + 5 * 40 + 5 * (80 + 160 + 320)),
    ),
    # Stem 9*64 + 4*64; a unit that keeps its width w, 18*w*w + 8*w; one that doubles it to w, 14*w*w + 12*w; 513*7.
    "resnet10": (832 + 74_240 + (230_912 + 920_576 + 3_676_160) + 3_591, 2 * (64 + 2 * 64 + 3 * (128 + 256 + 512))),
    "resnet18": (
        4_906_311 + (74_240 + 295_936 + 1_181_696 + 4_722_688),
        2 * (64 + 4 * 64 + 5 * (128 + 256 + 512)),
    ),
    # Stem 9*16 + 4*16; stage 1 19*16*16 + 12*16; a stage that doubles the width to w, 14*w*w + 12*w; 65*7.
    "plain_resnet_tiny": (208 + 5_056 + (14_720 + 58_112) + 455, 2 * (16 + 3 * (16 + 32 + 64))),
}


@pytest.fixture(scope="module")
def models():
    return {name: TEACHERS[name]() for name in PARAMETERS}


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


def test_every_teacher_is_tested():
    assert set(TEACHERS) == set(PARAMETERS) | COLLECTION


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_parameter_count(models, name):
    model = models[name]
    assert (model.count_params(), count(model.non_trainable_weights)) == PARAMETERS[name]


@pytest.mark.parametrize("name", sorted(set(PARAMETERS) - {"fer_cnn"}))
def test_scaling_is_the_first_layer(models, name):
    first = models[name].layers[1]
    assert (first.__class__.__name__, first.scale) == ("Rescaling", 1 / 255)


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("facenet", "stem_6_concat", (13, 13, 384)),
        ("facenet", "reduction_a_concat", (6, 6, 1152)),
        ("facenet", "reduction_b_concat", (2, 2, 2048)),
        ("facenet", "block_c3_add", (2, 2, 2048)),
        ("dexpression", "maxpool_1", (55, 55, 64)),
        ("dexpression", "maxpool_2b", (55, 55, 272)),
        ("dexpression", "flatten", (822_800,)),
        ("fer_cnn", "stage2_dropout", (12, 12, 128)),
        ("fer_cnn", "flatten", (4_608,)),
        ("plain_resnet", "stage2_unit2_relu", (24, 24, 40)),
        ("plain_resnet", "stage3_unit1_relu", (12, 12, 80)),
        ("plain_resnet", "stage5_unit2_relu", (3, 3, 320)),
        ("plain_resnet_tiny", "stem_relu", (24, 24, 16)),
        ("plain_resnet_tiny", "stage1_unit1_relu", (12, 12, 16)),
        ("plain_resnet_tiny", "stage3_unit1_relu", (3, 3, 64)),
    ],
)
def test_published_shapes(models, name, layer, shape):
    assert models[name].get_layer(layer).output.shape[1:] == shape


class TestFaceNet:
    def test_at_84_pixels_with_8_classes(self):
        assert FaceNet(input_shape=(84, 84, 1), classes=8).count_params() == 21_867_944

    @pytest.mark.parametrize(
        ("block", "scale"),
        [(f"block_a{i}", 0.15) for i in range(1, 5)]
        + [(f"block_b{i}", 0.1) for i in range(1, 8)]
        + [(f"block_c{i}", 0.2) for i in range(1, 4)],
    )
    def test_a_block_adds_its_scaled_expansion_and_nothing_else(self, models, block, scale):
        model = models["facenet"]
        total = model.get_layer(f"{block}_add")
        part = keras.Model(total.input[0], total.output)
        x = np.random.default_rng(0).normal(size=(1, *part.input_shape[1:])).astype("float32")

        # An expansion of zeros leaves the identity, for negative values too: no ReLU follows the sum.
        kernel = model.get_layer(f"{block}_expand_conv").kernel
        kernel.assign(np.zeros(kernel.shape))
        np.testing.assert_array_equal(part(x), x)

        offset = model.get_layer(f"{block}_expand_norm").beta
        offset.assign(np.full(offset.shape, -3.0))
        np.testing.assert_allclose(part(x), x - 3 * scale, atol=1e-6)

    def test_smallest_input(self):
        assert FaceNet(include_top=False, input_shape=(35, 35, 1)).output_shape == (None, 1, 1, 2048)
        with pytest.raises(ValueError, match="facenet needs images of at least 35x35"):
            FaceNet(input_shape=(48, 34, 1))


class TestDeXpression:
    def test_the_port_reads_the_pool_before_block_2(self, models):
        model = models["dexpression"]
        assert model.get_layer("conv_3c").input is model.get_layer("maxpool_2a").output
        assert model.get_layer("conv_3c").count_params() == 4_160

    def test_the_paper_reads_a_pool_of_block_2(self):
        model = DeXpression(wiring="paper")
        assert model.count_params() == 6_183_255
        assert model.get_layer("maxpool_3a").input is model.get_layer("maxpool_2b").output

    def test_the_convolutions_of_pools_are_linear(self, models):
        convolutions = [layer for layer in models["dexpression"].layers if layer.name.startswith("conv_")]
        assert {layer.name: layer.activation.__name__ for layer in convolutions} == {
            **dict.fromkeys(["conv_1", "conv_2a", "conv_2b", "conv_3a", "conv_3b"], "relu"),
            **dict.fromkeys(["conv_2c", "conv_3c"], "linear"),
        }

    @pytest.mark.parametrize(("padding", "smallest"), [("same", 5), ("valid", 43)])
    def test_smallest_input(self, padding, smallest):
        options = {"padding": padding, "wiring": "paper"}
        model = DeXpression(input_shape=(smallest, smallest, 1), **options)
        assert model.get_layer("maxpool_3b").output.shape == (None, 1, 1, 272)
        with pytest.raises(ValueError, match=f"at least {smallest}x{smallest}"):
            DeXpression(input_shape=(smallest - 1, 99, 1), **options)

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"wiring": "keras"}, "wiring must be 'port' or 'paper'. Received: wiring='keras'"),
            ({"padding": "none"}, "padding must be 'same' or 'valid'. Received: padding='none'"),
            ({"padding": "valid"}, "padding='valid' needs wiring='paper'. Received: wiring='port'"),
        ],
    )
    def test_wrong_options(self, options, expected):
        with pytest.raises(ValueError, match=expected):
            DeXpression(**options)


class TestFERCNN:
    def test_pixels_are_unscaled_and_every_layer_of_weights_is_normalised(self, models):
        kinds = [type(layer).__name__ for layer in models["fer_cnn"].layers]
        stage = ["Conv2D", "BatchNormalization", "ReLU", "MaxPooling2D", "Dropout"]
        dense = ["Dense", "BatchNormalization", "ReLU", "Dropout"]
        assert kinds == ["InputLayer", *stage * 4, "Flatten", *dense * 2, "Dense"]
        assert {layer.rate for layer in models["fer_cnn"].layers if type(layer).__name__ == "Dropout"} == {0.25}

    def test_kernels(self, models):
        kernels = [models["fer_cnn"].get_layer(f"stage{i}_conv").kernel.shape for i in range(1, 5)]
        assert kernels == [(3, 3, 1, 64), (5, 5, 64, 128), (3, 3, 128, 512), (3, 3, 512, 512)]

    def test_smallest_input(self):
        assert FERCNN(include_top=False, input_shape=(16, 16, 1)).output_shape == (None, 1, 1, 512)
        with pytest.raises(ValueError, match="fer_cnn needs images of at least 16x16"):
            FERCNN(input_shape=(15, 48, 1))


class TestPlainResNet:
    @pytest.mark.parametrize(("before", "unit"), [("stage2_unit1", "stage2_unit2"), ("stage1_unit1", "stage1_unit2")])
    def test_a_unit_of_one_size_and_width_adds_to_its_input_before_the_relu(self, models, before, unit):
        part, x = self.unit_of_constant_branch(models["plain_resnet"], before, unit, offset=-0.5)
        np.testing.assert_allclose(part(x), np.maximum(x - 0.5, 0), atol=1e-6)

    def test_a_unit_that_strides_adds_to_the_projected_means_of_its_input(self, models):
        model = models["plain_resnet"]
        part, x = self.unit_of_constant_branch(model, "stage2_unit2", "stage3_unit1", offset=-0.25)
        means = x.astype("float64").reshape(1, 12, 2, 12, 2, 40).mean((2, 4))
        kernel = np.asarray(model.get_layer("stage3_unit1_shortcut_conv").kernel, "float64")[0, 0]
        projected = means @ kernel / np.sqrt(1 + 1e-3)  # a new norm has mean 0 and variance 1
        np.testing.assert_allclose(part(x), np.maximum(projected - 0.25, 0), atol=1e-5)

    @staticmethod
    def unit_of_constant_branch(model, before, unit, *, offset):
        """The unit alone, its convolutions replaced by a constant `offset`, and an input for it."""
        norm = model.get_layer(f"{unit}_2_norm")
        norm.gamma.assign(np.zeros(norm.gamma.shape))
        norm.beta.assign(np.full(norm.beta.shape, offset))
        part = keras.Model(model.get_layer(f"{before}_relu").output, model.get_layer(f"{unit}_relu").output)
        x = np.random.default_rng(0).normal(size=(1, *part.input_shape[1:])).astype("float32")
        return part, x

    @pytest.mark.parametrize("size", [(1, 1), (49, 33), (None, None)])
    def test_any_size(self, size):
        strided = {1: 1, 49: 4, 33: 3, None: None}  # halved four times, rounded up
        features = PlainResNetTiny(include_top=False, input_shape=(*size, 1))
        assert features.output_shape == (None, *(strided[side] for side in size), 64)
        assert PlainResNet(input_shape=(*size, 3), classes=8).output_shape == (None, 8)
