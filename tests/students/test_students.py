"""The students' published sizes, and their numbers against NumPy and against the published networks."""

from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill.building_blocks.conventions import classifier
from students import STUDENTS
from students.microexpnet import MicroExpNet, MicroExpNet2017, Variant, variant_layers
from students.slim_mobilenet import SlimMobileNet
from students.slim_resnet import SlimResNet

FAMILIES = {  # M, S, XS, XXS
    "v": (1_002_808, 257_656, 133_464, 71_368),
    "p1": (1_002_808, 257_656, 133_464, 71_368),
    "p2": (900_920, 232_184, 120_728, 65_000),
    "p12": (900_920, 232_184, 120_728, 65_000),
}
SLIM = {"slim_resnet": 164_383, "slim_resnet_small": 73_751, "slim_resnet_wide": 865_407}
PARAMETERS = {"microexpnet": 65_000, "microexpnet_2017": 71_368, "slim_mobilenet": 69_399, **SLIM} | {
    f"microexpnet_{family}_{size}": count
    for family, counts in FAMILIES.items()
    for size, count in zip(("m", "s", "xs", "xxs"), counts, strict=True)
}
PUBLISHED = Path(__file__).parents[2].parent / "shared" / "microexpnet"


def test_slim_resnets_have_the_parameters_that_their_docstrings_count():
    # Convolutions without bias, and two trained and two averaged numbers a channel in each batch norm.
    def conv(kernel, channels, filters):
        return kernel**2 * channels * filters + 4 * filters

    def unit(channels, filters):  # two convolutions of 3x3 and the projection
        return conv(3, channels, filters) + conv(3, filters, filters) + conv(1, channels, filters)

    def network(kernel, *widths):
        units = sum(map(unit, widths[:-1], widths[1:]))
        return conv(kernel, 1, widths[0]) + units + 7 * widths[-1] + 7

    counted = {
        "slim_resnet": network(5, 24, 48, 96),
        "slim_resnet_small": network(5, 16, 32, 64),
        "slim_resnet_wide": network(3, 24, 64, 128, 192),
    }
    assert counted == SLIM
    for name, count in SLIM.items():
        assert f"{count:,} parameters" in STUDENTS[name].__doc__
    assert SlimResNet(include_top=False).output_shape == (None, 6, 6, 96)


def test_slim_mobilenet_has_the_parameters_of_its_units():
    # Of Table 2 and Figure 3 of MobileNetV2: 1x1, 3x3 depthwise, 1x1, and four numbers a channel in each batch norm.
    count, entering = 9 * 16 + 4 * 16, 16
    for leaving, expansion in ((16, 4), (32, 4), (32, 4), (48, 4), (48, 3), (48, 3)):
        inside = expansion * entering
        count += entering * inside + 9 * inside + inside * leaving + 4 * (inside + inside + leaving)
        entering = leaving
    assert count + 48 * 96 + 4 * 96 + 96 * 7 + 7 == PARAMETERS["slim_mobilenet"]
    assert f"{PARAMETERS['slim_mobilenet']:,} parameters" in SlimMobileNet.__doc__
    assert SlimMobileNet(include_top=False).output_shape == (None, 6, 6, 96)
    sums = [layer.name for layer in SlimMobileNet().layers if layer.name.endswith("_add")]
    assert sums == ["unit1_add", "unit3_add", "unit5_add", "unit6_add"]


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_stays_below_a_megabyte(name):
    wide = ("microexpnet_v_m", "microexpnet_p1_m", "microexpnet_p2_m", "microexpnet_p12_m")  # candidates not chosen
    wide += ("microexpnet_v_s", "microexpnet_p1_s")
    bytes_each = 1 if name == "slim_resnet_wide" else 4  # as int8
    assert (bytes_each * PARAMETERS[name] < 1e6) == (name not in wide)


@pytest.mark.parametrize("name", STUDENTS)
def test_published_parameter_count(name):
    assert STUDENTS[name]().count_params() == PARAMETERS[name]


@pytest.mark.parametrize(("builder", "side"), [(MicroExpNet, 6), (MicroExpNet2017, 11)])
def test_feature_map(builder, side):
    assert builder(include_top=False).output_shape == (None, side, side, 32)


@pytest.mark.parametrize(("family", "flat"), [("v", 3872), ("p1", 3872), ("p2", 1152), ("p12", 1152)])
@pytest.mark.parametrize("size", ["m", "xxs"])
def test_candidates_flatten_what_their_family_leaves(family, flat, size):
    model = STUDENTS[f"microexpnet_{family}_{size}"]()
    assert model.get_layer("flatten").output.shape == (None, flat)
    strides = [layer.strides[0] for layer in model.layers if "conv" in layer.name]
    assert strides == [2 if "p1" in family else 4, 2]
    pools = [layer.name for layer in model.layers if "pool" in layer.name]
    assert pools == [f"pool{number}" for number in (1, 2) if str(number) in family]


@pytest.mark.parametrize("name", STUDENTS)
def test_a_saved_student_predicts_the_same(name, tmp_path):
    student = STUDENTS[name](classes=7, name=name)
    images = np.random.default_rng(0).uniform(0, 255, (2, *student.input_shape[1:])).astype("float32")
    student.save(tmp_path / "student.keras")
    loaded = keras.saving.load_model(tmp_path / "student.keras", safe_mode=True)
    assert loaded.name == name
    np.testing.assert_array_equal(loaded.predict_on_batch(images), student.predict_on_batch(images))


def test_any_size_works():
    assert MicroExpNet(input_shape=(1, 1, 3)).output_shape == (None, 8)
    with pytest.raises(ValueError, match="at least 1x1"):
        MicroExpNet(input_shape=(0, 84, 1))


