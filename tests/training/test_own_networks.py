"""Networks and callbacks of somebody's own: trained as they are, or refused before anything is trained."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from distill.errors import InputError
from distill.losses.objective import Objective
from distill.runs.networks import begin_with
from distill.training.recipe import Recipe
from distill.training.train import train, train_from_labels
from tests.training.small_runs import bright_and_dark, plain_student

TRAINERS = (train, train_from_labels)


@pytest.fixture
def dataset():
    return bright_and_dark()


def adapted(images: np.ndarray) -> keras.Model:
    """A network that normalises by the statistics of `images`."""
    keras.utils.set_random_seed(0)
    normalise = layers.Normalization(name="normalise")
    normalise.adapt(images.astype(np.float32))
    stack = [keras.Input((6, 6, 1)), normalise, layers.Flatten(name="row"), layers.Dense(2, name="logits")]
    return keras.Sequential(stack, name="adapted")


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_average_of_an_adapted_network_normalises_too(dataset, tmp_path, trainer):
    network = adapted(dataset.read(np.arange(50)))
    recipe = Recipe(epochs=2, ema=1e-6, batch_size=8)  # so that the average is the network
    rows = trainer(network, dataset, out=tmp_path / "run", recipe=recipe, progress=False).history.history
    assert rows["val_loss_ema"] == pytest.approx(rows["val_loss"], rel=1e-3)
    assert max(rows["val_loss"]) < 2  # of pixels as they come it is some 60


def test_a_network_that_begins_with_an_adapted_one_computes_the_same(dataset, tmp_path):
    images = dataset.read(np.arange(50)).astype(np.float32)
    learned, other = adapted(images), adapted(images[:2] * 0)
    learned.save(tmp_path / "learned.keras")
    begin_with(other, tmp_path / "learned.keras", dataset.class_names)
    np.testing.assert_allclose(other(images), learned(images), rtol=1e-5)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_loss_of_an_epoch_is_the_mean_over_what_counts(dataset, tmp_path, trainer):
    weights = np.zeros(50, np.float32)
    weights[[0, 1, 2]] = 1  # most batches have no weight at all
    how = {
        "recipe": Recipe(epochs=1, batch_size=4, lr=1e-9),
        "sample_weights": weights,
        "views": 1,
        "progress": False,
    }
    network = trainer(plain_student(), dataset, out=tmp_path / "run", **how)
    expected = keras.losses.sparse_categorical_crossentropy(
        dataset.labels[:3], plain_student()(dataset.read(np.arange(3))), from_logits=True
    )
    assert network.history.history["loss"][0] == pytest.approx(float(np.mean(expected)), rel=1e-3)


def test_regularisers_of_half_precision_are_added_up(dataset, tmp_path):
    student = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(4, activity_regularizer="l2", kernel_regularizer="l2", dtype="mixed_bfloat16"),
            layers.Dense(2, dtype="float32"),
        ]
    )
    trained = train(student, dataset, out=tmp_path / "run", recipe=Recipe(epochs=1), progress=False)
    assert np.isfinite(trained.history.history["loss"]).all()


class OfItsOwn(keras.Model):
    def call(self, images):
        return tf.reduce_mean(images, axis=(1, 2))


def with_outputs(outputs) -> keras.Model:
    images = keras.Input((6, 6, 1))
    logits = layers.Dense(2)(layers.Flatten()(images))
    return keras.Model(images, outputs(logits))


def frozen() -> keras.Model:
    network = plain_student()
    network.trainable = False
    return network


def in_half_precision() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Flatten(),
            layers.Dense(3, dtype="mixed_float16"),
            layers.Dense(2, dtype="float32"),
        ]
    )


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (OfItsOwn, "is a Python class of its own, or has not seen an image"),
        (lambda: keras.Sequential([layers.Flatten(), layers.Dense(2)]), "or has not seen an image"),
        (lambda: with_outputs(lambda logits: [logits, logits]), r"gives \[2\] and \[2\], expected one image"),
        (
            lambda: with_outputs(lambda logits: {"a": logits, "b": logits}),
            r"gives \[2\] and \[2\], expected one image",
        ),
        (frozen, "plain has nothing to train: set trainable = True"),
        (in_half_precision, "computes in float16, .*: build it in mixed_bfloat16"),
    ],
)
def test_networks_that_cannot_be_trained_are_refused_in_one_line(dataset, tmp_path, trainer, network, message):
    with pytest.raises(InputError, match=message) as caught:
        trainer(network(), dataset, out=tmp_path / "run", recipe=Recipe(epochs=1), progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


class WithPlainVariable(Objective):
    """Cross entropy times a number that nobody would train."""

    formula, teacher_outputs = "w CE", ()

    def __init__(self):
        self._weight = tf.Variable(1.0, name="w")

    def __call__(self, student, batch, progress):
        losses = keras.losses.categorical_crossentropy(batch.label_probs, student["logits"], from_logits=True)
        return {"loss": self._weight * losses}

    def describe(self):
        return {"name": "plain", "formula": self.formula}


def test_a_variable_of_tensorflow_that_nothing_would_train_is_refused(dataset, tmp_path):
    with pytest.raises(InputError, match=r"has the tf.Variable _weight \[\], which nothing would train or save"):
        train(plain_student(), dataset, objective=WithPlainVariable(), out=tmp_path / "run", progress=False)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_rate_that_a_callback_lowers_stays_low(dataset, tmp_path, trainer):
    lower = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.1, patience=1, min_delta=1e9)
    recipe = Recipe(epochs=4, lr=0.01, schedule="constant", batch_size=8)
    how = {"recipe": recipe, "callbacks": [lower], "progress": False}
    rates = trainer(plain_student(), dataset, out=tmp_path / "run", **how).history.history["learning_rate"]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.0001])


@pytest.mark.parametrize("kind", ["ReduceLROnPlateau", "LearningRateScheduler"])
def test_a_callback_that_sets_what_a_schedule_computes_is_refused(dataset, tmp_path, kind):
    callback = {
        "ReduceLROnPlateau": keras.callbacks.ReduceLROnPlateau,
        "LearningRateScheduler": lambda: keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
    }[kind]()
    recipe = Recipe(epochs=2, schedule="cosine")
    with pytest.raises(InputError, match=f'{kind} sets a learning rate .* give the recipe schedule="constant"'):
        train(plain_student(), dataset, out=tmp_path / "run", recipe=recipe, callbacks=[callback], progress=False)
