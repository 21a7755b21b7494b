"""A student as it is exported: batch norms folded, a softmax at the end, its weights constants of one graph."""

import keras
import tensorflow as tf
from keras import layers

from distill.errors import InputError
from distill.runtimes.keras_graph import in_policy, is_graph
from distill.runtimes.safe_names import give_safe_names, has_safe_names
from distill.scoring.folding import fold_batch_norm
from distill.scoring.network_identity import check_raw_logits, numeric_policy

INPUT, OUTPUT = "pixels", "probabilities"


def probabilities_network(student: keras.Model) -> keras.Model:
    """Return a float32 network of pixels 0..255 [B, h, w, c] that ends in probabilities [B, C].

    Args:
        student: pixels 0..255 in, raw logits out.

    Raises:
        InputError: it does not give raw logits, has no fixed image size, or is not a graph of layers.
    """
    check_raw_logits(student)
    if None in student.input_shape[1:]:
        raise InputError(f"{student.name} takes images of any size: build it at a fixed size to export it")
    network = fold_batch_norm(in_float32(student))
    probabilities = layers.Softmax(name=OUTPUT, dtype="float32")(network.outputs[0])
    return keras.Model(network.inputs[0], probabilities, name=network.name)


def in_float32(student: keras.Model) -> keras.Model:
    """Return the network that computes in float32 with the weights of `student`: itself, where it does.

    Names that TensorFlow cannot take are others in it.

    Raises:
        InputError: it is not a graph of layers.
    """
    if not is_graph(student):
        raise InputError(f"{student.name} is a Python class of its own: build it of Keras layers to export it")
    if numeric_policy(student) == "float32" and has_safe_names(student):
        return student
    network = in_policy(student, "float32")
    give_safe_names(network)
    return network


def input_spec(network: keras.Model, *, batch: int | None) -> tf.TensorSpec:
    """Return what `network` takes, for `batch` images at a time (None: any number), as every exported file has it."""
    return tf.TensorSpec([batch, *network.input_shape[1:]], tf.float32, name=INPUT)


def traced(network: keras.Model, *, batch: int | None) -> tf.types.experimental.ConcreteFunction:
    """Trace `network` for `batch` images at a time (None: any number), its weights frozen into constants."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = tf.function(lambda pixels: network(pixels, training=False), autograph=False)
    return convert_variables_to_constants_v2(function.get_concrete_function(input_spec(network, batch=batch)))


def save_graph(network: keras.Model, folder: str, *, batch: int | None) -> None:
    """Save `network` as a SavedModel whose default signature takes `INPUT` and gives {`OUTPUT`: probabilities}."""
    graph = traced(network, batch=batch)
    signature = [input_spec(network, batch=batch)]
    serve = tf.function(lambda pixels: {OUTPUT: graph(pixels)[0]}, input_signature=signature, autograph=False)
    module = tf.Module()
    module.serve = serve
    # Gradients of its own, such as that of SiLU, would be saved as well, which fails for weights that are constants.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, folder, signatures={"serving_default": serve}, options=options)
