"""One step by hand, and the bugs that distillation code is known for."""

import time
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill.data.dataset import ArrayImages
from distill.data.views import ViewSpec
from distill.losses.distillation_loss import DistillationLoss
from distill.losses.formulas import cross_entropy
from distill.losses.objective import Batch, DistillationObjective, as_objective
from distill.losses.schedules import Ramp, WarmedRamp
from distill.runs.run_directory import RunDirectory, read_metrics
from distill.training.batches import CachedOutputs, ViewBatches
from distill.training.keras_trainer import fit_labels
from distill.training.student_outputs import StudentOutputs
from distill.training.trainer import CompiledSteps, fit, train_step
from distill.training.validation import validation_metrics
from tests.training.small_runs import (
    RECORD,
    Killed,
    assert_same_weights,
    bright_and_dark,
    fit_small,
    plain_student,
    record_of,
    rendered_epoch,
)


def one_step(student, optimizer, objective, batch, progress=0.0):
    return train_step(StudentOutputs(student), optimizer, as_objective(objective), batch, tf.constant(progress))


def linear_student(weights, bias=(0.0, 0.0), regularizer=None):
    inputs = keras.Input((2,))
    dense = keras.layers.Dense(2, kernel_regularizer=regularizer)
    student = keras.Model(inputs, dense(inputs))
    dense.set_weights([np.array(weights, np.float32), np.array(bias, np.float32)])
    return student


def batch_of(images, labels, teacher_logits=None, sample_weights=None):
    images = np.array(images, np.float32)
    teacher = {} if teacher_logits is None else {"logits": tf.constant(np.array(teacher_logits, np.float32))}
    return Batch(
        images=tf.constant(images),
        label_probs=tf.constant(np.eye(2, dtype=np.float32)[labels]),
        teacher=teacher,
        sample_weights=tf.constant(np.array(sample_weights or [1.0] * len(images), np.float32)),
    )


def test_one_step_on_two_examples_by_hand():
    # Both rows give logits (0, 0), so p_s = (.5, .5). Labels 0 and 1; teacher at T=1: (.75, .25) for both.
    # dL/dz = .5 (p_s - y) + .5 (p_s - p_t) = row 1: .5(-.5, .5) + .5(-.25, .25) = (-.375, .375)
    #                                         row 2: .5(.5, -.5) + .5(-.25, .25) = (.125, -.125)
    # Inputs (1, 0) and (0, 1), mean over two rows:
    # dL/dW = [[-.1875, .1875], [.0625, -.0625]], dL/db = (-.125, .125)
    student = linear_student([[0, 0], [0, 0]])
    teacher_logits = [[np.log(3.0), 0.0]] * 2
    batch = batch_of([[1, 0], [0, 1]], [0, 1], teacher_logits)
    optimizer = keras.optimizers.SGD(1.0)
    sums = one_step(student, optimizer, DistillationLoss("microexpnet", temperature=1.0, lambda_=0.5), batch)
    kernel, bias = student.get_weights()
    np.testing.assert_allclose(kernel, [[0.1875, -0.1875], [-0.0625, 0.0625]], atol=1e-6)
    np.testing.assert_allclose(bias, [0.125, -0.125], atol=1e-6)
    assert float(sums["cross_entropy"]) == pytest.approx(2 * np.log(2), rel=1e-6)
    assert float(sums["distillation"]) == pytest.approx(2 * np.log(2), rel=1e-6)
    assert float(sums["weight"]) == 2
    assert float(sums["correct"]) == 1  # a tie goes to class 0


def gradient_step(student, batch, loss=None):
    """Return the change of the weights in one step of size 1."""
    before = [w.copy() for w in student.get_weights()]
    one_step(student, keras.optimizers.SGD(1.0), loss or DistillationLoss(lambda_=0.0), batch)
    return [after - old for after, old in zip(student.get_weights(), before, strict=True)]


