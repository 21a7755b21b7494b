"""Rendering gives the same pixels on every backend, and in graphs as outside them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from distill.data.rendering import render, render_numpy, warp_anywhere, warp_tensorflow
from distill.data.views import PARAMETERS, ViewSpec

ROOT = Path(__file__).resolve().parents[2]
ALL_OUT = ViewSpec(rotation=40, zoom=(0.6, 1.6), shift=0.2, brightness=0.2, contrast=0.5, erase=0.5)
# Of the source and of the view: enlarged, averaged over whole blocks, averaged over fractions of them, recoloured.
SHAPES = (
    ((48, 48, 1), (84, 84, 1)),
    ((96, 72, 3), (32, 24, 3)),
    ((65, 50, 3), (21, 24, 3)),
    ((50, 41, 3), (16, 20, 1)),
    ((30, 44, 1), (44, 30, 3)),
)


def some_views(shape, count=4):
    """Random images of a shape, with the parameters of view 0 of the first and of random views of the others."""
    images = np.random.default_rng(1).integers(0, 256, (count, *shape), dtype=np.uint8)
    return images, ALL_OUT.parameters([str(i) for i in range(count)], range(count))


@pytest.mark.parametrize(("source", "target"), [((9, 7, 1), (8, 8)), ((30, 20, 3), (21, 33)), ((1, 5, 1), (4, 4))])
def test_both_warps_agree_wherever_they_read(rng, source, target):
    """Half of the points lie outside the image, where the edge continues."""
    images = rng.uniform(0, 255, (16, *source)).astype(np.float32)
    transforms = np.zeros((16, 8), np.float32)
    transforms[:, [0, 1, 3, 4]] = rng.uniform(-2, 2, (16, 4))
    transforms[:, [2, 5]] = rng.uniform(-20, 40, (16, 2))
    height, width = target
    ours, theirs = (
        warp(tf.constant(images), tf.constant(transforms), height=height, width=width)
        for warp in (warp_anywhere, warp_tensorflow)
    )
    assert ours.shape == (16, height, width, source[-1])
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_the_portable_warp_by_hand():
    row = np.array([10, 20, 40], np.float32).reshape(1, 1, 3, 1)
    every_half_pixel = np.array([[0.5, 0, -0.5, 0, 1, 0, 0, 0]], np.float32)
    warped = warp_anywhere(tf.constant(row), tf.constant(every_half_pixel), height=1, width=8)
    np.testing.assert_allclose(np.ravel(warped), [10, 10, 15, 20, 30, 40, 40, 40])


@pytest.mark.parametrize(
    ("source", "target"), [((96, 72, 3), (32, 24)), ((65, 50, 1), (21, 16)), ((47, 20, 3), (23, 10))]
)
def test_shrinking_is_an_area_average(rng, source, target):
    """At 1 / block of its size, an untouched view is the average alone."""
    images = rng.integers(0, 256, (3, *source), dtype=np.uint8)
    untouched = ViewSpec().parameters(["a", "b", "c"], [0, 0, 0])
    rendered = render_numpy(images, untouched, image_shape=(*target, source[-1]))
    np.testing.assert_allclose(rendered, tf.image.resize(images, target, method="area"), atol=1e-2)


def test_grey_has_the_weights_of_tensorflow(rng):
    images = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    rendered = render_numpy(images, ViewSpec().parameters(["a", "b"], [0, 0]), image_shape=(8, 8, 1))
    expected = tf.image.rgb_to_grayscale(tf.cast(images, tf.float32))
    np.testing.assert_allclose(rendered, expected, atol=1e-3)


@pytest.mark.parametrize(("source", "target"), SHAPES)
def test_graphs_of_any_batch_size_render_what_eager_code_renders(source, target):
    images, parameters = some_views(source)
    eager = render(images, parameters, image_shape=target)
    assert eager.shape == (4, *target)
    assert eager.dtype == tf.float32
    signature = tf.TensorSpec([None, *source], tf.uint8), tf.TensorSpec([None, len(PARAMETERS)], tf.float32)
    graph = tf.function(lambda *view: render(*view, image_shape=target), input_signature=signature, autograph=False)
    np.testing.assert_allclose(graph(images, parameters), eager, atol=1e-2)
    rows = tf.data.Dataset.from_tensor_slices((images, parameters)).batch(3)
    rendered = [batch.numpy() for batch in rows.map(lambda *view: render(*view, image_shape=target))]
    assert [len(batch) for batch in rendered] == [3, 1]
    np.testing.assert_allclose(np.concatenate(rendered), eager, atol=1e-2)


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None  # importing it is an error
import jax
import numpy as np
from distill.data.rendering import render, render_numpy
inputs, views = np.load(sys.argv[1]), {}
for i in range(len(inputs.files) // 3):
    images, parameters, shape = inputs[f"images{i}"], inputs[f"parameters{i}"], tuple(inputs[f"shape{i}"].tolist())
    views[f"eager{i}"] = render_numpy(images, parameters, image_shape=shape)
    views[f"jitted{i}"] = jax.jit(lambda *view: render(*view, image_shape=shape))(images, parameters)
np.savez(sys.argv[2], **views)
"""


def test_jax_renders_the_views_of_tensorflow_without_it(tmp_path):
    pytest.importorskip("jax")
    views = [some_views(source) for source, _ in SHAPES]
    inputs = {f"images{i}": images for i, (images, _) in enumerate(views)}
    inputs |= {f"parameters{i}": parameters for i, (_, parameters) in enumerate(views)}
    inputs |= {f"shape{i}": target for i, (_, target) in enumerate(SHAPES)}
    np.savez(tmp_path / "in.npz", **inputs)
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rendered = np.load(tmp_path / "out.npz")
    for i, (images, parameters) in enumerate(views):
        expected = render_numpy(images, parameters, image_shape=SHAPES[i][1])
        for mode in ("eager", "jitted"):
            np.testing.assert_allclose(rendered[f"{mode}{i}"], expected, atol=1e-2)
