"""What a student is trained on: how the terms combine, what is usual, what is printed, and what is refused."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from distill.command_line.loss_settings import LossSettings
from distill.errors import InputError
from distill.losses.distillation_loss import DistillationLoss
from distill.losses.formulas import cross_entropy, soft_cross_entropy
from distill.losses.soft_losses import SOFT_LOSSES, SoftLoss

ROOT = Path(__file__).resolve().parents[2]
B, C = 5, 7
every_loss = pytest.mark.parametrize("name", SOFT_LOSSES)


@pytest.fixture
def batch(rng):
    """float32 [B, C] each; the last example is unlabelled."""
    label_probs = np.eye(C, dtype=np.float32)[rng.integers(0, C, B)]
    label_probs[-1] = 0
    return {
        "student_logits": rng.normal(0, 3, (B, C)).astype(np.float32),
        "teacher_logits": rng.normal(1, 5, (B, C)).astype(np.float32),
        "labels": label_probs,
    }


def values(loss, batch, **scheduled):
    return {name: np.asarray(part) for name, part in loss(**batch, **scheduled).items()}


@every_loss
def test_parts_add_up_by_lambda_or_by_weights(name, batch):
    by_lambda = values(DistillationLoss(name, lambda_=0.3), batch)
    by_weights = values(DistillationLoss(name, weights=(0.2, 5)), batch)
    for parts, (hard, soft) in ((by_lambda, (0.7, 0.3)), (by_weights, (0.2, 5))):
        assert set(parts) == {"loss", "cross_entropy", "distillation"}
        assert all(part.shape == (B,) and part.dtype == np.float32 for part in parts.values())
        expected = hard * parts["cross_entropy"] + soft * parts["distillation"]
        np.testing.assert_allclose(parts["loss"], expected, rtol=1e-5)
    np.testing.assert_array_equal(by_lambda["distillation"], by_weights["distillation"])


def test_the_soft_part_is_not_touched_by_how_it_is_combined(batch):
    logits = {name: batch[name] for name in ("student_logits", "teacher_logits")}
    parts = values(DistillationLoss("microexpnet"), batch)
    np.testing.assert_array_equal(parts["distillation"], soft_cross_entropy(**logits, temperature=8.0))
    np.testing.assert_array_equal(
        parts["cross_entropy"], cross_entropy(student_logits=batch["student_logits"], labels=batch["labels"])
    )


@every_loss
def test_an_unlabelled_example_counts_with_its_soft_part_alone(name, batch):
    parts = values(DistillationLoss(name, weights=(2, 1)), batch)
    assert parts["cross_entropy"][-1] == 0 < parts["distillation"][-1]
    assert parts["loss"][-1] == parts["distillation"][-1]


@every_loss
def test_class_numbers_equal_one_hot_rows(name, batch):
    numbers = np.where(batch["labels"].any(axis=1), batch["labels"].argmax(axis=1), -1)
    for part, value in values(DistillationLoss(name), {**batch, "labels": numbers}).items():
        np.testing.assert_array_equal(value, values(DistillationLoss(name), batch)[part])


def test_without_a_teacher_there_is_no_soft_part(batch):
    alone = {**batch, "teacher_logits": None}
    hard = cross_entropy(student_logits=batch["student_logits"], labels=batch["labels"])
    for loss, factor in ((DistillationLoss(lambda_=0), 1), (DistillationLoss("dkd", weights=(2, 0)), 2)):
        assert not loss.uses_teacher
        assert loss.uses_labels
        parts = values(loss, alone)
        assert set(parts) == {"loss", "cross_entropy"}
        np.testing.assert_array_equal(parts["loss"], factor * hard)


@every_loss
def test_it_uses_labels_exactly_where_other_labels_change_the_value(name, batch):
    loss = DistillationLoss(name, lambda_=1)
    assert loss.uses_teacher
    other = {**batch, "labels": np.roll(batch["labels"], 1, axis=1)}
    unchanged = np.array_equal(values(loss, batch)["loss"], values(loss, other)["loss"])
    assert unchanged == (not loss.uses_labels)
    assert DistillationLoss(name, lambda_=0.9).uses_labels


@every_loss
def test_every_setting_reaches_the_loss(name, batch):
    row = SOFT_LOSSES[name]
    usual = DistillationLoss(name)
    changed = {option: {"options": {option: 2 * value}} for option, value in row.options.items()}
    if usual.temperature is not None:
        changed["temperature"] = {"temperature": 1.7 * usual.temperature}
    if usual.weights is None:
        changed["lambda_"] = {"lambda_": 0.7 * usual.lambda_}
    else:
        changed["weights"] = {"weights": (usual.weights[0], 2 * usual.weights[1])}
    for setting, change in changed.items():
        other = replace(usual, **change)
        assert not np.allclose(values(usual, batch)["loss"], values(other, batch)["loss"], rtol=1e-3), setting
        assert other.formula != usual.formula


@every_loss
def test_scheduled_scalars_replace_the_constants_without_a_new_trace(name, batch):
    loss = DistillationLoss(name, lambda_=0.5)
    has_temperature = loss.temperature is not None
    traces = []

    @tf.function
    def compiled(temperature, lambda_):
        traces.append(lambda_)
        return loss(**batch, lambda_=lambda_, **({"temperature": temperature} if has_temperature else {}))

    for temperature, lambda_ in ((2.0, 0.0), (3.5, 0.3), (8.0, 1.0)):
        changes = {"temperature": temperature} if has_temperature else {}
        constant = DistillationLoss(name, lambda_=lambda_, **changes)
        scheduled = compiled(tf.constant(temperature), tf.constant(lambda_))
        assert set(scheduled) == {"loss", "cross_entropy", "distillation"}  # at lambda 0, too: one graph for all
        np.testing.assert_allclose(scheduled["loss"], values(constant, batch)["loss"], rtol=1e-5)
    assert len(traces) == 1


def test_a_lambda_that_rises_from_0_reaches_the_loss(batch):
    scheduled = values(DistillationLoss(lambda_=0), batch, lambda_=tf.constant(0.9))
    np.testing.assert_allclose(scheduled["loss"], values(DistillationLoss(), batch)["loss"], rtol=1e-6)


def test_scheduled_weights_replace_the_constants(batch):
    loss, half = DistillationLoss("dkd", weights=(1, 8)), DistillationLoss("dkd", weights=(1, 4))
    scheduled = values(loss, batch, weights=(tf.constant(1.0), tf.constant(4.0)))
    np.testing.assert_allclose(scheduled["loss"], values(half, batch)["loss"], rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "scheduled", "message"),
    [
        (DistillationLoss("dkd"), {"lambda_": 0.5}, "combined by weights"),
        (DistillationLoss(), {"weights": (1, 1)}, "combined by lambda_"),
        (DistillationLoss(), {"lambda_": 0.5, "weights": (1, 1)}, "combined by lambda_"),
        (DistillationLoss("mse"), {"temperature": 3.0}, '"mse" has no temperature'),
    ],
)
def test_a_schedule_that_would_be_ignored_is_refused(loss, scheduled, message, batch):
    with pytest.raises(ValueError, match=message):
        loss(**batch, **scheduled)


def test_default_is_hintons_as_it_was_compared():
    assert DistillationLoss() == DistillationLoss(name="hinton", temperature=4.0, lambda_=0.9)
    assert LossSettings().loss == DistillationLoss().name  # library and command line alike


def test_microexpnets_published_setting_is_there_by_name():
    assert DistillationLoss("microexpnet") == DistillationLoss("microexpnet", temperature=8.0, lambda_=0.5)


FORMULAS = {
    "microexpnet": "0.5·CE(y, s) + 0.5·CE(softmax(t/T), s/T), T=8",
    "hinton": "0.1·CE(y, s) + 0.9·T²·KL(softmax(t/T) ‖ softmax(s/T)), T=4",
    "standardised": "0.1·CE(y, s) + 9·T²·KL(softmax(z_t/T) ‖ softmax(z_s/T)), T=2; "
    "z=(logits - mean)/deviation over the classes",
    "dkd": "1·CE(y, s) + 1·T²·(1·KL(b_t ‖ b_s) + 8·KL(n_t ‖ n_s)), T=4; "
    "b=(p_y, 1 - p_y), n=p without y, p=softmax(logits/T)",
    "dist": "1·CE(y, s) + 2·T²·(1·(1 - r over classes) + 1·(1 - r over the batch)), T=1; "
    "r=correlation of softmax(t/T) and softmax(s/T)",
    "nkd": "1·CE(y, s) + 1·(1.5·T²·CE(n_t, n_s) - p_t,y·log p_s,y), T=1; "
    "p=softmax(logits), n=softmax(logits/T) without y",
    "ttm": "1·CE(y, s) + 45·KL(softmax(t/T) ‖ softmax(s)), T=10",
    "wttm": "1·CE(y, s) + 2.25·u·KL(softmax(t/T) ‖ softmax(s)), T=10; u=sum of softmax(t)^(1/T)",
    "mse": "1·mean of (s - t)²",
}


def test_formulas_of_the_usual_settings():
    assert {name: DistillationLoss(name).formula for name in SOFT_LOSSES} == FORMULAS


def test_formula_leaves_out_a_term_of_weight_0():
    assert DistillationLoss(lambda_=0).formula == DistillationLoss(weights=(1, 0)).formula == "CE(y, s)"
    assert DistillationLoss(weights=(2, 0)).formula == "2·CE(y, s)"
    assert DistillationLoss("ttm", lambda_=1, temperature=5).formula == "1·KL(softmax(t/T) ‖ softmax(s)), T=5"


@every_loss
def test_a_record_holds_what_is_in_use_and_gives_the_loss_back(name):
    loss = DistillationLoss(name)
    record = json.loads(json.dumps(loss.describe()))
    assert record["temperature"] == SOFT_LOSSES[name].temperature
    assert record["options"] == SOFT_LOSSES[name].options
    assert (record["lambda_"] is None) != (record["weights"] is None)
    assert DistillationLoss(**record) == loss
    assert hash(DistillationLoss(**record)) == hash(loss)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0, received 0.0: try 4"),
        ({"temperature": -2.0}, "temperature must be above 0, received -2.0"),
        ({"temperature": float("nan")}, "temperature must be above 0"),
        ({"name": "mse", "temperature": 4.0}, 'the loss "mse" has no temperature, received 4.0: omit it'),
        ({"lambda_": -0.1}, r"lambda must lie in 0\.\.1, received -0.1"),
        ({"lambda_": 1.5}, r"lambda must lie in 0\.\.1, received 1.5"),
        ({"lambda_": 0.5, "weights": (1, 1)}, r"lambda 0.5 and weights \(1, 1\) are two ways to combine"),
        ({"soft": SoftLoss(soft_cross_entropy, "CE(t, s)", temperature=1.0)}, "give lambda or weights"),
        ({"weights": (0, 0)}, r"0 or more and one of them above 0, received \(0, 0\): try 1 1"),
        ({"weights": (-1, 1)}, r"received \(-1, 1\)"),
        ({"weights": (1, 1, 1)}, r"weights are two numbers, .* received \(1, 1, 1\)"),
        ({"name": "kd"}, "did you mean nkd or dkd"),
        ({"options": {"beta": 2}}, 'the loss "hinton" has no options, received "beta": omit it'),
        ({"name": "dkd", "options": {"betta": 2}}, 'has no option "betta": did you mean beta'),
        ({"name": "dkd", "options": {"x": 2}}, 'has no option "x": choose one of alpha, beta'),
        ({"name": "nkd", "options": {"gamma": -1}}, 'option gamma of "nkd" must be 0 or more, received -1: try 1.5'),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_one_line(setting, message):
    with pytest.raises(InputError, match=message) as refused:
        DistillationLoss(**setting)
    assert "\n" not in str(refused.value)


IN_JAX = """
import json, sys
import jax
from distill.losses.distillation_loss import DistillationLoss
from distill.losses.soft_losses import SOFT_LOSSES

