"""Losses against a float64 NumPy reference, Keras, their gradients in closed form, and their invariants."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill.errors import InputError
from distill.training.losses import (
    SOFT_LOSSES,
    DistillationLoss,
    cross_entropy,
    soft_cross_entropy,
    soft_kl_divergence,
)

B, C = 6, 7
LOSSES = [DistillationLoss(name=name, temperature=3.0, lambda_=0.7) for name in SOFT_LOSSES]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)


@pytest.fixture
def student_logits(rng):
    return rng.normal(0, 3, (B, C)).astype(np.float32)


@pytest.fixture
def teacher_logits(rng):
    return rng.normal(1, 5, (B, C)).astype(np.float32)


@pytest.fixture
def labels(rng):
    return rng.integers(0, C, B)


def log_softmax(logits, temperature=1.0):
    scaled = logits.astype(np.float64) / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))


def reference(name, student_logits, teacher_logits, labels, temperature, lambda_):
    hard = -log_softmax(student_logits)[np.arange(len(labels)), labels]
    log_t, log_s = log_softmax(teacher_logits, temperature), log_softmax(student_logits, temperature)
    soft = {
        "microexpnet": -(np.exp(log_t) * log_s).sum(axis=1),
        "hinton": temperature**2 * (np.exp(log_t) * (log_t - log_s)).sum(axis=1),
    }[name]
    return (1 - lambda_) * hard + lambda_ * soft


def value(loss, student_logits, teacher_logits, labels):
    parts = loss(
        student_logits=tf.constant(student_logits),
        teacher_logits=tf.constant(teacher_logits),
        labels=tf.constant(labels),
    )
    return parts["loss"].numpy()


def gradient(loss, student_logits, teacher_logits, labels):
    student, teacher = tf.Variable(student_logits), tf.Variable(teacher_logits)
    with tf.GradientTape() as tape:
        parts = loss(student_logits=student, teacher_logits=teacher, labels=tf.constant(labels))
        total = tf.reduce_sum(parts["loss"])
    return tape.gradient(total, (student, teacher))


@every_loss
def test_equals_float64_reference(loss, student_logits, teacher_logits, labels):
    expected = reference(loss.name, student_logits, teacher_logits, labels, 3.0, 0.7)
    np.testing.assert_allclose(value(loss, student_logits, teacher_logits, labels), expected, rtol=1e-5)


@every_loss
def test_gradient_equals_central_differences(loss, student_logits, teacher_logits, labels):
    step = 1e-4
    expected = np.zeros((B, C))
    for i in range(C):
        moved = np.zeros((1, C))
        moved[0, i] = step
        up = reference(loss.name, student_logits + moved, teacher_logits, labels, 3.0, 0.7)
        down = reference(loss.name, student_logits - moved, teacher_logits, labels, 3.0, 0.7)
        expected[:, i] = (up - down) / (2 * step)
    student_gradient, _ = gradient(loss, student_logits, teacher_logits, labels)
    np.testing.assert_allclose(student_gradient, expected, atol=1e-5)


@every_loss
def test_no_gradient_reaches_the_teacher(loss, student_logits, teacher_logits, labels):
    assert gradient(loss, student_logits, teacher_logits, labels)[1] is None


@pytest.mark.parametrize("t_squared", [False, True])
def test_soft_gradient_has_its_closed_form_with_and_without_t_squared(student_logits, teacher_logits, t_squared):
    temperature = 4.0
    probs = [np.exp(log_softmax(z, temperature)) for z in (student_logits, teacher_logits)]
    expected = (probs[0] - probs[1]) / temperature * (temperature**2 if t_squared else 1)
    for function in (soft_cross_entropy, soft_kl_divergence):
        student = tf.Variable(student_logits)
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(
                function(
                    student_logits=student,
                    teacher_logits=teacher_logits,
                    temperature=temperature,
                    t_squared=t_squared,
                )
            )
        np.testing.assert_allclose(tape.gradient(total, student), expected, atol=1e-5)


def test_cross_entropy_equals_keras(student_logits, labels):
    expected = keras.losses.sparse_categorical_crossentropy(labels, student_logits, from_logits=True)
    np.testing.assert_allclose(cross_entropy(student_logits=student_logits, labels=labels), expected, rtol=1e-6)


def test_soft_labels_equal_keras_and_one_hot_equals_numbers(student_logits, labels, rng):
    soft = rng.dirichlet(np.ones(C), B).astype(np.float32)
    expected = keras.losses.categorical_crossentropy(soft, student_logits, from_logits=True)
    np.testing.assert_allclose(cross_entropy(student_logits=student_logits, labels=soft), expected, rtol=1e-5)
    np.testing.assert_array_equal(
        cross_entropy(student_logits=student_logits, labels=np.eye(C, dtype=np.float32)[labels]),
        cross_entropy(student_logits=student_logits, labels=labels),
    )


def test_soft_kl_equals_keras_over_examples_not_classes(student_logits, teacher_logits):
    probs = [keras.ops.softmax(z / 2.0) for z in (teacher_logits, student_logits)]
    expected = 4.0 * keras.losses.kl_divergence(*probs)
    actual = soft_kl_divergence(student_logits=student_logits, teacher_logits=teacher_logits, temperature=2.0)
    assert actual.shape == (B,)
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_unlabelled_examples_cost_nothing(student_logits):
    assert not cross_entropy(student_logits=student_logits, labels=np.full(B, -1)).numpy().any()
    assert not cross_entropy(student_logits=student_logits, labels=np.zeros((B, C), np.float32)).numpy().any()


def test_no_divergence_and_no_gradient_where_student_equals_teacher(teacher_logits, labels):
    loss = DistillationLoss(name="hinton", temperature=3.0, lambda_=1.0)
    np.testing.assert_allclose(value(loss, teacher_logits, teacher_logits, labels), 0, atol=1e-5)
    for each in (loss, DistillationLoss(name="microexpnet", temperature=3.0, lambda_=1.0)):
        student_gradient, _ = gradient(each, teacher_logits, teacher_logits, labels)
        np.testing.assert_allclose(student_gradient, 0, atol=1e-5)


@every_loss
def test_a_constant_added_to_a_row_changes_nothing(loss, student_logits, teacher_logits, labels, rng):
    shift = rng.normal(0, 5, (B, 1)).astype(np.float32)
    np.testing.assert_allclose(
        value(loss, student_logits + shift, teacher_logits - shift, labels),
        value(loss, student_logits, teacher_logits, labels),
        rtol=1e-4,
    )


@every_loss
def test_permuting_classes_on_all_sides_changes_nothing(loss, student_logits, teacher_logits, labels, rng):
    order = rng.permutation(C)
    permuted = value(loss, student_logits[:, order], teacher_logits[:, order], np.argsort(order)[labels])
    np.testing.assert_allclose(permuted, value(loss, student_logits, teacher_logits, labels), rtol=1e-5)


@every_loss
def test_teacher_and_student_are_not_swapped(loss, student_logits, teacher_logits, labels):
    straight = value(loss, student_logits, teacher_logits, labels)
    assert not np.allclose(straight, value(loss, teacher_logits, student_logits, labels), rtol=1e-2)


@every_loss
@pytest.mark.parametrize("setting", ["temperature", "lambda_"])
def test_every_setting_reaches_the_loss(loss, setting, student_logits, teacher_logits, labels):
    from dataclasses import replace

    changed = replace(loss, **{setting: getattr(loss, setting) * 1.3})
    before, after = (value(each, student_logits, teacher_logits, labels) for each in (loss, changed))
    assert not np.allclose(before, after, rtol=1e-3)


@every_loss
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_extreme_logits_stay_finite(loss, dtype):
    student = tf.cast([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], dtype)
    teacher = tf.cast([[-1e4, 1e4, 0.0], [-1e4, 1e4, 0.0]], dtype)
    student_gradient, _ = gradient(loss, student, teacher, np.array([1, 1]))
    assert np.isfinite(value(loss, student, teacher, np.array([1, 1]))).all()
    assert np.isfinite(np.asarray(student_gradient, np.float32)).all()


def test_lambda_0_needs_no_teacher_and_lambda_1_no_label(student_logits, teacher_logits, labels):
    alone = DistillationLoss(lambda_=0.0)(student_logits=student_logits, labels=labels, teacher_logits=None)
    assert set(alone) == {"loss", "cross_entropy"}
    np.testing.assert_array_equal(alone["loss"], cross_entropy(student_logits=student_logits, labels=labels))
    other_labels = (labels + 1) % C
    taught = DistillationLoss(lambda_=1.0)
    np.testing.assert_array_equal(
        value(taught, student_logits, teacher_logits, labels),
        value(taught, student_logits, teacher_logits, other_labels),
    )


def test_default_is_microexpnets_published_setting():
    assert DistillationLoss() == DistillationLoss(name="microexpnet", temperature=8.0, lambda_=0.5)
    assert DistillationLoss().formula == "0.5·CE(y, s) + 0.5·CE(softmax(t/T), s/T), T=8"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0, received 0.0"),
        ({"temperature": -2.0}, "temperature must be above 0, received -2.0"),
        ({"temperature": float("nan")}, "temperature must be above 0"),
        ({"lambda_": -0.1}, r"lambda must lie in 0\.\.1, received -0.1"),
        ({"lambda_": 1.5}, r"lambda must lie in 0\.\.1, received 1.5"),
        ({"name": "kd"}, 'unknown loss "kd": choose one of microexpnet, hinton'),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        DistillationLoss(**setting)
