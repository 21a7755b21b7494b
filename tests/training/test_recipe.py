"""Recipes are data: the published ones stand as published, and what they set is what Keras and NumPy compute."""

import dataclasses

import keras
import numpy as np
import pytest

from distill.data.views import PARAMETERS, ViewSpec
from distill.errors import InputError
from distill.training.optimizer import build_optimizer, epoch_learning_rate, optimizers
from distill.training.recipe import RECIPES, SCHEDULES, STEPWISE_SCHEDULES, Plateau, Recipe
from students import STUDENTS


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
    assert recipe.view.zoom_draw == RECIPES["facenet_steps"].view.zoom_draw == "inverse"  # even in 0.7..1.3


@pytest.mark.parametrize(
    ("epoch", "factor"),
    [(0, 1), (5, 1), (6, 0.3), (30, 0.3), (31, 0.1), (60, 0.1), (61, 0.05), (90, 0.05), (91, 0.01), (99, 0.01)],
)
def test_facenet_steps_as_published(epoch, factor):
    """The notebook's conditions are epoch > 5, 30, 60 and 90, counted from 0."""
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


@pytest.mark.parametrize(
    ("settings", "schedule"),
    [
        ({}, "cosine"),
        ({"epochs": 10}, "constant"),
        ({"epochs": 11}, "cosine"),
        ({"epochs": 5, "warmup_epochs": 0.5}, "cosine"),
        ({"epochs": 5, "schedule": "linear"}, "linear"),
    ],
)
def test_the_learning_rate_of_a_short_run_stays_up_by_default(settings, schedule):
    assert Recipe(**settings).schedule == schedule


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
        ({"schedule": "step"}, 'unknown schedule "step": did you mean steps?'),
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
        ({"schedule": "linear", "plateau": Plateau(factor=0.5)}, "a linear schedule ends at 0"),
        ({"warmup_epochs": -1}, "warmup-epochs must be 0 or more, and fewer than the 20 of the run, received -1"),
        ({"warmup_epochs": 20}, "warmup-epochs must be 0 or more, and fewer than the 20 of the run, received 20"),
        ({"schedule": "constant", "warmup_epochs": 0.5}, 'the schedule "constant" warms up by whole epochs'),
        ({"optimizer": "adamw"}, '"adamw" without weight decay is "adam": give --weight-decay'),
        ({"clip_norm": 0.0}, "clip-norm must be above 0"),
        ({"ema": 1.0}, "ema must be above 0, and below 1, received 1.0"),
        ({"momentum": 1.0}, "momentum must lie in 0..1, below 1"),
        ({"patience": 0}, "patience must be at least 1, received 0"),
        ({"class_weights": "equal"}, 'unknown class-weights "equal": choose one of none, balanced'),
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


# The learning rate


def learning_rates(recipe, *, steps_per_epoch):
    """The rate of every step of a run whose validation loss falls all the time."""
    optimizer = build_optimizer(recipe, steps_per_epoch=steps_per_epoch)
    rates = []
    for epoch in range(recipe.epochs):
        falling = list(np.linspace(2, 1, epoch))
        if (rate := epoch_learning_rate(recipe, epoch, falling, steps_per_epoch=steps_per_epoch)) is not None:
            optimizer.learning_rate = rate
        for _ in range(steps_per_epoch):
            rates.append(float(optimizer.learning_rate))
            optimizer.iterations.assign_add(1)
    return np.array(rates)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_warms_up_to_its_peak_and_goes_its_way(schedule):
    steps = {"lr_steps": ((6, 0.1),)} if schedule == "steps" else {}
    recipe = Recipe(epochs=10, lr=0.5, schedule=schedule, warmup_epochs=4, **steps)
    rates = learning_rates(recipe, steps_per_epoch=10)
    ramp = np.minimum(1, np.arange(100) / 40)
    if schedule in STEPWISE_SCHEDULES:
        share = np.clip((np.arange(100) - 40) / 60, 0, 1)
        fall = 1 - share if schedule == "linear" else (1 + np.cos(np.pi * share)) / 2
        np.testing.assert_allclose(rates, 0.5 * ramp * fall, rtol=1e-5, atol=1e-8)
    else:  # an epoch has the value of the ramp in its middle
        middle = np.interp(np.arange(0.5, 10), np.arange(100) / 10, ramp)
        fall = np.where(np.arange(10) < 6, 1, 0.1) if schedule == "steps" else 1
        np.testing.assert_allclose(rates[::10], 0.5 * middle * fall, rtol=1e-6)
        assert all(len(set(epoch)) == 1 for epoch in rates.reshape(10, 10))