batch = {name: jax.numpy.array(each, "float32") for name, each in json.load(sys.stdin).items()}

def losses_and_gradients(student_logits):
    found = {}
    for name in SOFT_LOSSES:
        loss = lambda z: DistillationLoss(name)(**{**batch, "student_logits": z})["loss"]
        values, pull_back = jax.vjp(loss, student_logits)
        found[name] = values, pull_back(jax.numpy.ones_like(values))[0]
    return found

found = jax.jit(losses_and_gradients)(batch["student_logits"])
print(json.dumps({name: [each.tolist() for each in pair] for name, pair in found.items()}))
"""


def test_another_backend_gives_the_same_values_and_gradients(batch):
    pytest.importorskip("jax")
    batch["student_logits"][0] = 0
    batch["student_logits"][1], batch["teacher_logits"][2] = np.linspace(-1e4, 1e4, C), np.linspace(1e4, -1e4, C)
    done = subprocess.run(
        [sys.executable, "-c", IN_JAX],
        input=json.dumps({name: each.tolist() for name, each in batch.items()}),
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name, (in_jax, gradient_in_jax) in json.loads(done.stdout).items():
        student = tf.Variable(batch["student_logits"])
        with tf.GradientTape() as tape:
            loss = DistillationLoss(name)(**{**batch, "student_logits": student})["loss"]
        gradient = tape.gradient(loss, student)
        np.testing.assert_allclose(in_jax, loss, rtol=1e-4, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(gradient_in_jax, gradient, rtol=1e-3, atol=1e-3, err_msg=name)
