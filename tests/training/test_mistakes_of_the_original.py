"""One test for each mistake of the original MicroExpNet code, so that none of them can come back."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from distill.data.dataset import ArrayImages, Dataset
from distill.data.folds import deal_folds, fold_splits
from distill.data.rendering import render_numpy
from distill.data.views import ViewSpec
from distill.losses.distillation_loss import DistillationLoss
from distill.runs.run_directory import RunDirectory
from distill.training.batches import CachedOutputs, ViewBatches
from distill.training.keras_trainer import fit_labels
from distill.training.optimizer import build_optimizer, epoch_learning_rate
from distill.training.recipe import RECIPES, Recipe
from distill.training.train import train
from distill.training.trainer import fit
from students import STUDENTS
from students.microexpnet import VARIANTS
from tests.training.small_runs import LABELS_ALONE, RECORD, rendered_epoch

CROPS = ViewSpec(crops="microexpnet")


@pytest.fixture
def faces(rng):
    """Thirty images of two classes, whose pixels say which image it is."""
    images = np.repeat(8 * np.arange(30), 64).reshape(30, 8, 8, 1) + rng.integers(0, 3, (30, 8, 8, 1))
    return Dataset(
        name="faces",
        ids=np.array([f"face{i}" for i in range(30)]),
        labels=rng.integers(0, 2, 30),
        class_names=("dark", "bright"),
        images=ArrayImages(images.astype(np.uint8)),
        splits=np.array([""] * 30),
    )


def test_each_of_the_eight_crops_has_the_label_and_the_logits_of_its_image(faces):
    # Labels were appended once per image while every image gave eight crops: accuracy 0.18.
    logits = np.zeros((30, 8, 2), np.float32)
    logits[..., 0], logits[..., 1] = np.arange(30)[:, None], np.arange(8)
    teacher = CachedOutputs(logits=logits)
    batches = ViewBatches(faces, image_shape=(7, 7, 1), view_spec=CROPS, teacher=teacher, views=8, batch_size=4)
    seen = set()
    for epoch in range(8):
        for batch in rendered_epoch(batches, epoch):
            for image, label, (row, crop) in zip(
                batch.images.numpy(),
                batch.label_probs.numpy().argmax(1),
                batch.teacher["logits"].numpy().astype(int),
                strict=True,
            ):
                parameters = CROPS.parameters([faces.ids[row]], [crop])
                expected = render_numpy(faces.read([row]), parameters, image_shape=(7, 7, 1))[0]
                np.testing.assert_allclose(image, expected, atol=1e-3)
                assert label == faces.labels[row]
                seen.add((row, crop))
    assert len(seen) == 30 * 8


def test_labels_alone_go_through_all_eight_crops(faces, tmp_path):
    parts = fold_splits(deal_folds(faces, 3), 0)
    network = keras.Sequential([keras.Input((7, 7, 1)), keras.layers.Flatten(), keras.layers.Dense(2)], name="net")
    train(network, parts, out=tmp_path / "run", recipe=Recipe(epochs=1, view=CROPS), progress=False)
    assert '"number": 8' in (tmp_path / "run" / "settings.json").read_text()


def test_no_image_of_a_fold_is_dropped(faces):
    # The first image of every fold was.
    dealt = deal_folds(faces, 3)
    for fold in range(3):
        parts = fold_splits(dealt, fold)
        training = parts.split("train")
        batches = ViewBatches(training, image_shape=(8, 8, 1), view_spec=ViewSpec(), batch_size=7)
        images = sum(len(batch.images) for batch in rendered_epoch(batches, 0))
        assert images == len(training)
        assert len(training) + len(parts.split("validation")) + len(parts.split("test")) == 30


def test_a_loss_that_weighs_teacher_logits_is_refused_without_them(faces, tmp_path):
    # In the folds of the original they were always empty, so that its script could not distil.
    from distill.errors import InputError

    network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    parts = fold_splits(deal_folds(faces, 3), 0)
    with pytest.raises(InputError, match="needs a teacher's logits"):
        train(network, parts, out=tmp_path / "run", objective=DistillationLoss("microexpnet", lambda_=0.5))


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.schedule != "cosine"])
def test_the_first_step_has_the_full_learning_rate(name):
    # It was divided by ten at step 0.
    recipe = RECIPES[name]
    assert epoch_learning_rate(recipe, 0, [], steps_per_epoch=100) == recipe.lr
    assert float(build_optimizer(recipe, steps_per_epoch=100).learning_rate) == pytest.approx(recipe.lr)


@pytest.mark.parametrize("engine", [fit, fit_labels])
def test_a_short_last_batch_counts_for_the_images_it_holds(faces, tmp_path, engine):
    # It was weighted as a full one. Batches of 20 and 10; a learning rate of 0 leaves the losses as they are.
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(2)]
    network = keras.Sequential(layers, name="net")
    untouched = replace(CROPS, crops="")
    batches = ViewBatches(faces, image_shape=(8, 8, 1), view_spec=untouched, views=1, batch_size=20)
    run = RunDirectory(tmp_path / "run", RECORD)
    loss = {"objective": LABELS_ALONE} if engine is fit else {}
    optimizer = keras.optimizers.SGD(0.0)
    engine(network, batches, faces, **loss, optimizer=optimizer, epochs=1, run=run, progress=False)
    logits = network.predict(faces.read(np.arange(30)).astype("float32"), verbose=0).astype("float64")
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -log_probs[np.arange(30), faces.labels].mean()
    assert run.rows[0]["train_loss"] == pytest.approx(expected, rel=1e-5)
    assert run.rows[0]["train_accuracy"] == pytest.approx(np.mean(logits.argmax(1) == faces.labels))


@pytest.mark.parametrize("name", STUDENTS)
def test_dropout_is_off_at_prediction(name):
    student = STUDENTS[name](keep_prob=0.1)
    images = np.random.default_rng(0).uniform(0, 255, (4, *student.input_shape[1:])).astype("float32")
    np.testing.assert_array_equal(student.predict_on_batch(images), student.predict_on_batch(images))
    assert not np.array_equal(student(images, training=True), student(images, training=True))


@pytest.mark.parametrize("row", VARIANTS)
def test_the_dense_width_is_a_whole_number(row):
    # 256 / 16 is a float in Python 3.
    assert type(VARIANTS[row].units) is int
