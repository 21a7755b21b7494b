"""Recipes are data: the published ones stand as published, and the learning rate is that of Keras' callbacks."""

import dataclasses

import keras
import numpy as np
import pytest

from distill.data.views import PARAMETERS, ViewSpec
from distill.errors import InputError
from distill.training.optimizer import build_optimizer, epoch_learning_rate
from distill.training.recipe import RECIPES, Plateau, Recipe


def test_fer_cnn_as_published():
    recipe = RECIPES["fer_cnn"]
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.weight_decay) == (15, 64, 5e-4, 0)
    assert recipe.plateau == Plateau(factor=0.1, patience=2, min_delta=1e-4, floor=1e-5)
    parameters = recipe.view.parameters([f"face{i}" for i in range(200)], [1] * 200)
    assert set(parameters[:, 0]) == {-1, 1}  # flipped or not, and nothing else
    columns = [PARAMETERS.index(name) for name in ("angle", "shift_x", "shift_y", "brightness", "erase_width")]
    assert not parameters[:, columns].any()
    assert np.all(parameters[:, [PARAMETERS.index("zoom"), PARAMETERS.index("contrast")]] == 1)


def test_facenet_as_published():
    recipe = RECIPES["facenet"]
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.lr_decay) == (30, 64, 1e-4, 1e-6)
    assert recipe.plateau == Plateau(factor=0.5, patience=6, min_delta=1e-4)
    assert (recipe.view.flip, recipe.view.shift, recipe.view.rotation) == (True, 0.1, 0)
    low, high = recipe.view.zoom
    assert (1 / high, 1 / low) == pytest.approx((0.7, 1.3))


@pytest.mark.parametrize(
    ("epoch", "factor"),
    [(0, 1), (4, 1), (5, 0.3), (29, 0.3), (30, 0.1), (59, 0.1), (60, 0.05), (89, 0.05), (90, 0.01), (99, 0.01)],
)
def test_facenet_steps_as_published(epoch, factor):
    recipe = RECIPES["facenet_steps"]
    falling = list(np.linspace(2, 1, epoch))  # so that the plateau has nothing to say
    assert epoch_learning_rate(recipe, epoch, falling, steps_per_epoch=7) == pytest.approx(1e-3 * factor)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_an_optimizer_of_its_learning_rate(name):
    recipe = RECIPES[name]
    optimizer = build_optimizer(recipe, steps_per_epoch=10)
    assert type(optimizer) is (keras.optimizers.AdamW if recipe.weight_decay else keras.optimizers.Adam)
    if recipe.schedule == "cosine":
        rates = [float(optimizer._learning_rate(step)) for step in range(10 * recipe.epochs + 1)]
        assert max(rates) == pytest.approx(recipe.lr, rel=1e-3)
        assert (np.argmax(rates), rates[0]) == (10 * recipe.epochs // 20, 0)
        assert rates[-1] == pytest.approx(0, abs=1e-9)
    else:
        assert float(optimizer.learning_rate) == pytest.approx(recipe.lr)


@pytest.mark.parametrize("plateau", [Plateau(factor=0.1, patience=2, floor=1e-5), Plateau(factor=0.5, patience=1)])
@pytest.mark.parametrize("seed", range(5))
def test_plateau_lowers_the_rate_as_keras_does(plateau, seed):
    losses = np.random.default_rng(seed).choice([1.0, 0.99, 0.98, 0.97995, 0.97], 30).tolist()
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(1e-3))
    callback = keras.callbacks.ReduceLROnPlateau(
        factor=plateau.factor, patience=plateau.patience, min_delta=plateau.min_delta, min_lr=plateau.floor
    )
    callback.set_model(model)
    callback.on_train_begin()
    recipe = Recipe(lr=1e-3, schedule="constant", plateau=plateau)
    for epoch, loss in enumerate(losses):
        ours = epoch_learning_rate(recipe, epoch, losses[:epoch], steps_per_epoch=3)
        assert ours == pytest.approx(float(model.optimizer.learning_rate), rel=1e-5)
        callback.on_epoch_end(epoch, {"val_loss": loss})


def test_decay_is_that_of_keras_inverse_time_schedule():
    recipe = Recipe(lr=0.1, schedule="constant", lr_decay=0.01)
    schedule = keras.optimizers.schedules.InverseTimeDecay(0.1, decay_steps=1, decay_rate=0.01)
    rate = epoch_learning_rate(recipe, 3, [1, 1, 1], steps_per_epoch=50)
    assert rate == pytest.approx(float(schedule(150)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "step"}, 'unknown schedule "step": choose one of cosine, constant, steps'),
        ({"schedule": "steps"}, "give --schedule steps and --lr-steps together"),
        ({"lr_steps": ((3, 0.1),)}, "give --schedule steps and --lr-steps together"),
        ({"schedule": "steps", "lr_steps": ((3, 0.1), (3, 0.2))}, "lr-steps must be rising epochs"),
        ({"plateau": Plateau(factor=0.5)}, "a cosine schedule ends at 0"),
        ({"lr_decay": 0.1}, "a cosine schedule ends at 0"),
        ({"label_smoothing": 1.0}, "label-smoothing must lie in 0..1"),
        ({"lr_decay": -1.0}, "lr-decay must be 0 or more"),
        ({"lr": float("inf")}, "lr must be above 0"),
        ({"weight_decay": float("nan")}, "weight-decay must be 0 or more"),
        ({"seed": 2**32}, "seed must be 0 or more, and below 4294967296"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Recipe(**settings)


@pytest.mark.parametrize("settings", [{"factor": 0.0}, {"factor": 1.5}, {"patience": 0}, {"floor": -1.0}])
def test_plateaus_that_make_no_sense_are_refused(settings):
    with pytest.raises(InputError, match=f"plateau {next(iter(settings))} must"):
        Plateau(**settings)


def test_a_plateau_that_would_do_nothing_is_refused():
    with pytest.raises(InputError, match="never lowers the learning rate"):
        Plateau(patience=2)


def test_recipes_differ_from_each_other_and_draw_views():
    assert len({str(dataclasses.asdict(recipe)) for recipe in RECIPES.values()}) == len(RECIPES)
    assert all(recipe.view != ViewSpec() for recipe in RECIPES.values())
