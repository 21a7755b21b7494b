"""Features of a teacher: what its layers give, averaged, in the pass that gives the logits."""

import keras
import numpy as np
import pytest
from keras import layers

from distill.averages import average_map
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.logit_store import Shard, merge_parts, open_logits
from distill.runtimes import keras_file, onnx_file, saved_model, tflite_file
from distill.runtimes.image_model import LOGITS, ImageModel, InnerOutputs
from distill.runtimes.input_format import InputFormat
from distill.scoring.caching import cache_logits
from distill.scoring.features import LayerFeature, features_text, layer_shapes
from distill.scoring.scorer import Scorer
from tests.runtimes.writers import write_litert, write_saved_model

QUIET = {"rows_per_part": 4, "progress": False}
FEATURES = ("norm", "conv_2@2", "hidden")
ALL = np.arange(18)


@pytest.fixture(scope="module")
def network():
    """Two convolutions, a batch norm after each, which inference folds into them, and a hidden layer."""
    keras.utils.set_random_seed(3)
    pixels = keras.Input((9, 7, 1))
    x = layers.Rescaling(1 / 255)(pixels)
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="conv")(x))
    x = layers.BatchNormalization(name="norm_2")(layers.Conv2D(6, 2, name="conv_2")(layers.ReLU(name="relu")(x)))
    x = layers.Dense(5, activation="relu", name="hidden")(layers.GlobalAveragePooling2D(name="pool")(x))
    model = keras.Model(pixels, layers.Dense(3)(x), name="teacher")
    rng = np.random.default_rng(4)
    model.set_weights([rng.uniform(0.2, 1, each.shape) for each in model.get_weights()])
    return model


def by_numpy(network, pixels, name):
    """Return the layer's output in float64, and its mean over areas one by one."""
    layer = LayerFeature.parse(name)
    inner = keras.Model(network.inputs, network.get_layer(layer.layer).output)
    values = np.asarray(inner(pixels), np.float64)
    if layer.side is None:
        return values.reshape(len(values), -1, values.shape[-1]).mean(1)
    return adaptive_average(values, layer.side)


def adaptive_average(values, side):
    """PyTorch's adaptive_avg_pool2d, by its definition, on [B, H, W, C]."""
    result = np.zeros((len(values), side, side, values.shape[-1]))
    for row in range(side):
        for column in range(side):
            (top, bottom), (left, right) = (
                (at * size // side, -(-(at + 1) * size // side))
                for at, size in ((row, values.shape[1]), (column, values.shape[2]))
            )
            result[:, row, column] = values[:, top:bottom, left:right].mean((1, 2))
    return result


def stored(store, name):
    views = store.header.views
    found = store.read_feature(name, np.repeat(ALL, views), np.tile(np.arange(views), 18))
    return found.reshape(18, views, *found.shape[1:])


# Averages


@pytest.mark.parametrize(("height", "width", "side"), [(7, 7, 3), (9, 4, 4), (5, 6, 1), (4, 4, 4), (10, 7, 6)])
@pytest.mark.parametrize("ops", [np, keras.ops], ids=["numpy", "keras"])
def test_a_map_is_averaged_as_adaptive_pooling_does(rng, height, width, side, ops):
    values = rng.normal(size=(2, height, width, 3)).astype(np.float32)
    found = np.asarray(average_map(values, (side, side), ops))
    np.testing.assert_allclose(found, adaptive_average(values.astype(np.float64), side), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "layer", "side"),
    [
        ("conv5", "conv5", None),
        ("conv5@7", "conv5", 7),
        ("/block/Conv:0@12", "/block/Conv:0", 12),
        ("a@b", "a@b", None),
        ("@3", "@3", None),
        ("a@b@3", "a@b", 3),
    ],
)
def test_a_feature_is_written_as_it_is_read(text, layer, side):
    found = LayerFeature.parse(text)
    assert (found.layer, found.side, found.name) == (layer, side, text)


# Of Keras networks


def test_layers_are_averaged_as_the_network_gives_them_though_norms_are_folded(tmp_path, faces, network):
    how = {"features": FEATURES, "feature_dtype": "float32", "view_spec": ViewSpec(rotation=20), **QUIET}
    store = cache_logits(network, faces, tmp_path / "t.h5", views=2, **how)
    scorer = Scorer(Identity(), faces, view_spec=ViewSpec(rotation=20))
    pixels = scorer.score(ALL, range(2)).reshape(36, 9, 7, 1)  # what the teacher saw
    np.testing.assert_allclose(store.logits.reshape(36, 3), network(pixels), rtol=1e-4)
    assert store.features["conv_2@2"].shape == (2, 2, 6)
    for name in FEATURES:
        expected = by_numpy(network, pixels, name)
        np.testing.assert_allclose(stored(store, name).reshape(expected.shape), expected, rtol=1e-4)