def test_doubling_the_batch_leaves_the_mean():
    once = gradient_step(linear_student([[1, 2], [3, 4]]), batch_of([[1, 2], [3, 1]], [0, 1]))
    twice = gradient_step(linear_student([[1, 2], [3, 4]]), batch_of([[1, 2], [3, 1]] * 2, [0, 1] * 2))
    for a, b in zip(once, twice, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_sample_weights_weigh():
    weighted = gradient_step(
        linear_student([[1, 2], [3, 4]]), batch_of([[1, 2], [3, 1]], [0, 1], sample_weights=[3.0, 1.0])
    )
    repeated = gradient_step(linear_student([[1, 2], [3, 4]]), batch_of([[1, 2]] * 3 + [[3, 1]], [0, 0, 0, 1]))
    for a, b in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_students_own_regularisers_count():
    batch = batch_of([[0, 0]], [0])  # no input, so only the regulariser moves the kernel
    kernel, _ = gradient_step(linear_student([[1, 2], [3, 4]], regularizer=keras.regularizers.L2(0.1)), batch)
    np.testing.assert_allclose(kernel, -0.2 * np.array([[1, 2], [3, 4]]), atol=1e-6)


def test_unlabelled_examples_learn_from_the_teacher_and_are_never_called_correct():
    batch = batch_of([[1, 0]], [0], [[2.0, 0.0]])._replace(label_probs=tf.zeros((1, 2)))
    kernel, _ = gradient_step(
        linear_student([[0, 0], [0, 0]]), batch, DistillationLoss("microexpnet", temperature=1.0)
    )
    assert kernel[0, 0] > 0 > kernel[0, 1]
    sums = one_step(
        linear_student([[0, 0], [0, 0]]), keras.optimizers.SGD(0.0), DistillationLoss("microexpnet"), batch
    )
    assert float(sums["correct"]) == 0


@pytest.fixture
def dataset():
    return bright_and_dark()


def test_training_learns_and_keeps_the_best_epoch(dataset, tmp_path):
    best = fit_small(dataset, tmp_path / "run", epochs=12)
    run = RunDirectory(tmp_path / "run", RECORD)
    accuracies = [row["validation_accuracy"] for row in run.rows]
    assert len(accuracies) == 12
    assert max(accuracies) == run.summary["validation_accuracy"] >= 0.9
    assert accuracies.index(max(accuracies)) + 1 == run.summary["best_epoch"]
    validation = dataset.split("validation")
    logits = best.predict(validation.read(np.arange(10)).astype(np.float32), verbose=0)
    assert (logits.argmax(1) == validation.labels).mean() == max(accuracies)


@pytest.mark.parametrize("engine", [fit, fit_labels])
@pytest.mark.parametrize("moment", ["in the middle of an epoch", "between checkpoint and table"])
def test_a_killed_run_goes_on_to_the_same_weights(dataset, tmp_path, monkeypatch, moment, engine):
    def train(name):
        optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9)
        fit_small(dataset, tmp_path / name, engine=engine, optimizer=optimizer)

    train("whole")
    if moment == "in the middle of an epoch":
        images_seen = []

        def dying_bar(bar, means, *, images):
            images_seen.append(images)
            if sum(images_seen) > 100:  # in the third epoch of 40 images
                raise Killed

        for module in ("trainer", "keras_trainer"):
            monkeypatch.setattr(f"distill.training.{module}.show_means", dying_bar)
    else:
        save = keras.Model.save

        def dying_save(self, path, *args, **kwargs):
            # The table of epoch 3 is there already, its checkpoint is not.
            optimizer = getattr(self, "optimizer", None)
            if optimizer is not None and int(optimizer.iterations) == 3 * 5:
                raise Killed
            return save(self, path, *args, **kwargs)

        monkeypatch.setattr(keras.Model, "save", dying_save)
    with pytest.raises(Killed):
        train("killed")
    monkeypatch.undo()
    keras.utils.set_random_seed(99)  # nothing of the first process is left in the second
    train("killed")
    assert_same_weights(tmp_path / "whole", tmp_path / "killed")
    assert not [path for path in (tmp_path / "killed").iterdir() if path.name.startswith(".")]


