"""Networks that end in probabilities are found out, and two networks of the same layers are told apart."""

import keras
import pytest
from keras import layers, ops

from distill.errors import InputError
from distill.scoring.network_identity import architecture_sha256, check_raw_logits, wiring_sha256
from distill.scoring.online_teacher import OnlineTeacher
from students import STUDENTS
from teachers import TEACHERS


def small(last=None, *, between=None, name="small"):
    inputs = keras.Input((6, 6, 1))
    x = layers.Dense(8)(layers.Flatten()(inputs))
    x = x if between is None else between(x)
    x = layers.Dense(3)(x)
    return keras.Model(inputs, x if last is None else last(x), name=name)


def nested(inner):
    inputs = keras.Input((6, 6, 1))
    return keras.Model(inputs, inner(layers.Rescaling(1 / 255)(inputs)), name="outer")


def in_sequence(inner):
    return keras.Sequential([keras.Input((6, 6, 1)), layers.Rescaling(1 / 255), inner], name="outer")


ENDS = {
    "layer": layers.Softmax(),
    "activation": layers.Activation("sigmoid"),
    "dense": layers.Dense(3, activation="softmax"),
    "softmax": ops.softmax,
    "log softmax": ops.log_softmax,
    "sigmoid": ops.sigmoid,
    "relu": ops.relu,
    "exponential": ops.exp,
    "slope": layers.PReLU(),
    "reshaped": lambda x: layers.Reshape((3,))(ops.softmax(x)),
    "cast": lambda x: ops.cast(ops.softmax(x), "float32"),
}


@pytest.mark.parametrize("around", [lambda network: network, nested, in_sequence, lambda it: nested(in_sequence(it))])
@pytest.mark.parametrize("end", ENDS)
def test_probabilities_are_refused_wherever_they_are_made(around, end):
    with pytest.raises(InputError, match="ends in .*: omit it, raw logits are needed"):
        check_raw_logits(around(small(ENDS[end])))
    check_raw_logits(around(small()))
    check_raw_logits(around(small(lambda x: layers.Activation("linear")(layers.Reshape((3,))(2 * x)))))


def test_operations_and_wiring_tell_networks_of_the_same_layers_apart():
    def wired(which):
        inputs = keras.Input((6, 6, 1))
        a = layers.Dense(8)(layers.Flatten()(inputs))
        b = layers.Dense(8)(a)
        c = layers.Dense(8)(b)
        return keras.Model(inputs, layers.Dense(3)(layers.Add()([c, (a, b)[which]])))

    networks = [
        *(small(between=between) for between in (None, ops.relu, ops.square, lambda x: 5 * x, lambda x: 6 * x)),
        *(small(between=lambda x, axis=axis: x + ops.flip(x, axis=axis)) for axis in (0, 1)),
        *(nested(small(between=between)) for between in (None, ops.square)),
        *(wired(which) for which in (0, 1)),
    ]
    assert len({architecture_sha256(network) for network in networks}) < len(networks)
    assert len({wiring_sha256(network) for network in networks}) == len(networks)


def test_online_teachers_of_the_same_weights_are_told_apart():
    first, second = small(between=ops.relu), small(between=ops.square)
    second.set_weights(first.get_weights())
    described = [OnlineTeacher(each, class_names=("a", "b", "c")).describe() for each in (first, first, second)]
    assert described[0] == described[1] != described[2]
    assert described[0]["sha256"] == described[2]["sha256"]


@pytest.mark.parametrize("kind", ["small", "nested", "sequence"])
def test_names_and_weights_do_not_tell_them_apart(kind, tmp_path):
    around = {"small": lambda network: network, "nested": nested, "sequence": in_sequence}[kind]
    first = around(small(between=ops.square))
    second = around(small(between=ops.square, name="other"))  # whose layers Keras numbers on
    assert wiring_sha256(first) == wiring_sha256(second) is not None
    first.save(tmp_path / "network.keras")
    assert wiring_sha256(keras.saving.load_model(tmp_path / "network.keras")) == wiring_sha256(first)


@pytest.mark.parametrize("builder", [STUDENTS["microexpnet"], STUDENTS["slim_mobilenet"], TEACHERS["resnet10"]])
def test_the_networks_of_the_package_have_one(builder):
    first, second, other = builder(classes=7), builder(classes=7), builder(classes=7, name="other")
    assert wiring_sha256(first) == wiring_sha256(second) == wiring_sha256(other) is not None


class Own(keras.Model):
    def call(self, images):
        return images


def test_a_python_class_has_none():
    assert wiring_sha256(Own()) is None
