"""What lies within files: tensors by name, channels last, in the pass that gives the logits."""

import numpy as np
import onnx
import pytest

from distill.runtimes import onnx_file, saved_model, tflite_file
from distill.runtimes.graph_model import in_batches_of
from distill.runtimes.input_format import CHANNELS_FIRST, CHANNELS_LAST, InputFormat
from distill.runtimes.tflite_tensors import packed, tensors_in, unpacked
from tests.runtimes.conftest import SHAPE, refusal, softmax
from tests.runtimes.writers import write_litert, write_onnx, write_saved_model

tf = pytest.importorskip("tensorflow")
convert_to_constants = pytest.importorskip("tensorflow.python.framework.convert_to_constants")
FORMATS = {
    "LiteRT": (write_litert, tflite_file.open_file),
    "SavedModel": (write_saved_model, saved_model.open_folder),
    "ONNX": (write_onnx, onnx_file.open_file),
}
every_format = pytest.mark.parametrize("kind", FORMATS)


def opened(kind, source, *, channels_first=False, **how):
    layout = CHANNELS_FIRST if channels_first else CHANNELS_LAST
    return FORMATS[kind][1](source, InputFormat(layout=layout, **how), "float32", "auto")


def read(model, names, pixels):
    logits, values = model.inner.predict(names)(pixels)
    return logits, dict(zip(names, values, strict=True))


def named(model, ending):
    [name] = [name for name in model.inner.shapes() if name.lower().endswith(ending)]
    return name