def test_both_trainers_take_the_same_steps_from_labels(dataset, tmp_path):
    tape, keras_own = (
        fit_small(dataset, tmp_path / engine.__name__, engine=engine, epochs=3, student=plain_student())
        for engine in (fit, fit_labels)
    )
    for a, b in zip(tape.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    rows = [RunDirectory(tmp_path / name, RECORD).rows for name in ("fit", "fit_labels")]
    for row, other in zip(*rows, strict=True):
        for name in ("train_loss", "train_accuracy", "validation_loss", "learning_rate"):
            assert row[name] == pytest.approx(other[name], rel=1e-4), name


def test_the_same_seed_gives_the_same_student_and_another_does_not(dataset, tmp_path):
    runs = [
        fit_small(dataset, tmp_path / str(i), epochs=2, batches={"seed": seed}) for i, seed in enumerate((1, 1, 2))
    ]
    weights = [np.concatenate([w.ravel() for w in run.get_weights()]) for run in runs]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_training_mode_lasts_beyond_the_first_epoch_and_validation_changes_nothing(dataset, tmp_path):
    calls = []

    @keras.saving.register_keras_serializable("test")
    class Spy(keras.layers.Layer):
        def call(self, inputs, training=None):
            tf.py_function(lambda: calls.append(bool(training)), [], [])
            return inputs

    student = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), Spy(), keras.layers.Dense(2)])
    fit_small(dataset, tmp_path / "run", epochs=2, student=student)
    training_steps = [True] * 5  # 40 images in batches of 8
    assert calls[:12] == [*training_steps, False] * 2


def test_run_directory_refuses_a_run_of_other_settings(dataset, tmp_path):
    fit_small(dataset, tmp_path / "run", epochs=1)
    from distill.errors import InputError

    with pytest.raises(InputError, match="recipe.lr: stored 0.01, now 0.02"):
        RunDirectory(tmp_path / "run", record_of(lr=0.02))


def test_class_probabilities_of_the_data_are_used(dataset):
    soft = np.full((50, 2), 0.5, np.float32)
    batches = ViewBatches(
        replace(dataset, label_probs=soft), image_shape=(6, 6, 1), view_spec=ViewSpec(), batch_size=50
    )
    (batch,) = list(rendered_epoch(batches, 0))
    np.testing.assert_array_equal(batch.label_probs, soft)


# Numbers of the loss that move


@pytest.mark.parametrize(
    ("constant", "start", "moving"),
    [
        ({"temperature": 2.5}, {"temperature": 4.0}, {"temperature": Ramp(end=1.0)}),
        ({"lambda_": 0.3}, {"lambda_": 0.6}, {"soft_weight": WarmedRamp(end=0.0)}),
        ({"lambda_": 0.25}, {"lambda_": 0.5}, {"soft_weight": WarmedRamp(warmup_epochs=8)}),
        ({"weights": (1.0, 0.2)}, {"weights": (1.0, 0.1)}, {"soft_weight": WarmedRamp(end=0.3, shape="cosine")}),
    ],
)
def test_half_way_through_the_run_the_numbers_of_the_loss_are_half_way(constant, start, moving):
    batch = batch_of([[1, 2], [3, 1]], [0, 1], [[2.0, 0.0], [-1.0, 3.0]])
    one, other = (linear_student([[1, 2], [3, 4]]) for _ in range(2))
    name = "dkd" if "weights" in constant else "microexpnet"
    one_step(one, keras.optimizers.SGD(1.0), DistillationLoss(name, **constant), batch)
    objective = DistillationObjective(loss=DistillationLoss(name, **start), epochs=8, **moving)
    one_step(other, keras.optimizers.SGD(1.0), objective, batch, progress=0.5)
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_numbers_that_move_make_no_new_graph_and_short_blocks_neither(dataset, rng, monkeypatch):
    traced = []

    def counted_step(*args):
        traced.append(1)
        return train_step(*args)

    monkeypatch.setattr("distill.training.trainer.train_step", counted_step)
    taught = {"teacher": CachedOutputs(logits=rng.normal(0, 3, (40, 1, 2)).astype(np.float32)), "views": 1}
    student, optimizer = plain_student(), keras.optimizers.SGD(0.1)
    optimizer.build(student.trainable_variables)
    objective = DistillationObjective(loss=DistillationLoss("microexpnet"), temperature=Ramp(end=4.0))
    take_steps = CompiledSteps(student, optimizer, objective)
    losses = []
    for rows in batches_of_eleven(dataset, **taught).blocks(0, steps=2):
        steps = len(rows.sample_weights)
        losses += [*take_steps(rows, [(len(losses) + step) / 4 for step in range(steps)])["loss"]]
    assert len(losses) == 4  # two blocks: one of two steps, one of one; and a short batch
    assert len(traced) == 1


def batches_of_eleven(dataset, **how):
    return ViewBatches(dataset.split("train"), image_shape=(6, 6, 1), view_spec=ViewSpec(), batch_size=11, **how)


