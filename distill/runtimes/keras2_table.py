"""What Keras 1 and 2 wrote otherwise than Keras 3 reads it: a table to which the next difference is added as a row.

`CLASSES` are layers of another name, `SETTINGS` what layers were given and Keras 3's do not take, `OPERATIONS` the
functions of TensorFlow that stood between layers. Only what Keras 3 computes alike is in here: tests compare it with
`tf_keras`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras

CLASSES = {
    "BatchNormalizationV1": "BatchNormalization",  # TensorFlow 1.13 to 2.0
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "ThresholdedReLU": "ReLU",
    "RandomHeight": "Identity",  # acts in training alone, as does the next
    "RandomWidth": "Identity",
    "Convolution1D": "Conv1D",  # Keras 1, as all below
    "Convolution2D": "Conv2D",
    "AtrousConvolution2D": "Conv2D",
    "SeparableConvolution2D": "SeparableConv2D",
}
"""Class -> the class of Keras 3 that computes the same."""

_ANYTHING = object()


class Setting(NamedTuple):
    """What becomes of a setting that Keras 3's class does not take."""

    becomes: str | None = None
    """Its name in Keras 3, for a class that takes that."""
    harmless: Any = _ANYTHING
    """The values with which it can be left out, for any other class."""

    def can_be_left_out(self, value: Any) -> bool:
        return self.harmless is _ANYTHING or value in self.harmless


SETTINGS = {
    "alpha": Setting("negative_slope", ()),  # LeakyReLU
    "theta": Setting("threshold", ()),  # ThresholdedReLU
    "batch_input_shape": Setting("batch_shape"),  # of an InputLayer; the first layer of a Sequential gets one
    "trainable": Setting(),
    "input_dim": Setting(),
    "input_dtype": Setting(),
    "input_length": Setting(),
    "groups": Setting(harmless=(1, None)),  # DepthwiseConv2D, SeparableConv2D, Conv2DTranspose
    "kernel_initializer": Setting(),  # SeparableConv2D and DepthwiseConv2D have others for theirs
    "kernel_regularizer": Setting(),
    "kernel_constraint": Setting(),
    "noise_shape": Setting(),  # SpatialDropout2D works it out
    "rng_type": Setting(),
    "force_generator": Setting(),
    "seed": Setting(),
    "time_major": Setting(harmless=(False,)),
    "unroll": Setting(),
    "implementation": Setting(),
    "ragged": Setting(harmless=(False,)),
    "dynamic": Setting(harmless=(False,)),
    "fused": Setting(),
    "renorm": Setting(harmless=(False,)),  # would bring weights of its own
    "renorm_clipping": Setting(),
    "renorm_momentum": Setting(),
    "virtual_batch_size": Setting(),
    "adjustment": Setting(harmless=(None,)),
    "query_shape": Setting(),  # MultiHeadAttention, as the next three
    "key_shape": Setting(),
    "value_shape": Setting(),
    "softmax_robust_masking": Setting(harmless=(False,)),
    "mode": Setting(harmless=(0, 2)),  # Keras 1, as all below; of a BatchNormalization: by channel
    "nb_filter": Setting("filters", ()),
    "filter_length": Setting("kernel_size", ()),
    "subsample": Setting("strides", ()),
    "subsample_length": Setting("strides", ()),
    "atrous_rate": Setting("dilation_rate", ()),
    "border_mode": Setting("padding", ("valid",)),
    "dim_ordering": Setting("data_format", ("tf",)),
    "bias": Setting("use_bias", ()),
    "output_dim": Setting("units", ()),
    "pool_length": Setting("pool_size", ()),
    "stride": Setting("strides", ()),
    "p": Setting("rate", ()),
    "sigma": Setting("stddev", ()),
}
"""Setting that a class of Keras 3 does not take -> what becomes of it."""

TRAINING_ALONE = ("_initializer", "_regularizer", "_constraint")
"""Ends of the names of settings that no trained network needs, and that hold what others wrote in Python."""
TRAINING_ALONE_OF_KERAS_1 = ("init", "inner_init", "gamma_init", "beta_init", "weights")

DEFAULTS: dict[str, dict[str, Any]] = {
    "GRU": {"reset_after": False},
    "GRUCell": {"reset_after": False},
    "LSTM": {"recurrent_activation": "hard_sigmoid"},
}
"""Class -> what it meant where a file does not say it, and Keras 3 means something else."""

HARD_SIGMOID = "distill>hard_sigmoid_of_keras_2"


@keras.saving.register_keras_serializable("distill", "hard_sigmoid_of_keras_2")
def hard_sigmoid(x):
    """0.2 x + 0.5, cut off at 0 and 1, as it was up to Keras 2; Keras 3 means x / 6 + 0.5."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


ACTIVATIONS = {
    "hard_sigmoid": {
        "class_name": "function",
        "module": "builtins",
        "config": HARD_SIGMOID,
        "registered_name": HARD_SIGMOID,
    },
}
"""Activation that Keras 3 computes otherwise -> what computes the same."""


class Operation(NamedTuple):
    """An operation of Keras 3 for a function of TensorFlow, whose first argument goes first."""

    name: str
    """Of its class."""
    room: str = "numpy"
    """The module below `keras.src.ops` under which Keras 3 itself saves it."""
    inputs: tuple[str, ...] = ()
    """Names of TensorFlow's further arguments that may be tensors."""
    settings: Mapping[str, str] = {}
    """TensorFlow's name of a setting -> Keras' name."""
    given: Mapping[str, Any] = {}
    """Settings of Keras with which it computes the same."""
    harmless: Mapping[str, tuple] = {}
    """TensorFlow's name of a setting -> the values with which it can be left out."""


