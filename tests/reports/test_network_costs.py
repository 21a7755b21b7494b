"""Multiply-adds against arithmetic by hand and against TensorFlow's profiler."""

import keras
import pytest
import tensorflow as tf
from keras import layers

from distill.errors import InputError
from distill.reports.network_costs import USES_PER_POSITION, NetworkCosts, multiply_adds, network_costs
from students import MicroExpNet, MicroExpNet2017
from teachers import PlainResNetTiny


def chain(shape, *stack):
    """A Functional model of layers in a row."""
    inputs = outputs = keras.Input(shape)
    for layer in stack:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def separable_network():
    """Without groups, which the profiler does not see, and dilation, for which TensorFlow pads with more work."""
    stack = [
        layers.Conv2D(8, 3, strides=2, padding="same"),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.SeparableConv2D(6, 3, strides=2, padding="same", depth_multiplier=2),
    ]
    return chain((17, 15, 3), *stack, layers.GlobalAveragePooling2D(), layers.Dense(5))


def profiled_multiply_adds(model):
    """Half the floating-point operations that TensorFlow's own profiler finds in convolutions and products."""
    profiler = tf.compat.v1.profiler
    graph = tf.function(lambda images: model(images, training=False)).get_concrete_function(
        tf.TensorSpec((1, *model.input_shape[1:]))
    )
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    node = profiler.profile(graph.graph, cmd="op", options=options.with_empty_output().build())
    operations = {}
    while node.children:  # one kind of operation below the other
        node = node.children[0]
        operations[node.name] = node.float_ops
    return sum(operations.get(name, 0) for name in ("Conv2D", "DepthwiseConv2dNative", "MatMul")) / 2


def test_microexpnet_by_hand():
    # 84x84 is halved to 42, pooled to 21, halved to 11, pooled to 6.
    conv1, conv2 = 42 * 42 * 8 * 8 * 1 * 16, 11 * 11 * 4 * 4 * 16 * 32
    dense = 6 * 6 * 32 * 48 + 48 * 8
    assert network_costs(MicroExpNet()) == NetworkCosts(65_000, 260_000, conv1 + conv2 + dense)


def test_microexpnet_2017_by_hand():
    # 84x84 is quartered to 21 and halved to 11.
    conv1, conv2 = 21 * 21 * 8 * 8 * 1 * 16, 11 * 11 * 4 * 4 * 16 * 32
    dense = 11 * 11 * 32 * 16 + 16 * 8
    assert network_costs(MicroExpNet2017()) == NetworkCosts(71_368, 285_472, conv1 + conv2 + dense)


@pytest.mark.parametrize("builder", [MicroExpNet, PlainResNetTiny, separable_network])
def test_tensorflows_profiler_agrees(builder):
    model = builder()
    assert multiply_adds(model) == profiled_multiply_adds(model) > 0


BY_HAND = {  # layer class: (layer, input shape, multiply-adds)
    layers.Dense: (layers.Dense(5), (3, 7), 3 * 7 * 5),
    layers.Conv1D: (layers.Conv1D(6, 3), (10, 4), 8 * 3 * 4 * 6),
    layers.Conv2D: (layers.Conv2D(6, (3, 2), 2, "same", groups=2), (9, 8, 4), (5 * 4) * (3 * 2) * 2 * 6),
    layers.Conv3D: (layers.Conv3D(2, 2), (4, 4, 4, 3), 3**3 * 2**3 * 3 * 2),
    layers.DepthwiseConv1D: (layers.DepthwiseConv1D(3, depth_multiplier=2), (10, 4), 8 * 3 * 4 * 2),
    layers.DepthwiseConv2D: (layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 7, 4), 6 * 5 * 9 * 4 * 2),
    layers.SeparableConv1D: (layers.SeparableConv1D(6, 3), (10, 4), 8 * (3 * 4 + 4 * 6)),
    layers.SeparableConv2D: (
        layers.SeparableConv2D(6, 3, 2, "same", depth_multiplier=2),
        (8, 8, 4),
        4 * 4 * (9 * 4 * 2 + 4 * 2 * 6),
    ),
    layers.PReLU: (layers.PReLU(), (4, 4, 2), 0),
}


@pytest.mark.parametrize("kind", USES_PER_POSITION, ids=lambda kind: kind.__name__)
def test_every_layer_of_the_table_by_hand(kind):
    layer, shape, expected = BY_HAND[kind]
    assert type(layer) is kind
    assert multiply_adds(chain(shape, layer)) == expected


def test_channels_first_count_as_channels_last():
    first = layers.Conv2D(4, (3, 2), data_format="channels_first"), layers.Flatten(), layers.Dense(3)
    assert multiply_adds(chain((1, 8, 7), *first)) == (6 * 6) * (3 * 2) * 4 + 4 * 6 * 6 * 3


def test_normalisations_pools_and_activations_count_nothing():
    free = [layers.Rescaling(1 / 255), layers.BatchNormalization(), layers.LayerNormalization(), layers.ReLU()]
    assert multiply_adds(chain((8, 8, 4), *free, layers.MaxPooling2D(), layers.Dropout(0.5), layers.Flatten())) == 0


class TestCalls:
    def test_a_shared_layer_counts_at_each_size_it_is_used_at(self):
        conv, inputs = layers.Conv2D(4, 3, padding="same"), keras.Input((8, 8, 4))
        large, small = conv(inputs), conv(layers.MaxPooling2D()(inputs))
        merged = layers.Add()([large, layers.UpSampling2D()(conv(inputs=small))]) * 2.0
        assert multiply_adds(keras.Model(inputs, merged)) == (64 + 16 + 16) * 9 * 4 * 4

    def test_only_calls_within_the_model_count(self):
        conv, inputs = layers.Conv2D(4, 3), keras.Input((8, 8, 1))
        model = keras.Model(inputs, conv(inputs))
        conv(keras.Input((50, 50, 1)))
        assert multiply_adds(model) == 36 * 9 * 4

    def test_nested_models_are_walked_once_per_call(self):
        inner = chain((8, 8, 4), layers.Conv2D(4, 3, padding="same"))
        outer = keras.Sequential([keras.Input((8, 8, 4)), inner, layers.Flatten(), layers.Dense(2)])
        inputs = keras.Input((8, 8, 4))
        model = keras.Model(inputs, layers.Add()([outer(inputs), outer(inner(inputs))]))
        conv, dense = 64 * 9 * 4 * 4, 256 * 2
        assert multiply_adds(outer) == conv + dense
        assert multiply_adds(model) == 3 * conv + 2 * dense


class TestRefusals:
    @pytest.mark.parametrize(
        "layer",
        [layers.Conv2DTranspose(2, 3, name="odd"), layers.EinsumDense("abcd,de->abce", (8, 8, 5), name="odd")],
        ids=lambda layer: type(layer).__name__,
    )
    def test_a_kernel_that_is_not_known_is_not_forgotten(self, layer):
        with pytest.raises(InputError, match=rf'layer "odd" \({type(layer).__name__}\) are not known') as refused:
            multiply_adds(chain((8, 8, 4), layer))
        assert "\n" not in str(refused.value)

    def test_a_size_that_is_not_fixed(self):
        with pytest.raises(InputError, match='layer "stem_conv" has no fixed output size'):
            multiply_adds(PlainResNetTiny(input_shape=(None, None, 1)))

    def test_a_model_that_hides_its_layers(self):
        class Hidden(keras.Model):
            def call(self, inputs):
                return inputs

        with pytest.raises(InputError, match='the layers of "hidden" cannot be listed'):
            multiply_adds(Hidden(name="hidden"))
