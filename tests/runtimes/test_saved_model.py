"""A SavedModel is a program: it runs if it computes, and is refused before it is loaded if it does more."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from distill.runtimes.open_model import open_model
from distill.runtimes.saved_model import REACHES_OUT
from tests.runtimes.conftest import CLASSES, SHAPE, refusal
from tests.runtimes.writers import write_saved_model

IMAGES = tf.TensorSpec([None, *SHAPE], tf.float32)


@pytest.fixture
def save(tmp_path):
    """A function that saves a Python function of images as a SavedModel."""

    def saved(function, *signature, name="serving_default") -> str:
        module = tf.Module()
        module.weight = tf.Variable(np.random.default_rng(0).normal(0, 1, (3, CLASSES)).astype(np.float32))
        module.score = tf.function(lambda *images: function(module, *images), input_signature=signature or [IMAGES])
        path = tmp_path / "teacher"
        tf.saved_model.save(module, str(path), signatures={name: module.score})
        return str(path)

    return saved


def pooled(module, images):
    return tf.reduce_mean(images, axis=(1, 2)) @ module.weight


def edit(source, change) -> None:
    path = os.path.join(source, "saved_model.pb")
    with open(path, "rb") as file:
        saved = saved_model_pb2.SavedModel.FromString(file.read())
    change(saved.meta_graphs[0])
    with open(path, "wb") as file:
        file.write(saved.SerializeToString())


def test_its_only_signature_is_taken_whatever_it_is_called(save, pixels):
    expected = pixels.astype(np.float64).mean(axis=(1, 2)) @ np.random.default_rng(0).normal(0, 1, (3, CLASSES))
    model = open_model(save(pooled, name="score"))
    np.testing.assert_allclose(model.predict(pixels), expected, rtol=1e-4, atol=1e-3)
    assert model.input_shape == SHAPE


def test_a_folder_that_tensorflow_takes_for_a_pattern_is_refused(save):
    source = f"{save(pooled)}[1]"
    os.rename(source.removesuffix("[1]"), source)
    message = refusal(open_model, source)
    assert "teacher[1] has brackets, which TensorFlow takes for a pattern of names: rename" in message


def test_a_fixed_batch_gives_the_same(save, pixels):
    free = open_model(save(pooled)).predict(pixels)
    fixed = open_model(save(pooled, tf.TensorSpec([2, *SHAPE], tf.float32)))
    np.testing.assert_allclose(fixed.predict(pixels), free, rtol=1e-5)


def test_its_fingerprint_is_of_graph_and_weights_wherever_it_lies(plain, save, tmp_path):
    source = save(pooled)
    first = open_model(source).sha256
    shutil.copytree(source, tmp_path / "moved")
    (tmp_path / "moved" / "README.md").write_text("mine")
    assert open_model(str(tmp_path / "moved")).sha256 == first
    assert open_model(write_saved_model(plain, tmp_path)).sha256 != first


def read_a_file(module, images):
    content = tf.strings.length(tf.io.read_file("secret"))
    return pooled(module, images) + tf.cast(content, tf.float32)


def write_a_file(module, images):
    with tf.control_dependencies([tf.io.write_file("written", "by a network")]):
        return pooled(module, images)


def print_to_a_file(module, images):
    tf.print("by a network", output_stream="file://written")
    return pooled(module, images)


def run_python(module, images):
    return tf.ensure_shape(tf.numpy_function(np.array, [pooled(module, images)], tf.float32), [None, CLASSES])


def save_weights(module, images):
    tf.raw_ops.SaveV2(prefix="written", tensor_names=["w"], shape_and_slices=[""], tensors=[module.weight])
    return pooled(module, images)


def in_a_branch(module, images):
    inner = tf.function(lambda: read_a_file(module, images))
    return tf.cond(tf.reduce_mean(images) > 0, inner, lambda: pooled(module, images))


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (read_a_file, "ReadFile"),
        (write_a_file, "WriteFile"),
        (print_to_a_file, "PrintV2"),
        (run_python, "PyFunc"),
        (save_weights, "SaveV2"),
        (in_a_branch, "ReadFile"),
    ],
)
def test_what_reaches_out_is_refused_before_it_is_loaded(save, in_tmp_path, monkeypatch, function, operation):
    source = save(function)
    monkeypatch.setattr(tf.saved_model, "load", lambda path: pytest.fail("it was loaded"))
    message = refusal(open_model, source)
    assert message.startswith(f"{source} has an operation ")
    assert operation in message
    assert not (in_tmp_path / "written").exists()


def test_a_function_that_hides_from_the_list_is_found(tmp_path):
    def harmless(images):
        return tf.reduce_mean(images, axis=(1, 2))

    def score(images):
        return tf.reduce_mean(images, axis=(1, 2)) + tf.cast(tf.strings.length(tf.io.read_file("secret")), tf.float32)

    module = tf.Module()
    module.harmless = tf.function(harmless, input_signature=[IMAGES])
    module.score = tf.function(score, input_signature=[IMAGES])
    source = str(tmp_path / "teacher")
    tf.saved_model.save(module, source, signatures=module.score)

    def hide(graph):
        functions = graph.object_graph_def.concrete_functions
        for name in list(functions):
            if "harmless" not in name:
                del functions[name]
        assert functions

    edit(source, hide)
    assert "has an operation ReadFile" in refusal(open_model, source)


BENIGN = ("BoostedTrees", "CTC", "SparseCore", "SparseDenseMatmul", "GetMinibatch")  # a path of a tree; no string
TELLING = ("file", "path", "_dir", "url", "uri", "token", "address", "prefix", "vocab", "server")


def test_every_operation_that_is_given_a_place_is_known():
    for name in dir(tf.raw_ops):
        operation = op_def_registry.get(name)
        if operation is None or any(word in name for word in BENIGN):
            continue
        arguments = [each.name for each in (*operation.input_arg, *operation.attr)]
        if any(word in argument for word in TELLING for argument in arguments):
            assert REACHES_OUT.search(name), name


def test_what_networks_are_made_of_is_let_through():
    made_of = "Conv2D DepthwiseConv2dNative MatMul BiasAdd FusedBatchNormV3 Relu Softmax Log Exp Mean MaxPool AvgPool"
    also = (
        "ReadVariableOp Pad ConcatV2 StridedSlice ResizeBilinear Reshape Identity NoOp Const StatefulPartitionedCall"
    )
    for name in f"{made_of} {also} While If Einsum Erf Rsqrt Transpose Cast XlaCallModule Assert".split():
        assert not REACHES_OUT.search(name), name


def cast_and_pooled(module, images):
    return pooled(module, tf.cast(images, tf.float32))


@pytest.mark.parametrize("kind", [tf.uint8, tf.float16, tf.float64])
def test_pixels_of_other_kinds(pixels, save, kind):
    expected = open_model(save(pooled, tf.TensorSpec([None, *SHAPE], tf.float32))).predict(np.rint(pixels))
    logits = open_model(save(cast_and_pooled, tf.TensorSpec([None, *SHAPE], kind))).predict(np.rint(pixels))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


class TestRefused:
    def test_a_loop_which_may_never_end(self, save):
        def endless(module, images):
            return tf.while_loop(
                lambda logits: tf.reduce_all(logits > -1), lambda logits: [logits], [images[:, 0, 0]]
            )[0]

        assert "teacher has a loop, While, which may never end" in refusal(open_model, save(endless)).replace(
            "StatelessWhile", "While"
        )

    def test_a_pipe_among_its_files(self, save):
        source = save(pooled)
        os.mkfifo(os.path.join(source, "variables", "more"))
        assert "variables/more is a pipe: expected a file" in refusal(open_model, source)

    @pytest.mark.parametrize("content", [b"", b"words", b"\xff" * 40])
    def test_a_damaged_graph(self, save, content):
        source = save(pooled)
        with open(os.path.join(source, "saved_model.pb"), "wb") as file:
            file.write(content)
        assert source in refusal(open_model, source)

    def test_missing_weights(self, save):
        source = save(pooled)
        shutil.rmtree(os.path.join(source, "variables"))
        assert f"{source} cannot be loaded as a SavedModel: " in refusal(open_model, source)

    def test_one_of_tensorflow_1(self, save):
        source = save(pooled)
        edit(source, lambda graph: graph.ClearField("object_graph_def"))
        assert f"{source} has no functions of TensorFlow 2: save it by" in refusal(open_model, source)

    def test_several_signatures_inputs_or_outputs(self, save, tmp_path):
        module = tf.Module()
        module.score = tf.function(lambda images: tf.reduce_mean(images, axis=(1, 2)), input_signature=[IMAGES])
        tf.saved_model.save(module, str(tmp_path / "two"), signatures={"a": module.score, "b": module.score})
        message = refusal(open_model, str(tmp_path / "two"))
        assert 'has the signatures a, b, expected "serving_default" or a single one' in message
        message = refusal(open_model, save(lambda module, left, right: pooled(module, left), IMAGES, IMAGES))
        assert "has 2 inputs (" in message
        message = refusal(open_model, save(lambda module, images: {"a": pooled(module, images), "b": images}))
        assert "has 2 outputs (a, b), expected one" in message

    def test_pixels_of_another_type_or_shape(self, save):
        message = refusal(open_model, save(cast_and_pooled, tf.TensorSpec([None, *SHAPE], tf.int64)))
        assert "takes int64, expected pixels as float32, float16," in message
        flat = tf.TensorSpec([None, 3], tf.float32)
        message = refusal(open_model, save(lambda module, images: images @ module.weight, flat))
        assert "takes inputs of shape [3], expected images" in message
