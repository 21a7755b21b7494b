"""External networks that come to no end, want all memory or end their process: another process meets them."""

import os
import subprocess
import sys
import time

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper

from distill.answering_process import AnsweringProcess, NoAnswerError
from distill.errors import InputError
from distill.runtimes import first_image
from distill.runtimes.open_model import open_model

IMAGES = tf.TensorSpec([None, 8, 8, 1], tf.float32)
HUGE = 1 << 20  # its square of float32 numbers has 4 TiB


def huge_onnx(path):
    """A file of some hundred bytes."""
    sides = helper.make_tensor("sides", TensorProto.INT64, [2], [HUGE, HUGE])
    nodes = [
        helper.make_node("Constant", [], ["sides"], value=sides),
        helper.make_node("ConstantOfShape", ["sides"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("ReduceMean", ["images"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("Add", ["means", "sum"], ["logits"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [None, 8, 8, 1])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph(nodes, "huge", [images], [logits])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def huge_saved_model(path):
    module = tf.Module()
    side = tf.constant(HUGE)

    @tf.function(input_signature=[IMAGES])
    def score(images):
        huge = tf.random.uniform([side, side])
        return tf.reduce_mean(images, axis=(1, 2)) + tf.reduce_sum(huge)

    module.score = score
    tf.saved_model.save(module, str(path), signatures=score)


def huge_keras(path):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.UpSampling2D(HUGE // 8)(inputs)
    keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x))).save(path)


@pytest.mark.parametrize(
    ("write", "name"), [(huge_onnx, "huge.onnx"), (huge_saved_model, "huge"), (huge_keras, "huge.keras")]
)
def test_a_network_that_asks_for_more_memory_than_there_is_is_refused_in_one_line(tmp_path, write, name):
    source = tmp_path / name
    write(source)
    with pytest.raises(InputError, match="memory|ended the process") as refused:
        open_model(str(source))
    assert str(refused.value).startswith(str(source))
    assert str(refused.value).isprintable()


def test_a_network_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    huge_onnx(tmp_path / "slow.onnx")
    monkeypatch.setattr(first_image, "SECONDS", 0.01)  # less than Python takes to start
    monkeypatch.setattr(first_image, "_process", None)
    with pytest.raises(InputError, match="slow.onnx was opened in another process.*no end in 0 seconds"):
        open_model(str(tmp_path / "slow.onnx"))


def test_a_class_that_only_this_process_knows_is_opened_here(tmp_path):
    @keras.saving.register_keras_serializable("test_first_image")
    class Halved(keras.layers.Layer):
        def call(self, x):
            return x / 2

    inputs = keras.Input((8, 8, 1))
    network = keras.Model(inputs, Halved()(keras.layers.Dense(3)(keras.layers.Flatten()(inputs))))
    network.save(tmp_path / "own.keras")
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 1)).astype(np.float32)
    opened = open_model(str(tmp_path / "own.keras"))
    np.testing.assert_allclose(opened.predict(pixels), network.predict_on_batch(pixels), rtol=1e-5)


def test_a_process_that_hangs_or_ends_is_started_again():
    program = """
import os, sys, time
for question in sys.stdin:
    if "hang" in question:
        time.sleep(60)
    if "end" in question:
        os._exit(3)
    print(question, end="", flush=True)
"""
    process = AnsweringProcess("-c", program)
    assert process.ask("one", seconds=30) == "one"
    with pytest.raises(NoAnswerError, match="no end in 0 seconds"):
        process.ask("hang", seconds=0.1)
    assert process.ask("two", seconds=30) == "two"
    with pytest.raises(NoAnswerError, match="exit code 3"):
        process.ask("end", seconds=30)
    assert process.ask("three", seconds=30) == "three"
    process.end()
    assert process.ask("four", seconds=30) == "four"
    process.end()


@pytest.mark.skipif(not os.path.exists("/proc"), reason="processes are looked up in /proc")
def test_the_process_ends_with_the_one_that_started_it():
    program = (
        "from distill.answering_process import AnsweringProcess\n"
        "process = AnsweringProcess('-c', 'import os, sys\\nfor line in sys.stdin: print(os.getpid(), flush=True)')\n"
        "print(process.ask('who', seconds=30))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    waited = time.monotonic() + 20
    while is_running(int(done.stdout)) and time.monotonic() < waited:
        time.sleep(0.05)
    assert not is_running(int(done.stdout))


def is_running(process_id):
    try:
        with open(f"/proc/{process_id}/stat") as file:
            return file.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_name_that_reminds_of_memory_is_no_lack_of_it(tmp_path):
    source = tmp_path / "room allocated to zoom.onnx"
    source.write_text("junk")
    with pytest.raises(InputError, match="is not an ONNX file that can be read"):
        open_model(str(source))