def by_numpy(plain, pixels):
    """What the layers "relu" and "pool" of `plain`, and it itself, give in float64."""
    kernel, gamma, beta, mean, variance, dense, bias = (each.astype(np.float64) for each in plain.get_weights())
    windows = np.lib.stride_tricks.sliding_window_view(pixels.astype(np.float64), kernel.shape[:2], axis=(1, 2))
    convolved = np.einsum("bijchw,hwco->bijo", windows, kernel)
    relu = np.maximum((convolved - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0)
    pool = relu.mean((1, 2))
    return relu, pool, pool @ dense + bias


@pytest.mark.parametrize("channels_first", [False, True])
@every_format
def test_tensors_are_those_of_the_layers_and_the_logits_stay(plain, pixels, tmp_path, kind, channels_first):
    source = FORMATS[kind][0](plain, tmp_path, ending="softmax", channels_first=channels_first)
    model = opened(kind, source, channels_first=channels_first)
    relu, pool, logits = by_numpy(plain, pixels)
    of_relu, of_pool = named(model, "relu"), named(model, "flat" if kind == "ONNX" else "pool_1/mean")
    assert (model.inner.shapes()[of_relu], model.inner.shapes()[of_pool]) == ((6, 4, 5), (5,))
    given, values = read(model, [of_pool, of_relu], pixels)
    np.testing.assert_allclose(values[of_relu], relu, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(values[of_pool], pool, rtol=1e-4, atol=1e-3)
    assert {each.dtype for each in values.values()} == {np.dtype(np.float32)}
    expected = model.predict(pixels)
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(softmax(given), softmax(logits), atol=1e-4)


@pytest.mark.parametrize("kind", ["LiteRT", "SavedModel"])
def test_all_tensors_come_out_of_one_pass_though_one_of_them_is_the_output(plain, pixels, tmp_path, kind):
    model = opened(kind, FORMATS[kind][0](plain, tmp_path))
    names = [*model.inner.shapes()]
    assert not any(";" in name or "PartitionedCall" in name for name in names)
    logits, values = read(model, names, pixels)
    np.testing.assert_allclose(logits, model.predict(pixels), rtol=1e-5, atol=1e-4)
    last = values[names[-1]]  # nothing is named that only hands on another one, so this is the output
    np.testing.assert_array_equal(last, logits)
    for name in names:
        np.testing.assert_allclose(read(model, [name], pixels)[1][name], values[name], rtol=1e-5, atol=1e-4)


def fixed(plain, tmp_path, kind, batch):
    """Write a network that takes so many images at a time."""
    spec = tf.TensorSpec([batch, *SHAPE], tf.float32)
    if kind == "SavedModel":
        module = tf.Module()
        module.network, module.score = plain, tf.function(lambda images: plain(images), input_signature=[spec])
        tf.saved_model.save(module, str(tmp_path / "network"), signatures=module.score)
        return str(tmp_path / "network")
    return quantised(plain, tmp_path, batch, None)


def quantised(plain, tmp_path, batch, numbers):
    function = tf.function(plain).get_concrete_function(tf.TensorSpec([batch, *SHAPE], tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [convert_to_constants.convert_variables_to_constants_v2(function)]
    )
    if numbers:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        shown = np.random.default_rng(2).uniform(0, 255, (50, batch, *SHAPE)).astype(np.float32)
        converter.representative_dataset = lambda: ([each] for each in shown)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = numbers
    (tmp_path / "network.tflite").write_bytes(converter.convert())
    return str(tmp_path / "network.tflite")


@pytest.mark.parametrize("batch", [3, 16])
@pytest.mark.parametrize("kind", ["LiteRT", "SavedModel"])
def test_networks_of_a_fixed_batch_give_tensors_of_seven_images(plain, pixels, tmp_path, kind, batch):
    model = opened(kind, fixed(plain, tmp_path, kind, batch))
    relu, pool, logits = by_numpy(plain, pixels)
    names = [named(model, "relu"), named(model, "mean")]
    given, values = read(model, names, pixels)
    for found, expected in zip((*values.values(), given), (relu, pool, logits), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-2)


def test_quantised_tensors_are_what_they_stand_for(plain, pixels, tmp_path):
    model = opened("LiteRT", quantised(plain, tmp_path, 1, tf.int8))
    relu, pool, _ = by_numpy(plain, pixels)
    names = [named(model, "relu"), named(model, "mean")]
    logits, values = read(model, names, pixels)
    np.testing.assert_allclose(logits, model.predict(pixels), atol=0.02 * np.abs(logits).max())
    for found, expected in zip(values.values(), (relu, pool), strict=True):
        np.testing.assert_allclose(found, expected, atol=0.05 * expected.max())
    steps = np.unique(values[names[0]])
    assert len(steps) <= 256  # of eight bits


def test_tensors_of_one_name_are_told_apart_by_what_follows_or_left_out(plain, tmp_path):
    source = write_litert(plain, tmp_path)
    with open(source, "rb") as file:
        model = unpacked(file.read(), source)
    outputs = [int(each.outputs[0]) for each in model.subgraphs[0].operators]
    for index, name in zip(outputs, (b"same;a", b"same;b", b"twice"), strict=False):
        model.subgraphs[0].tensors[index].name = name
    found = tensors_in(packed(model), source)
    assert [*found][:2] == ["same;a", "same;b"]
    model.subgraphs[0].tensors[outputs[1]].name = b"same;a"
    assert not [name for name in tensors_in(packed(model), source) if "same" in name]


def test_a_damaged_litert_file_is_refused(plain, tmp_path):
    source = write_litert(plain, tmp_path)
    with open(source, "rb") as file:
        content = file.read()
    message = refusal(tensors_in, content[: len(content) // 2], source)
    assert message.startswith(f"{source} is not a LiteRT file that can be read")


def test_a_saved_model_that_cannot_be_frozen_is_refused_in_a_line(plain, tmp_path, monkeypatch):
    def failing(signature):
        raise ValueError("no constant\nis a table")

    model = opened("SavedModel", write_saved_model(plain, tmp_path))
    monkeypatch.setattr(convert_to_constants, "convert_variables_to_constants_v2", failing)
    message = refusal(model.inner.shapes)
    assert message.startswith("one cannot look into ")
    assert message.endswith("whose variables cannot be made constants: no constant")


def test_an_onnx_file_of_a_batch_larger_than_what_probes_it_has_tensors(plain, pixels, tmp_path):
    model = opened("ONNX", write_onnx(plain, tmp_path, batch=16), channels_first=True)
    relu, _, logits = by_numpy(plain, pixels)
    given, values = read(model, ["relu"], pixels)
    assert model.inner.shapes()["relu"] == (6, 4, 5)
    np.testing.assert_allclose(values["relu"], relu, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(given, logits, rtol=1e-4, atol=1e-2)


def write_failing(kind, folder):
    """Write a network whose head needs 8 x 6 pixels of one image, which its file does not say."""
    weights = np.random.default_rng(0).normal(size=(8 * 6 * 3, 4)).astype(np.float32)
    path = folder / "failing"
    if kind == "ONNX":
        arrays = {"weights": weights, "shape": np.array([1, 8 * 6 * 3])}
        nodes = [
            onnx.helper.make_node("Reshape", ["images", "shape"], ["flat"]),
            onnx.helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        ]
        images, logits = (
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            for name, shape in (("images", ["B", "H", "W", 3]), ("logits", ["B", 4]))
        )
        initializers = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
        graph = onnx.helper.make_graph(nodes, "failing", [images], [logits], initializers)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, path)
        return str(path)
    sides = (8, 6) if kind == "LiteRT" else (None, None)  # LiteRT tries one pixel where they are open
    score = tf.function(
        lambda images: tf.reshape(images, [1, 8 * 6 * 3]) @ weights,
        input_signature=[tf.TensorSpec([None, *sides, 3])],
    )
    if kind == "LiteRT":
        path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([score.get_concrete_function()]).convert())
        return str(path)
    module = tf.Module()
    module.score = score
    tf.saved_model.save(module, str(path), signatures=score)
    return str(path)


@every_format
def test_a_network_that_fails_on_images_that_its_file_allows_is_refused_in_a_line(tmp_path, kind):
    source = write_failing(kind, tmp_path)
    size = {} if kind == "LiteRT" else {"size": 7}
    message = refusal(opened, kind, source, **size)
    side = "8, 6" if kind == "LiteRT" else "7, 7"
    assert message.startswith(f"{source} cannot compute images [8, {side}, 3]: ")
    assert message.endswith(": see --input.size, --input.channels, --input.layout")


@pytest.mark.parametrize("count", [None, 1, 4, 6, 100])
def test_a_fixed_batch_is_filled_up(count):
    images = np.arange(12.0).reshape(6, 2)
    sizes = []

    def run(batch):
        sizes.append(len(batch))
        return [batch + 1, batch[:, :1]]

    output, inner = in_batches_of(count, run)(images)
    np.testing.assert_array_equal(output, images + 1)
    np.testing.assert_array_equal(inner, images[:, :1])
    assert set(sizes) == {count or len(images)}