class Identity(keras.Model):
    """Gives the pixels back as one row."""

    input_shape = (None, 9, 7, 1)

    def call(self, images, training=False):
        return keras.ops.reshape(images, (-1, 63))


def test_features_are_added_to_a_store_of_logits_in_one_pass(tmp_path, faces, monkeypatch):
    path, how, passes = tmp_path / "t.h5", {"views": 2, "feature_dtype": "float32", **QUIET}, []

    def sums(images):
        passes.append(len(images))
        return images.reshape(len(images), -1)[:, :3]

    teacher = tapped(sums)
    before = cache_logits(teacher, faces, path, **how).logits
    whole = cache_logits(teacher, faces, tmp_path / "whole.h5", features=["rows", "half@2"], **how)
    cache_logits(teacher, faces, path, features=["rows"], **how)
    passes.clear()
    added = cache_logits(teacher, faces, path, features=["half@2"], **how)
    assert sum(passes) == 2 * (4 + 18)  # the first rows are scored again before anything is added
    assert path.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    np.testing.assert_array_equal(added.logits, before)
    passes.clear()
    views = cache_logits(teacher, faces, path, **{**how, "views": 3})  # of the features that are there, too
    assert sum(passes) == 2 * 4 + 1 * 18
    for name in ("rows", "half@2"):
        np.testing.assert_array_equal(stored(views, name)[:, :2], stored(whole, name))
    content = path.read_bytes()
    monkeypatch.setattr("distill.scoring.caching._score_missing", None)  # there is nothing to do
    cache_logits(teacher, faces, path, features=["half@2", "rows"], **{**how, "views": 3})
    assert path.read_bytes() == content


def test_shards_add_features(tmp_path, faces):
    path, teacher = tmp_path / "t.h5", tapped(lambda images: images.reshape(len(images), -1)[:, :3])
    cache_logits(teacher, faces, path, views=1, **QUIET)
    for number in (1, 2):
        shard = Shard(number, 2)
        assert cache_logits(teacher, faces, path, views=1, features=["rows"], shard=shard, **QUIET) is None
    merge_parts([f"{path}.parts"], path)
    assert stored(open_logits(path), "rows").shape == (18, 1, 8)


def test_features_of_a_teacher_that_gives_other_logits_are_not_added(tmp_path, faces, network):
    path = tmp_path / "t.h5"
    model = tapped(lambda images: images.reshape(len(images), -1)[:, :3])
    cache_logits(model, faces, path, views=1, **QUIET)
    other = tapped(lambda images: images.reshape(len(images), -1)[:, :3] + (np.arange(len(images)) > 3)[:, None])
    with pytest.raises(InputError, match="sums no longer gives the logits .*face-4, view 0.*bring it back"):
        cache_logits(other, faces, path, views=1, features=["rows"], **{**QUIET, "rows_per_part": 18})
    assert not open_logits(path).features


def tapped(predict):
    """A teacher of no framework, whose layer "rows" gives the sums of the rows, and "half" the pixels halved."""
    layers_of = {"rows": lambda pixels: pixels.sum((2, 3)), "half": lambda pixels: pixels / 2}
    inner = InnerOutputs(
        lambda: {"rows": (8,), "half": (8, 8, 1)},
        lambda names: lambda pixels: (predict(pixels), [layers_of[name](pixels) for name in names]),
    )
    facts = {"name": "sums", "input_shape": (8, 8, 1), "classes": 3, "sha256": "0", "numeric_policy": "float32"}
    return ImageModel(**facts, logits_from=LOGITS, input_format={}, network=None, predict=predict, inner=inner)


# What there is, and what is refused


def test_what_there_is_is_listed_with_shape_and_bytes(network, faces):
    from distill.scoring.caching import named_teacher

    teacher = named_teacher(network, faces)
    assert layer_shapes(teacher)["conv"] == (7, 5, 4)
    text = features_text(teacher, dtype="float16", views=2)
    assert any(line.split() == ["conv", "7x5x4", "16", "560"] for line in text.splitlines()), text
    assert any(line.split() == ["hidden", "5", "20", "-"] for line in text.splitlines()), text


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ("hiden", 'teacher has no layer "hiden": did you mean hidden.*--features list shows all'),
        (
            "conv@6",
            r"conv of teacher gives \[7, 5, 4\], of which no map of 6 x 6 can be made: .*, or the vector, conv",
        ),
        ("hidden@1", r"gives \[5\], of which no map"),
        ("conv@0", "a side of 1 or more"),
    ],
)
def test_layers_that_are_not_there_are_refused_before_anything_is_written(
    tmp_path,
    faces,
    network,
    feature,
    message,
):
    with pytest.raises(InputError, match=message):
        cache_logits(network, faces, tmp_path / "t.h5", features=[feature], **QUIET)
    assert not [*tmp_path.iterdir()]