@pytest.mark.parametrize("schedule", STEPWISE_SCHEDULES)
def test_a_warm_up_that_leaves_no_step_leaves_one(schedule):
    recipe = Recipe(epochs=2, schedule=schedule, warmup_epochs=1.9, lr=0.1)
    rates = learning_rates(recipe, steps_per_epoch=5)
    assert max(rates) == pytest.approx(0.1)
    assert np.isfinite(rates).all()


@pytest.mark.parametrize("schedule", STEPWISE_SCHEDULES)
def test_by_default_a_twentieth_of_the_run_is_warm_up(schedule):
    rates = learning_rates(Recipe(epochs=12, lr=1.0, schedule=schedule), steps_per_epoch=5)
    assert np.argmax(rates) == 60 // 20
    assert rates[0] == 0
    without = learning_rates(Recipe(epochs=12, lr=1.0, schedule=schedule, warmup_epochs=0), steps_per_epoch=5)
    assert without[0] == without.max() == 1


def test_linear_is_kerass_polynomial_decay_of_power_one():
    keras_own = keras.optimizers.schedules.PolynomialDecay(0.3, decay_steps=40, end_learning_rate=0.0, power=1.0)
    rates = learning_rates(Recipe(epochs=4, lr=0.3, schedule="linear", warmup_epochs=0), steps_per_epoch=10)
    np.testing.assert_allclose(rates, [float(keras_own(step)) for step in range(40)], rtol=1e-6)


def test_a_linear_schedule_is_saved_and_loaded_with_its_network(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(build_optimizer(Recipe(epochs=4, schedule="linear"), steps_per_epoch=10))
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.optimizer.iterations.assign(20)
    assert float(loaded.optimizer.learning_rate) == pytest.approx(1e-3 * 20 / 38)


# Optimizers


def test_the_optimizers_are_those_that_keras_documents():
    documented = {"adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "ftrl", "lamb", "lion", "nadam"}
    assert documented | {"rmsprop", "sgd"} <= set(optimizers())
    assert not {"optimizer", "lossscaleoptimizer"} & set(optimizers())  # neither is one to choose


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adamm"}, 'unknown optimizer "adamm": did you mean adam'),
        ({"optimizer": "newton"}, 'unknown optimizer "newton": choose one of adadelta, '),
        ({"momentum": 0.9}, 'the optimizer "adam" takes no momentum: omit it, or give sgd'),
    ],
)
def test_optimizers_that_keras_does_not_have_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        build_optimizer(Recipe(**settings), steps_per_epoch=1)


def normed_network():
    layers = keras.layers
    norms = [layers.BatchNormalization(), layers.LayerNormalization(), layers.GroupNormalization(2)]
    norms += [layers.RMSNormalization()] if hasattr(layers, "RMSNormalization") else []
    convolutions = [
        layers.Conv2D(4, 3, name="unbiased_upscale"),
        layers.DepthwiseConv2D(3),
        layers.SeparableConv2D(4, 3),
    ]
    return keras.Sequential([keras.Input((9, 9, 2)), *convolutions, *norms, layers.Flatten(), layers.Dense(3)])