def test_steps_in_one_call_are_the_steps_one_by_one(dataset, rng):
    taught = {"teacher": CachedOutputs(logits=rng.normal(0, 3, (40, 3, 2)).astype(np.float32)), "views": 3}
    objective = as_objective(DistillationLoss("microexpnet", temperature=3.0))
    together, alone = plain_student(), plain_student()
    optimizers = [keras.optimizers.SGD(0.01) for _ in range(2)]
    take_steps = CompiledSteps(together, optimizers[0], objective)
    batches = batches_of_eleven(dataset, **taught)
    sums = [take_steps(rows, [0.0] * len(rows.sample_weights)) for rows in batches.blocks(1, steps=2)]
    each = [one_step(alone, optimizers[1], objective, batch) for batch in rendered_epoch(batches, 1)]
    assert [len(block["loss"]) for block in sums] == [2, 1, 1]
    for name in each[0]:
        values = np.concatenate([block[name] for block in sums])
        np.testing.assert_allclose(values, [float(step[name]) for step in each], rtol=1e-4)
    for a, b in zip(together.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_every_step_of_a_run_has_the_numbers_of_its_moment(dataset, tmp_path, rng):
    taught = {"teacher": CachedOutputs(logits=rng.normal(0, 3, (40, 1, 2)).astype(np.float32)), "views": 1}
    objective = DistillationObjective(
        loss=DistillationLoss("microexpnet", temperature=8.0, lambda_=0.8),
        epochs=2,
        temperature=Ramp(end=2.0),
        soft_weight=WarmedRamp(warmup_epochs=1),
    )
    how = {"epochs": 2, "student": plain_student(), "batches": taught, "objective": objective}
    fit_small(dataset, tmp_path / "run", optimizer=keras.optimizers.SGD(0.01), learning_rate=unchanged, **how)
    student, optimizer = plain_student(), keras.optimizers.SGD(0.01)
    for step, batch in enumerate(plain_batches(dataset, epochs=2, **taught)):
        now = DistillationLoss("microexpnet", temperature=8 - 6 * step / 10, lambda_=0.8 * min(1, step / 5))
        one_step(student, optimizer, now, batch)
    trained = keras.saving.load_model(tmp_path / "run" / "last.keras")
    for a, b in zip(trained.get_weights(), student.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    at_epoch_ends = [(row["temperature"], row["soft_weight"]) for row in read_metrics(tmp_path / "run")]
    assert at_epoch_ends == [(pytest.approx(5.6), pytest.approx(0.64)), (pytest.approx(2.6), 0.8)]


def unchanged(epoch, validation_losses):
    """The learning rate of an optimizer that keeps its own."""


def plain_batches(dataset, *, epochs, **how):
    """The batches that `fit_small` trains on, one after the other."""
    batches = ViewBatches(
        dataset.split("train"), image_shape=(6, 6, 1), view_spec=ViewSpec(), **{"batch_size": 8, **how}
    )
    return [batch for epoch in range(epochs) for batch in rendered_epoch(batches, epoch)]


# Averaged weights


@pytest.mark.parametrize("engine", [fit, fit_labels])
def test_the_moving_average_is_validated_with_the_weights_and_leaves_them_alone(dataset, tmp_path, engine):
    def train(name, **average):
        optimizer = keras.optimizers.SGD(0.5, **average)
        how = {"engine": engine, "optimizer": optimizer, "learning_rate": unchanged}
        fit_small(dataset, tmp_path / name, epochs=2, student=plain_student(), **how)
        return keras.saving.load_model(tmp_path / name / "last.keras").get_weights(), read_metrics(tmp_path / name)

    alone, _ = train("alone")
    raw, rows = train("averaged", use_ema=True, ema_momentum=0.8)
    for a, b in zip(alone, raw, strict=True):
        np.testing.assert_array_equal(a, b)
    student, optimizer = plain_student(), keras.optimizers.SGD(0.5)
    validation = dataset.split("validation")
    images, average = validation.read(np.arange(10)).reshape(10, -1) / 255, None
    for step, batch in enumerate(plain_batches(dataset, epochs=2)):
        one_step(student, optimizer, DistillationLoss(lambda_=0.0), batch)
        now = [weight.astype(np.float64) for weight in student.get_weights()]
        average = now if step == 0 else [0.8 * a + 0.2 * w for a, w in zip(average, now, strict=True)]
        if step % 5 == 4:
            for suffix, (kernel, bias) in (("", now), ("_ema", average)):
                logits = (images @ kernel + bias).astype(np.float32)
                expected = np.mean(cross_entropy(student_logits=logits, labels=validation.labels))
                assert rows[step // 5][f"validation_loss{suffix}"] == pytest.approx(expected, rel=1e-4)


# Weights of examples


@pytest.mark.parametrize("engine", [fit, fit_labels])
def test_an_example_of_weight_two_counts_as_two_to_both_trainers(dataset, tmp_path, engine):
    # In one batch an epoch, of untouched images.
    rows = np.concatenate([np.arange(50), np.arange(10)])
    columns = {
        "labels": dataset.labels[rows],
        "splits": dataset.splits[rows],
        "images": ArrayImages(dataset.read(rows)),
    }
    twice = replace(dataset, ids=np.array([f"face{i}" for i in range(60)]), **columns)
    weights = np.where(np.arange(40) < 10, 2, 1).astype(np.float32)
    how = {"epochs": 2, "engine": engine, "learning_rate": unchanged}
    one_batch = {"batch_size": 60, "views": 1}
    trained = [
        fit_small(faces, tmp_path / name, student=plain_student(), optimizer=keras.optimizers.SGD(0.5), **how)
        for name, faces, how in (
            ("weighted", dataset, {**how, "batches": {**one_batch, "sample_weights": weights}}),
            ("repeated", twice, {**how, "batches": one_batch}),
        )
    ]
    for a, b in zip(*(network.get_weights() for network in trained), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_batch_without_weight_changes_nothing():
    changes = gradient_step(linear_student([[1, 2], [3, 4]]), batch_of([[1, 2]], [0], sample_weights=[0.0]))
    for change in changes:
        np.testing.assert_array_equal(change, 0)


# What is measured


def test_an_epoch_reports_how_often_the_student_agrees_with_its_teacher(dataset, tmp_path, rng):
    logits = rng.normal(0, 3, (40, 1, 2)).astype(np.float32)
    student, still = plain_student(), keras.optimizers.SGD(0.0)
    how = {"optimizer": still, "learning_rate": unchanged, "loss": DistillationLoss("microexpnet")}
    taught = {"teacher": CachedOutputs(logits=logits), "views": 1}
    fit_small(dataset, tmp_path / "run", epochs=1, student=student, batches=taught, **how)
    (row,) = read_metrics(tmp_path / "run")
    train = dataset.split("train")
    predicted = student.predict(train.read(np.arange(40)).astype(np.float32), verbose=0).argmax(1)
    assert row["train_agreement"] == pytest.approx(np.mean(predicted == logits[:, 0].argmax(1)))
    assert row["train_accuracy"] == pytest.approx(np.mean(predicted == train.labels))
    parts = 0.5 * row["train_cross_entropy"] + 0.5 * row["train_distillation"]
    assert row["train_loss"] == pytest.approx(parts, rel=1e-5)


def test_validation_by_hand(dataset):
    # Certain of class 0 with 3/4 for rows 0 and 1, with 1/4 for rows 2 and 3; labels 0, 1, 0, 1.
    logits = np.log([[3.0, 1.0], [3.0, 1.0], [1.0, 3.0], [1.0, 3.0]]).astype(np.float32)
    metrics = validation_metrics(logits, dataset.subset(np.arange(4)))
    expected = {
        "loss": np.log(4) - np.log(3) / 2,
        "accuracy": 0.5,
        "balanced_accuracy": 0.5,
        "macro_f1": 0.5,
        "calibration_error": 0.25,
    }
    assert metrics == {name: pytest.approx(value, rel=1e-6) for name, value in expected.items()}


def test_waiting_for_input_is_measured_apart_from_training(dataset, tmp_path, monkeypatch):
    fit_small(dataset, tmp_path / "quick", epochs=2)
    rows = ViewBatches.rows

    def slow_rows(self, *picked):
        time.sleep(0.1)
        return rows(self, *picked)

    monkeypatch.setattr(ViewBatches, "rows", slow_rows)
    fit_small(dataset, tmp_path / "slow", epochs=2)
    quick, slow = (read_metrics(tmp_path / name)[1]["input_share"] for name in ("quick", "slow"))
    assert 0 < quick < slow < 1
