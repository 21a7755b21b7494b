"""The network of `plain` in every format that `FORMATS` has."""

import keras
import numpy as np

layers = keras.layers


def _variant(plain: keras.Model, ending: str, channels_first: bool) -> keras.Model:
    """`plain` behind another layout, and in front of another end."""
    height, width, channels = plain.input_shape[1:]
    inputs = keras.Input((channels, height, width) if channels_first else plain.input_shape[1:])
    formatted = layers.Permute((2, 3, 1))(inputs) if channels_first else inputs
    outputs = plain(formatted)
    return keras.Model(inputs, layers.Activation(ending)(outputs) if ending else outputs)


def write_keras(plain, folder, *, ending="", channels_first=False, suffix=".keras") -> str:
    path = folder / f"network{suffix}"
    _variant(plain, ending, channels_first).save(path)
    return str(path)


def write_litert(plain, folder, *, ending="", channels_first=False) -> str:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    variant = _variant(plain, ending, channels_first)
    function = tf.function(variant).get_concrete_function(tf.TensorSpec((None, *variant.input_shape[1:])))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(function)])
    path = folder / "network.tflite"
    path.write_bytes(converter.convert())
    return str(path)


def write_saved_model(plain, folder, *, ending="", channels_first=False) -> str:
    path = folder / "network"
    _variant(plain, ending, channels_first).export(path, verbose=False)
    return str(path)


def write_function(plain, folder, *, ending="", channels_first=False) -> str:
    """`folder` must be the current one."""
    write_keras(plain, folder, ending=ending, channels_first=channels_first, suffix=".inner.keras")
    name = f"network_{ending or 'plain'}_{channels_first}"
    (folder / f"{name}.py").write_text(
        "import keras\n"
        f"model = keras.saving.load_model({str(folder / 'network.inner.keras')!r})\n"
        "def score(images):\n"
        "    return model.predict_on_batch(images)\n"
    )
    return f"{name}:score"


def write_onnx(plain, folder, *, ending="", channels_first=True, batch="B", before_end=()) -> str:
    """Write the network by hand, layer by layer, in ONNX' own layout unless described otherwise."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kernel, gamma, beta, mean, variance, dense, bias = plain.get_weights()
    arrays = {
        "kernel": kernel.transpose(3, 2, 0, 1),
        "gamma": gamma,
        "beta": beta,
        "mean": mean,
        "variance": variance,
        "dense": dense,
        "bias": bias,
    }
    nodes = [] if channels_first else [helper.make_node("Transpose", ["pixels"], ["formatted"], perm=[0, 3, 1, 2])]
    nodes += [
        helper.make_node("Conv", ["pixels" if channels_first else "formatted", "kernel"], ["conv"]),
        helper.make_node("BatchNormalization", ["conv", "gamma", "beta", "mean", "variance"], ["norm"], epsilon=1e-3),
        helper.make_node("Relu", ["norm"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense", "bias"], ["logits"]),
        *before_end,
    ]
    if ending:
        nodes.append(helper.make_node({"softmax": "Softmax", "sigmoid": "Sigmoid"}[ending], ["logits"], ["ended"]))
    height, width, channels = plain.input_shape[1:]
    shape = [channels, height, width] if channels_first else [height, width, channels]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info("ended" if ending else "logits", TensorProto.FLOAT, [batch, len(bias)])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "network.onnx"
    onnx.save(model, path)
    return str(path)


WRITERS = {
    "a Keras file": write_keras,
    "an ONNX file": write_onnx,
    "a LiteRT file": write_litert,
    "a SavedModel folder": write_saved_model,
    "a Python function": write_function,
}