@pytest.mark.parametrize("build", [normed_network, *STUDENTS.values()])
def test_what_decays_is_exactly_what_has_more_than_one_axis(build):
    # Without gradients, SGD of rate 1 and decay 1/2 leaves half of what decays, and all of the rest.
    network = build()
    recipe = Recipe(optimizer="SGD", lr=1.0, schedule="constant", weight_decay=0.5)
    optimizer = build_optimizer(recipe, steps_per_epoch=1)
    variables = network.trainable_variables
    for variable in variables:
        variable.assign(np.ones(variable.shape))
    optimizer.build(variables)
    optimizer.apply([np.zeros(variable.shape, np.float32) for variable in variables])
    for variable in variables:
        assert np.all(variable.numpy() == (0.5 if len(variable.shape) > 1 else 1)), variable.path


STEP_DEPENDS_ON_THE_WEIGHT = {"adafactor", "ftrl", "lamb", "schedulefreeadamw"}


@pytest.mark.parametrize("name", optimizers())
def test_every_optimizer_decays_weights_apart_from_its_step_and_leaves_biases_alone(name):
    if name == "muon" and tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15):
        pytest.skip("older releases of Keras cannot run it on TensorFlow")
    steps = 2 if name in STEP_DEPENDS_ON_THE_WEIGHT else 1

    def stepped(weight_decay):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, bias_initializer="ones")])
        recipe = Recipe(optimizer=name, lr=0.1, schedule="constant", weight_decay=weight_decay)
        optimizer = build_optimizer(recipe, steps_per_epoch=1)
        optimizer.build(model.trainable_variables)
        before = model.get_weights()[0]
        for _ in range(steps):
            optimizer.apply([np.full((3, 2), 0.3, np.float32), np.full(2, 0.3, np.float32)])
        return before, *model.get_weights()

    before, kernel, bias = stepped(1e-9 if name == "adamw" else 0.0)  # which has to have some
    _, decayed_kernel, decayed_bias = stepped(0.5)
    np.testing.assert_array_equal(bias, decayed_bias)
    if name in STEP_DEPENDS_ON_THE_WEIGHT:
        assert not np.allclose(kernel, decayed_kernel)
    else:
        np.testing.assert_allclose(decayed_kernel, kernel - 0.1 * 0.5 * before, atol=1e-6)


@pytest.mark.parametrize("largest", [1.0, 100.0])
def test_the_norm_of_all_gradients_together_is_clipped(largest, rng):
    gradients = [rng.normal(0, 3, shape).astype(np.float32) for shape in ((4, 3), (3,))]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    before = model.get_weights()
    recipe = Recipe(optimizer="sgd", lr=1.0, schedule="constant", clip_norm=largest)
    optimizer = build_optimizer(recipe, steps_per_epoch=1)
    optimizer.build(model.trainable_variables)
    optimizer.apply(gradients)
    norm = np.sqrt(sum(np.sum(gradient.astype(np.float64) ** 2) for gradient in gradients))
    assert 1 < norm < 100
    for old, new, gradient in zip(before, model.get_weights(), gradients, strict=True):
        np.testing.assert_allclose(old - new, gradient * min(1, largest / norm), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["AdamW", "Muon"])
def test_an_optimizer_object_keeps_the_weight_decay_of_its_class(kind):
    own = getattr(keras.optimizers, kind)()
    assert own.weight_decay
    assert Recipe(optimizer=own).weight_decay == pytest.approx(own.weight_decay)


def test_momentum_is_that_of_the_heavy_ball():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    recipe = Recipe(optimizer="sgd", lr=0.1, schedule="constant", momentum=0.9)
    optimizer = build_optimizer(recipe, steps_per_epoch=1)
    optimizer.build(model.trainable_variables)
    for _ in range(2):
        optimizer.apply([np.ones((1, 1), np.float32)])
    assert model.get_weights()[0].item() == pytest.approx(-0.1 - (0.9 * 0.1 + 0.1))