_REDUCED = {"axis": "axis", "keepdims": "keepdims"}
_AXIS = {"axis": "axis"}
_FLOATS = ("float32", "float16", "float64", "bfloat16")

OPERATIONS = {
    "math.add": Operation("Add", inputs=("y",)),
    "__operators__.add": Operation("Add", inputs=("y",)),
    "math.subtract": Operation("Subtract", inputs=("y",)),
    "math.multiply": Operation("Multiply", inputs=("y",)),
    "math.scalar_mul": Operation("Multiply", inputs=("x",)),
    "math.truediv": Operation("TrueDivide", inputs=("y",)),
    "math.divide": Operation("TrueDivide", inputs=("y",)),
    "realdiv": Operation("TrueDivide", inputs=("y",)),
    "math.maximum": Operation("Maximum", inputs=("y",)),
    "math.minimum": Operation("Minimum", inputs=("y",)),
    "math.pow": Operation("Power", inputs=("y",)),
    "nn.bias_add": Operation("Add", inputs=("bias",), harmless={"data_format": (None, "NHWC", "channels_last")}),
    "math.negative": Operation("Negative"),
    "math.abs": Operation("Absolute"),
    "math.sqrt": Operation("Sqrt"),
    "math.rsqrt": Operation("Rsqrt", "math"),
    "math.square": Operation("Square"),
    "math.exp": Operation("Exp"),
    "math.log": Operation("Log"),
    "math.tanh": Operation("Tanh"),
    "nn.tanh": Operation("Tanh"),
    "math.sigmoid": Operation("Sigmoid", "nn"),
    "nn.sigmoid": Operation("Sigmoid", "nn"),
    "nn.softplus": Operation("Softplus", "nn"),
    "math.softplus": Operation("Softplus", "nn"),
    "nn.softsign": Operation("Softsign", "nn"),
    "nn.relu": Operation("Relu", "nn"),
    "nn.relu6": Operation("Relu6", "nn"),
    "nn.leaky_relu": Operation("LeakyRelu", "nn", settings={"alpha": "negative_slope"}),
    "nn.elu": Operation("Elu", "nn"),
    "nn.selu": Operation("Selu", "nn"),
    "nn.silu": Operation("Silu", "nn", harmless={"beta": (1, 1.0)}),
    "nn.swish": Operation("Silu", "nn", harmless={"beta": (1, 1.0)}),
    "nn.gelu": Operation("Gelu", "nn", settings={"approximate": "approximate"}, given={"approximate": False}),
    "nn.softmax": Operation("Softmax", "nn", settings=_AXIS),
    "nn.log_softmax": Operation("LogSoftmax", "nn", settings=_AXIS),
    "math.l2_normalize": Operation("Normalize", "nn", settings=_AXIS, harmless={"epsilon": (None, 1e-12)}),
    "math.reduce_mean": Operation("Mean", settings=_REDUCED),
    "math.reduce_sum": Operation("Sum", settings=_REDUCED),
    "math.reduce_max": Operation("Max", settings=_REDUCED),
    "math.reduce_min": Operation("Min", settings=_REDUCED),
    "clip_by_value": Operation("Clip", settings={"clip_value_min": "x_min", "clip_value_max": "x_max"}),
    "reshape": Operation("Reshape", settings={"shape": "newshape"}),
    "transpose": Operation("Transpose", settings={"perm": "axes"}, harmless={"conjugate": (False,)}),
    "reverse": Operation("Flip", settings=_AXIS),
    "concat": Operation("Concatenate", settings=_AXIS),
    "stack": Operation("Stack", settings=_AXIS),
    "expand_dims": Operation("ExpandDims", settings=_AXIS),
    "squeeze": Operation("Squeeze", settings=_AXIS),
    "identity": Operation("Cast", "core", given={"dtype": "float32"}),
    "stop_gradient": Operation("Cast", "core", given={"dtype": "float32"}),
    "cast": Operation("Cast", "core", given={"dtype": "float32"}, harmless={"dtype": _FLOATS}),
    "image.resize": Operation(
        "Resize",
        "image",
        settings={"size": "size", "method": "interpolation", "antialias": "antialias"},
        harmless={"preserve_aspect_ratio": (False,)},
    ),
    "__operators__.getitem": Operation("GetItem", inputs=("slice_spec",)),
}
"""Function of TensorFlow, as a `TFOpLambda` names it -> Keras' operation. Everything computes in float32."""

NODES = {
    "RealDiv": "math.truediv",
    "Sub": "math.subtract",
    "Add": "math.add",
    "AddV2": "math.add",
    "Mul": "math.multiply",
    "Maximum": "math.maximum",
    "Minimum": "math.minimum",
    "BiasAdd": "nn.bias_add",
    "Neg": "math.negative",
    "Cast": "cast",
    "Relu": "nn.relu",
    "Relu6": "nn.relu6",
    "Sigmoid": "math.sigmoid",
    "Tanh": "math.tanh",
    "Softmax": "nn.softmax",
}
"""Node of TensorFlow's graph, as a `TensorFlowOpLayer` of TensorFlow 2.0 to 2.3 holds it -> the same function."""