def test_pixels_are_not_scaled():
    assert [layer.name for layer in MicroExpNet().layers[:2]] == ["pixels", "conv1"]


def network_of(variant, shape=(84, 84, 1)):
    pixels, top = keras.Input(shape), partial(classifier, classes=8, activation=None)
    return keras.Model(pixels, variant_layers(variant, pixels, top, keep_prob=0.5, pixel_scale=1.0))


def test_initial_weights():
    keras.utils.set_random_seed(0)
    wide = network_of(Variant(conv1_stride=4, pool1=False, pool2=True, units=4096))
    biases = wide.get_layer("dense").bias.numpy()
    assert abs(biases.mean()) < 0.03
    assert biases.std() == pytest.approx(0.5, rel=0.05)
    assert all(np.all(wide.get_layer(name).bias.numpy() != 0) for name in ("conv1", "conv2", "logits"))

    limit = np.sqrt(6 / (1152 + 4096))  # Glorot and Bengio, 2010, equation 16
    kernel = wide.get_layer("dense").kernel.numpy()
    assert limit * 0.999 < np.abs(kernel).max() <= limit * 1.001


class TestKeepProb:
    def test_is_the_share_that_stays(self):
        keras.utils.set_random_seed(0)
        model = MicroExpNet(keep_prob=0.25)
        dropout = model.get_layer("dropout")
        kept = np.asarray(dropout(np.ones((100, 48), "float32"), training=True))
        assert np.mean(kept > 0) == pytest.approx(0.25, abs=0.03)
        assert kept.max() == pytest.approx(4)

    def test_of_one_drops_nothing(self):
        model = MicroExpNet(keep_prob=1)
        images = np.random.default_rng(0).uniform(0, 255, (2, 84, 84, 1))
        np.testing.assert_array_equal(model(images, training=True), model(images))

    @pytest.mark.parametrize("keep_prob", [0, -0.5, 1.5])
    def test_out_of_range(self, keep_prob):
        with pytest.raises(ValueError, match=f"Received: keep_prob={keep_prob}"):
            MicroExpNet(keep_prob=keep_prob)


def padded_windows(x, size, stride, fill):
    """Windows [B, H', W', C, size, size] under TensorFlow's "same" padding, the odd row and column last."""
    pads = [(0, 0)]
    for side in x.shape[1:3]:
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        pads.append((total // 2, total - total // 2))
    x = np.pad(x, [*pads, (0, 0)], constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]


def numpy_conv(x, layer, stride):
    kernel, bias = (weight.astype("float64") for weight in layer.get_weights())
    windows = padded_windows(x, len(kernel), stride, 0)
    return np.maximum(np.einsum("bhwcij,ijco->bhwo", windows, kernel, optimize=True) + bias, 0)


def numpy_logits(model, images, variant):
    """The network of `variant` in float64."""
    x = numpy_conv(images.astype("float64"), model.get_layer("conv1"), variant.conv1_stride)
    x = padded_windows(x, 2, 2, -np.inf).max((-1, -2)) if variant.pool1 else x
    x = numpy_conv(x, model.get_layer("conv2"), 2)
    x = padded_windows(x, 2, 2, -np.inf).max((-1, -2)) if variant.pool2 else x
    (dense, dense_bias), (logits, logits_bias) = (model.get_layer(name).get_weights() for name in ("dense", "logits"))
    return np.maximum(x.reshape(len(x), -1) @ dense + dense_bias, 0) @ logits + logits_bias


@pytest.mark.parametrize(("pool1", "pool2"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", [(84, 84, 1), (37, 50, 3)])
def test_logits_equal_numpy(shape, pool1, pool2):
    keras.utils.set_random_seed(0)
    variant = Variant(conv1_stride=2 if pool1 else 4, pool1=pool1, pool2=pool2, units=16)
    model = network_of(variant, shape)
    images = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype("float32")
    expected = numpy_logits(model, images, variant)
    np.testing.assert_allclose(model(images), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no published networks in {PUBLISHED}")
@pytest.mark.parametrize(("folder", "key"), [("CK", "ck"), ("OuluCASIA", "oulu")])
def test_published_weights_give_the_published_predictions(folder, key):
    checkpoint = tf.train.load_checkpoint(str(PUBLISHED / "checkpoints" / folder / f"MicroExpNet_{folder}"))
    names = ("wc1", "bc1", "wc2", "bc2", "wfc", "bfc", "wo", "bo")
    model = MicroExpNet()
    model.set_weights([checkpoint.get_tensor(name) for name in names])

    reference = np.load(PUBLISHED / "reference_predictions.npz")
    logits = np.asarray(model(reference["images"][..., None]))
    np.testing.assert_allclose(logits, reference[f"{key}_logits"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(keras.ops.softmax(logits), reference[f"{key}_probs"], atol=1e-5)


class TestPixelScale:
    def test_scaled_pixels_are_those_of_an_unscaled_network_fed_with_scaled_pixels(self):
        scaled, published = MicroExpNet(pixel_scale=1 / 16), MicroExpNet()
        scaled.set_weights(published.get_weights())
        pixels = np.random.default_rng(0).uniform(0, 255, (2, 84, 84, 1)).astype("float32")
        np.testing.assert_allclose(scaled(pixels), published(pixels / 16), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("pixel_scale", [0, -1])
    def test_out_of_range(self, pixel_scale):
        with pytest.raises(ValueError, match=f"Received: pixel_scale={pixel_scale}"):
            MicroExpNet(pixel_scale=pixel_scale)
