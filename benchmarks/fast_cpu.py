"""Run a command of this project with faster kernels: `python benchmarks/fast_cpu.py distill.train_teacher ...`.

The same sums by other means, for long trainings of residual networks in bfloat16: TensorFlow's fused batch norm in
the place of Keras' single operations, and, on maps at most 4 pixels wide, the gradient of a convolution's kernel as
one matrix product for each of its taps. oneDNN's own kernel fills 3 or 4 of the 32 columns of an AMX tile there: it
takes 152 ms for a layer of 512 channels on 3x3 maps.

ResNet-18, batches of 128, two shared cores of an Intel Xeon with AMX, TensorFlow 2.21, Keras 3.15: 80 images/s became
152 at 48x48, and 178 became 328 at 32x32 (the best step of eight, one run each; the machine was noisy).

In float32, with 32 random images: the products agree with oneDNN's gradients to 1e-6 of the largest of each kernel.
With the fused norms the loss agrees to 2e-6, while gradients of deep layers differ by up to 4 % of their largest;
those of a single small norm agree with the formula to 6e-8.

glibc is told to keep memory that was freed: else it gives large blocks back to the system, which fills new ones with
zeros, page by page. Adding 1 to 19 MB took 4.7 ms in the place of 14; `slim_mobilenet` learned 406 images/s in the
place of 344 (batches of 128, float32, one thread of two of an AMD EPYC with AVX2; mean of the best step of twelve in
three runs each, alternating). There oneDNN, which TensorFlow leaves off on such a processor, made 553 and 525 of 416
(batches of 64).
"""

import os
import runpy
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
import keras
import tensorflow as tf
from keras.src import backend

_conv = backend.nn.conv
WIDEST = 4


def conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    stride = strides if isinstance(strides, int) else strides[0]
    if len(inputs.shape) != 4 or inputs.shape[1] is None or kernel.shape[2] != inputs.shape[-1]:
        return _conv(inputs, kernel, strides, padding, data_format, dilation_rate)
    kh, kw = int(kernel.shape[0]), int(kernel.shape[1])
    _, h, w, c = inputs.shape
    if padding == "same":
        oh, ow = -(-h // stride), -(-w // stride)
    else:
        oh, ow = (h - kh) // stride + 1, (w - kw) // stride + 1
    if ow > WIDEST or ow < 1 or c == 1 or dilation_rate not in (1, (1, 1)):
        return _conv(inputs, kernel, strides, padding, data_format, dilation_rate)
    name = padding.upper()

    @tf.custom_gradient
    def convolution(x, k):
        y = tf.nn.conv2d(x, k, stride, name)

        def gradient(dy):
            dx = tf.compat.v1.nn.conv2d_backprop_input(tf.shape(x), k, dy, [1, stride, stride, 1], name)
            padded = x
            if name == "SAME":
                ph, pw = max((oh - 1) * stride + kh - h, 0), max((ow - 1) * stride + kw - w, 0)
                padded = tf.pad(x, [[0, 0], [ph // 2, ph - ph // 2], [pw // 2, pw - pw // 2], [0, 0]])
            rows, columns = stride * (oh - 1) + 1, stride * (ow - 1) + 1
            flat = tf.reshape(dy, [-1, dy.shape[-1]])
            taps = [
                tf.matmul(
                    tf.reshape(padded[:, i : i + rows : stride, j : j + columns : stride], [-1, c]),
                    flat,
                    transpose_a=True,
                )
                for i in range(kh)
                for j in range(kw)
            ]
            return dx, tf.reshape(tf.stack(taps), k.shape)

        return y, gradient

    return convolution(tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel))


_batch_norm = keras.layers.BatchNormalization.call


def batch_norm(self, inputs, training=None, mask=None):
    if not training or mask is not None or len(inputs.shape) != 4 or not self.trainable:
        return _batch_norm(self, inputs, training=training, mask=mask)
    y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        inputs,
        tf.cast(self.gamma, "float32"),
        tf.cast(self.beta, "float32"),
        epsilon=self.epsilon,
        is_training=True,
    )
    count = tf.cast(tf.size(inputs) // inputs.shape[-1], "float32")
    variance *= (count - 1) / count  # the fused one is divided by count - 1
    self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1 - self.momentum))
    self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1 - self.momentum))
    return tf.cast(y, self.compute_dtype)


def switch_on():
    backend.nn.conv = conv
    keras.layers.BatchNormalization.call = batch_norm


def keep_memory():
    """Begin anew, where that has to be, as a process that keeps what it frees: glibc reads this when it starts."""
    settings = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34), "MALLOC_ARENA_MAX": "1"}
    if any(name not in os.environ for name in settings):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**settings, **os.environ})


if __name__ == "__main__":
    keep_memory()
    switch_on()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
