"""One step by hand, and the bugs that distillation code is known for."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill.data.dataset import ArrayImages, Dataset
from distill.data.views import ViewSpec
from distill.training.batches import Batch, ViewBatches
from distill.training.keras_trainer import fit_labels
from distill.training.losses import DistillationLoss
from distill.training.run_directory import RunDirectory
from distill.training.trainer import fit, rendered_epoch, train_step

RECORD = {"settings": {"lr": 0.01}, "class_names": ["dark", "bright"], "data": {}}


def linear_student(weights, bias=(0.0, 0.0), regularizer=None):
    inputs = keras.Input((2,))
    dense = keras.layers.Dense(2, kernel_regularizer=regularizer)
    student = keras.Model(inputs, dense(inputs))
    dense.set_weights([np.array(weights, np.float32), np.array(bias, np.float32)])
    return student


def batch_of(images, labels, teacher_logits=None, sample_weights=None):
    images = np.array(images, np.float32)
    if teacher_logits is None:
        teacher_logits = np.empty((len(images), 0))
    return Batch(
        images=tf.constant(images),
        label_probs=tf.constant(np.eye(2, dtype=np.float32)[labels]),
        teacher_logits=tf.constant(np.array(teacher_logits, np.float32)),
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
    sums = train_step(student, optimizer, DistillationLoss(temperature=1.0, lambda_=0.5), batch)
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
    train_step(student, keras.optimizers.SGD(1.0), loss or DistillationLoss(lambda_=0.0), batch)
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
    kernel, _ = gradient_step(linear_student([[0, 0], [0, 0]]), batch, DistillationLoss(temperature=1.0))
    assert kernel[0, 0] > 0 > kernel[0, 1]
    sums = train_step(linear_student([[0, 0], [0, 0]]), keras.optimizers.SGD(0.0), DistillationLoss(), batch)
    assert float(sums["correct"]) == 0


@pytest.fixture
def dataset(rng):
    """Two classes, bright and dark images: 40 to learn from, 10 to validate on."""
    labels = np.arange(50) % 2
    images = (labels * 120 + 60)[:, None, None, None] + rng.integers(-50, 50, (50, 6, 6, 1))
    return Dataset(
        name="bright and dark",
        ids=np.array([f"face{i}" for i in range(50)]),
        labels=labels,
        class_names=("dark", "bright"),
        images=ArrayImages(images.astype(np.uint8)),
        splits=np.array(["train"] * 40 + ["validation"] * 10),
    )


def dropout_student():
    """A student whose dropout, batch norm and weights all have a state to keep."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.BatchNormalization(momentum=0.5),
            layers.Dense(8, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(2),
        ],
        name="small",
    )


def fit_small(dataset, path, *, epochs=4, student=None, engine=fit, **changes):
    batches = ViewBatches(
        dataset.split("train"), image_shape=(6, 6, 1), view_spec=ViewSpec(), batch_size=8, **changes
    )
    student = student or dropout_student()
    loss = {"loss": DistillationLoss(lambda_=0.0)} if engine is fit else {}
    return engine(
        student,
        batches,
        dataset.split("validation"),
        **loss,
        optimizer=keras.optimizers.Adam(0.01),
        epochs=epochs,
        # Depends on what the run recorded, which a resumed run must know, too.
        learning_rate=lambda epoch, losses: 0.01 / (1 + sum(losses)),
        run=RunDirectory(path, RECORD),
        progress=False,
    )


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


class Killed(BaseException):
    """Stands for a process that ends without a word."""


@pytest.mark.parametrize("engine", [fit, fit_labels])
@pytest.mark.parametrize("moment", ["in the middle of an epoch", "between checkpoint and table"])
def test_a_killed_run_goes_on_to_the_same_weights(dataset, tmp_path, monkeypatch, moment, engine):
    fit_small(dataset, tmp_path / "whole", engine=engine)
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
        fit_small(dataset, tmp_path / "killed", engine=engine)
    monkeypatch.undo()
    keras.utils.set_random_seed(99)  # nothing of the first process is left in the second
    fit_small(dataset, tmp_path / "killed", engine=engine)
    whole, killed = (keras.saving.load_model(tmp_path / run / "last.keras") for run in ("whole", "killed"))
    for a, b in zip(whole.get_weights(), killed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
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


def plain_student():
    keras.utils.set_random_seed(3)
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(2)], name="plain"
    )


def test_the_same_seed_gives_the_same_student_and_another_does_not(dataset, tmp_path):
    runs = [fit_small(dataset, tmp_path / str(i), epochs=2, seed=seed) for i, seed in enumerate((1, 1, 2))]
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

    with pytest.raises(InputError, match="settings.lr: stored 0.01, now 0.02"):
        RunDirectory(tmp_path / "run", {**RECORD, "settings": {"lr": 0.02}})


def test_class_probabilities_of_the_data_are_used(dataset):
    soft = np.full((50, 2), 0.5, np.float32)
    batches = ViewBatches(
        replace(dataset, label_probs=soft), image_shape=(6, 6, 1), view_spec=ViewSpec(), batch_size=50
    )
    (batch,) = list(rendered_epoch(batches, 0))
    np.testing.assert_array_equal(batch.label_probs, soft)