def test_a_teacher_that_cannot_be_looked_into_is_refused(tmp_path, faces):
    facts = {"name": "sums", "input_shape": (8, 8, 1), "classes": 3, "sha256": "0", "numeric_policy": "float32"}
    closed = ImageModel(
        **facts, logits_from=LOGITS, input_format={}, network=None, predict=lambda images: images[:, 0]
    )
    with pytest.raises(InputError, match="one cannot look into sums: features are those of"):
        cache_logits(closed, faces, tmp_path / "t.h5", features=["a"], **QUIET)


# Of files


@pytest.fixture(scope="module")
def written_onnx(network, tmp_path_factory):
    """The network as an ONNX file, by hand: its channels first, as nodes of ONNX have them."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, rng = onnx.helper, np.random.default_rng(1)
    weights = {
        "kernel": rng.normal(size=(4, 1, 3, 3)),
        "kernel_2": rng.normal(size=(6, 4, 2, 2)),
        "dense": rng.normal(size=(6, 3)),
    }
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "kernel"], ["conv"]),
        helper.make_node("Relu", ["conv"], ["/block/relu:0"]),
        helper.make_node("Conv", ["/block/relu:0", "kernel_2"], ["conv_2"]),
        helper.make_node("Transpose", ["conv_2"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("ReduceMean", ["last"], ["pool"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["pool", "dense"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "teacher",
        [helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["batch", 9, 7, 1])],
        [helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["batch", 3])],
        [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    path = tmp_path_factory.mktemp("onnx") / "teacher.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return path, weights


def convolved(values, kernel):
    """Channels-last correlation in float64 of [B, H, W, in] with ONNX's [out, in, h, w]."""
    height, width = kernel.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(values, (height, width), axis=(1, 2))
    return np.einsum("bijchw,ochw->bijo", windows, kernel)


def test_tensors_of_an_onnx_file_are_cached_channels_last_with_its_logits(tmp_path, faces, written_onnx):
    path, weights = written_onnx
    teacher = onnx_file.open_file(str(path), InputFormat(), "float32", "auto")
    shapes = layer_shapes(teacher)
    assert shapes["/block/relu:0"] == (7, 5, 4)
    assert shapes["last"] == shapes["conv_2"] == (6, 4, 6)
    names = ("/block/relu:0@2", "conv_2", "last@3", "logits")
    store = cache_logits(teacher, faces, tmp_path / "t.h5", views=1, features=names, feature_dtype="float32", **QUIET)
    pixels = Scorer(Identity(), faces).score(ALL).reshape(18, 9, 7, 1).astype(np.float64)
    relu = np.maximum(convolved(pixels, weights["kernel"]), 0)
    last = convolved(relu, weights["kernel_2"])
    logits = last.mean((1, 2)) @ weights["dense"]
    expected = [adaptive_average(relu, 2), last.mean((1, 2)), adaptive_average(last, 3), logits]
    np.testing.assert_allclose(store.logits[:, 0], logits, rtol=1e-4, atol=1e-3)
    for name, values in zip(names, expected, strict=True):
        np.testing.assert_allclose(stored(store, name)[:, 0], values, rtol=1e-4, atol=1e-3)


def test_layers_of_a_keras_file_are_cached(tmp_path, faces, network):
    network.save(tmp_path / "teacher.keras")
    teacher = keras_file.open_file(str(tmp_path / "teacher.keras"), InputFormat(), "float32", "auto")
    how = {"views": 1, "features": FEATURES, "feature_dtype": "float32", **QUIET}
    of_file = cache_logits(teacher, faces, tmp_path / "file.h5", **how)
    of_network = cache_logits(network, faces, tmp_path / "network.h5", **how)
    for name in FEATURES:
        np.testing.assert_allclose(stored(of_file, name), stored(of_network, name), rtol=1e-5)


@pytest.mark.parametrize("kind", ["LiteRT", "SavedModel"])
def test_tensors_of_litert_files_and_saved_models_are_cached_and_listed(tmp_path, faces, network, kind):
    write, open_it = {
        "LiteRT": (write_litert, tflite_file.open_file),
        "SavedModel": (write_saved_model, saved_model.open_folder),
    }[kind]
    teacher = open_it(write(network, tmp_path), InputFormat(), "float32", "auto")
    [relu] = [name for name in layer_shapes(teacher) if name.lower().endswith("relu_1/relu")]
    assert f"{relu}  " in features_text(teacher, dtype="float16", views=1)
    how = {"views": 1, "feature_dtype": "float32", **QUIET}
    cache_logits(teacher, faces, tmp_path / "t.h5", **how)
    store = cache_logits(teacher, faces, tmp_path / "t.h5", features=[f"{relu}@2"], **how)  # of the same logits
    pixels = Scorer(Identity(), faces).score(ALL).reshape(18, 9, 7, 1)
    np.testing.assert_allclose(store.logits[:, 0], network(pixels), rtol=1e-4)
    np.testing.assert_allclose(stored(store, f"{relu}@2")[:, 0], by_numpy(network, pixels, "relu@2"), rtol=1e-4)
