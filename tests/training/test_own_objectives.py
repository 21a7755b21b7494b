"""Objectives from outside: layers of the student, layers of their own, callbacks, and what stays of them."""

import functools
import hashlib
import importlib.util
import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.losses.distillation_loss import DistillationLoss
from distill.losses.objective import Batch, Objective, as_objective
from distill.losses.soft_losses import SoftLoss
from distill.runs.run_directory import read_metrics
from distill.source_code import source_sha256
from distill.training.batches import CachedOutputs, ViewBatches
from distill.training.recipe import Recipe
from distill.training.student_outputs import RESERVED, StudentOutputs, build_objective, trained_variables
from distill.training.train import train, train_from_labels
from distill.training.trainer import train_step
from tests.training.small_runs import bright_and_dark, fit_small, killed_before, plain_student


def student_with_features():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 6, 1))
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    features = keras.layers.Dense(5, activation="relu", name="features")(flat)
    return keras.Model(inputs, keras.layers.Dense(2, name="logits")(features), name="small")


class Hint(Objective):
    """The mean square between a projection of the student's features and the teacher's logits."""

    student_layers = ("features",)

    def __init__(self):
        self._projector = keras.layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.1), name="projector")
        self.layers = [self._projector]

    def build(self, student_outputs, teacher_outputs):
        assert teacher_outputs["logits"].shape == (None, 2)
        self._projector.build(student_outputs["features"].shape)

    def __call__(self, student_outputs, batch, progress):
        error = self._projector(student_outputs["features"]) - batch.teacher["logits"]
        return {"loss": keras.ops.mean(error**2, axis=-1)}


@pytest.fixture
def taught(rng):
    return {"teacher": CachedOutputs(logits=rng.normal(0, 3, (40, 1, 2)).astype(np.float32)), "views": 1}


@pytest.fixture
def dataset():
    return bright_and_dark()


def test_one_step_of_a_projector_and_its_student_is_that_of_a_tape(dataset, taught, rng):
    student, objective = student_with_features(), Hint()
    batches = ViewBatches(dataset.split("train"), image_shape=(6, 6, 1), view_spec=ViewSpec(), **taught)
    build_objective(objective, student, batches)
    batch = Batch(
        images=tf.constant(rng.uniform(0, 255, (4, 6, 6, 1)).astype(np.float32)),
        label_probs=tf.zeros((4, 2)),
        teacher={"logits": tf.constant(rng.normal(0, 3, (4, 2)).astype(np.float32))},
        sample_weights=tf.constant([1.0, 2.0, 0.0, 1.0]),
    )
    variables = trained_variables(student, objective)
    before = [variable.numpy().astype(np.float64) for variable in variables]
    kernel, bias = before[-2:]
    features = np.asarray(StudentOutputs(student, ["features"])(batch.images)["features"], np.float64)
    error = features @ kernel + bias - batch.teacher["logits"].numpy()
    weights = np.array([1, 2, 0, 1]) / 4
    train_step(StudentOutputs(student, objective.student_layers), keras.optimizers.SGD(0.1), objective, batch, 0.0)
    # d/dkernel of mean_i w_i mean_j e_ij^2 = features^T (w e), and 0.2 kernel of the regulariser
    gradient = features.T @ (weights[:, None] * error) + 0.2 * kernel
    np.testing.assert_allclose(variables[-2].numpy(), kernel - 0.1 * gradient, rtol=1e-4, atol=1e-6)
    assert not np.allclose(variables[0].numpy(), before[0])  # the student moved, too


def own_weights(run):
    """The projector's weights in the last checkpoint."""
    import io

    with zipfile.ZipFile(run / "last.keras") as archive:
        stored = np.load(io.BytesIO(archive.read("own_layers.npz")))
        return [stored[name] for name in stored.files]


def test_layers_of_an_objective_resume_bit_for_bit_and_stay_out_of_the_student(dataset, taught, tmp_path):
    def run(name):
        optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9)
        how = {"student": student_with_features(), "objective": Hint(), "batches": taught, "optimizer": optimizer}
        return fit_small(dataset, tmp_path / name, epochs=3, **how)

    whole = run("whole")
    assert [layer.name for layer in whole.layers if layer.weights] == ["features", "logits"]

    with killed_before(epoch=2):
        run("killed")
    keras.utils.set_random_seed(99)
    run("killed")
    for a, b in zip(own_weights(tmp_path / "whole"), own_weights(tmp_path / "killed"), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("train_loss", "validation_loss", "validation_loss_ema"):
        rows = [[row[name] for row in read_metrics(tmp_path / each)] for each in ("whole", "killed")]
        assert rows[0] == rows[1], name


def test_a_layer_that_the_student_lacks_is_refused_with_near_names(dataset, taught, tmp_path):
    objective = Hint()
    objective.student_layers = ("feature",)
    with pytest.raises(InputError, match='the layer "feature", which small does not have: did you mean features'):
        fit_small(dataset, tmp_path, student=student_with_features(), objective=objective, batches=taught)


class Wrong(Objective):
    """Returns, or raises, what it is made of."""

    teacher_outputs = ()

    def __init__(self, returns):
        self._returns = returns

    def __call__(self, student_outputs, batch, progress):
        return self._returns(student_outputs["logits"])


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        (lambda logits: logits[:, 0], 'returned .*Tensor: expected a dictionary with "loss"'),
        (lambda logits: {"los": logits[:, 0]}, "returned one of los: expected"),
        (lambda logits: {"loss": keras.ops.mean(logits)}, r"returned loss of shape \[\]: expected .* each \[B\]"),
        (lambda logits: {"loss": logits}, r"returned loss of shape \[B, 2\]"),
        *(
            (
                lambda logits, name=name: {"loss": logits[:, 0], name: logits[:, 1]},
                f"returned a part named {name}, as what is measured anyway is called",
            )
            for name in RESERVED
        ),
        (
            lambda logits: {"loss": logits[:, 0] - keras.ops.ones((7,))},
            r"failed: .*equal.* \(test_own_objectives.py, l",
        ),
    ],
)
def test_an_objective_that_cannot_be_trained_on_is_refused_before_training(dataset, tmp_path, returns, message):
    with pytest.raises(InputError, match=message):
        fit_small(dataset, tmp_path, student=plain_student(), objective=Wrong(returns))
    assert not (tmp_path / "metrics.csv").exists()


@pytest.mark.parametrize(
    "returns",
    [
        lambda logits: {"loss": logits[:, 0] * float("nan")},
        lambda logits: {"loss": keras.ops.sqrt(0 * logits[:, 0])},  # finite, but for its gradient
    ],
)
def test_a_loss_that_is_not_finite_is_named_and_not_only_the_learning_rate(dataset, tmp_path, returns):
    with pytest.raises(InputError, match=r"the objective Wrong .*gradient.* or try a smaller learning rate"):
        fit_small(dataset, tmp_path, student=plain_student(), objective=Wrong(returns))


def test_a_layer_that_is_an_attribute_is_trained_without_being_built_or_listed(dataset, tmp_path):
    class Unlisted(Objective):
        teacher_outputs = ()

        def __init__(self):
            self.scale = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")

        def __call__(self, student_outputs, batch, progress):
            return {"loss": keras.ops.mean((self.scale(student_outputs["logits"]) - 1) ** 2, axis=-1)}

    objective = Unlisted()
    fit_small(dataset, tmp_path, epochs=1, student=plain_student(), objective=objective)
    assert not np.array_equal(objective.scale.kernel, np.ones((2, 1)))
    np.testing.assert_array_equal(own_weights(tmp_path)[0], objective.scale.kernel)


def test_what_build_sets_is_no_setting_so_the_same_call_finds_the_run_complete(dataset, tmp_path, capsys):
    class Scaled(Objective):
        teacher_outputs = ()

        def __init__(self):
            self.by = 2.0

        def build(self, student_outputs, teacher_outputs):
            self.classes = student_outputs["logits"].shape[-1]

        def __call__(self, student_outputs, batch, progress):
            return {"loss": self.by * keras.ops.mean(student_outputs["logits"] ** 2, axis=-1) / self.classes}

    objective = Scaled()
    for _ in range(2):
        train(plain_student(), dataset, out=tmp_path / "run", objective=objective, recipe=Recipe(epochs=1))
    assert "is already complete" in capsys.readouterr().out
    objective.by = 3.0
    with pytest.raises(InputError, match="objective.settings.by: stored 2.0, now 3.0"):
        train(plain_student(), dataset, out=tmp_path / "run", objective=objective, recipe=Recipe(epochs=1))


def test_layers_that_the_build_of_a_function_makes_are_trained(dataset, tmp_path):
    def scaled(student_outputs, batch, progress):
        return {"loss": keras.ops.mean((scaled.layers[0](student_outputs["logits"]) - 1) ** 2, axis=-1)}

    def build(student_outputs, teacher_outputs):
        scaled.layers = [keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")]

    scaled.teacher_outputs, scaled.build = (), build
    fit_small(dataset, tmp_path, epochs=1, student=plain_student(), objective=as_objective(scaled))
    assert not np.array_equal(scaled.layers[0].kernel, np.ones((2, 1)))


class Holding(Objective):
    """Reads something that it holds in a way of its own."""

    teacher_outputs = ()

    def __init__(self, held, read):
        self._held, self._read = held, read

    def __call__(self, student_outputs, batch, progress):
        return {"loss": keras.ops.mean((self._read(self._held, student_outputs["logits"]) - 1) ** 2, axis=-1)}


def ones():
    return keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")


def test_layers_in_dictionaries_and_of_objects_that_are_called_are_trained(dataset, tmp_path):
    objective = Holding({"heads": [ones()]}, lambda held, logits: held["heads"][0](logits))
    fit_small(dataset, tmp_path / "1", epochs=1, student=plain_student(), objective=objective)
    assert not np.array_equal(objective._held["heads"][0].kernel, np.ones((2, 1)))

    class Called:
        teacher_outputs = ()

        def __init__(self):
            self.head = ones()

        def __call__(self, student_outputs, batch, progress):
            return {"loss": keras.ops.mean((self.head(student_outputs["logits"]) - 1) ** 2, axis=-1)}

    called = Called()
    fit_small(dataset, tmp_path / "2", epochs=1, student=plain_student(), objective=as_objective(called))
    assert not np.array_equal(called.head.kernel, np.ones((2, 1)))


class Hiding:
    def __init__(self):
        self.layer = ones()


@pytest.mark.parametrize(
    ("held", "read"),
    [
        (lambda: keras.Variable(1.0, name="scale"), lambda scale, logits: scale * logits),
        (Hiding, lambda hiding, logits: hiding.layer(logits)),
    ],
)
def test_weights_that_nothing_would_train_are_refused(dataset, tmp_path, held, read):
    with pytest.raises(InputError, match="reads .*, which nothing would train or save: set trainable = False on"):
        fit_small(dataset, tmp_path, student=plain_student(), objective=Holding(held(), read))
    frozen = Hiding()
    frozen.layer.build((None, 2))
    frozen.layer.trainable = False
    objective = Holding(frozen, lambda hiding, logits: hiding.layer(logits))
    fit_small(dataset, tmp_path, epochs=1, student=plain_student(), objective=objective)


CENTRES = []


def moving_centre_in_a_global(logits):
    """A centre that follows the logits, as DINO's does (Caron et al. 2021, equation 4)."""
    centre = CENTRES[-1]
    centre.assign(0.9 * centre + 0.1 * keras.ops.mean(logits))
    return centre


class MovingCentre:
    def __init__(self):
        self._centre = keras.Variable(0.0, trainable=False)

    def __call__(self, logits):
        self._centre.assign(0.9 * self._centre + 0.1 * keras.ops.mean(logits))
        return self._centre


class Noise:
    def __init__(self):
        self._seed = keras.random.SeedGenerator(7)

    def __call__(self, logits):
        return keras.random.normal((), seed=self._seed)


class MovingCentreInAFunction(MovingCentre):
    @tf.function
    def __call__(self, logits):
        return super().__call__(logits)


KINDS = [MovingCentre, Noise, MovingCentreInAFunction, lambda: moving_centre_in_a_global]


@pytest.mark.parametrize("kind", KINDS)
def test_variables_that_an_objective_changes_itself_are_resumed(dataset, tmp_path, kind):
    def train_in(name):
        keras.utils.set_random_seed(5)
        CENTRES.append(keras.Variable(0.0, trainable=False))
        objective = Holding(kind(), lambda target, logits: logits - target(logits))
        fit_small(dataset, tmp_path / name, epochs=3, student=plain_student(), objective=objective)
        return [row["train_loss"] for row in read_metrics(tmp_path / name)]

    whole = train_in("whole")
    with killed_before(epoch=2):
        train_in("killed")
    assert train_in("killed") == whole


def test_a_checkpoint_of_before_without_these_variables_is_refused_in_one_line(dataset, tmp_path):
    def train_it():
        objective = Holding(MovingCentre(), lambda target, logits: logits - target(logits))
        fit_small(dataset, tmp_path / "run", epochs=3, student=plain_student(), objective=objective)

    with killed_before(epoch=2):
        train_it()
    for name in ("last.keras", "previous.keras"):
        file = tmp_path / "run" / name
        with zipfile.ZipFile(file) as archive:
            kept = {each: archive.read(each) for each in archive.namelist() if each != "own_layers.npz"}
        with zipfile.ZipFile(file, "w") as archive:
            for each, content in kept.items():
                archive.writestr(each, content)
    with pytest.raises(InputError, match=r"last.keras does not hold the layers and variables of the objective \("):
        train_it()


def test_a_variable_that_an_objective_changes_is_left_to_it(dataset, tmp_path):
    """The optimizer, which averages what it trains, does not know of it, though it is trainable by default."""
    last = keras.Variable(3.0)

    class Remembering(Objective):
        teacher_outputs = ()

        def __call__(self, student_outputs, batch, progress):
            last.assign(progress)
            return {"loss": student_outputs["logits"][:, 0] ** 2}

    optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=1)
    how = {"student": plain_student(), "objective": Remembering(), "optimizer": optimizer}
    fit_small(dataset, tmp_path, epochs=1, **how)
    steps = int(optimizer.iterations.numpy())
    assert float(last.value) == pytest.approx((steps - 1) / steps)


def test_a_generator_of_tensorflow_is_refused(dataset, tmp_path):
    generator = tf.random.Generator.from_seed(7)
    objective = Holding(generator, lambda held, logits: logits + held.normal([]))
    with pytest.raises(InputError, match=r"tf.random.Generator _held, .*: make it a keras.random.SeedGenerator"):
        fit_small(dataset, tmp_path, student=plain_student(), objective=objective)


def test_an_objective_that_holds_the_student_takes_each_step_once(dataset, tmp_path):
    def trained(name, hold):
        student = plain_student()
        objective = Holding(student if hold else None, lambda held, logits: logits)
        how = {"epochs": 1, "student": student, "objective": objective, "optimizer": keras.optimizers.SGD(0.1)}
        return fit_small(dataset, tmp_path / name, **how).get_weights()

    for a, b in zip(trained("held", True), trained("not", False), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["bool", "int32", "bfloat16"])
def test_parts_of_any_type_are_averaged(dataset, tmp_path, dtype):
    parts = Wrong(lambda logits: {"loss": logits[:, 0] ** 2, "part": keras.ops.cast(logits[:, 0] ** 2 >= 0, dtype)})
    fit_small(dataset, tmp_path, epochs=1, student=plain_student(), objective=parts)
    assert read_metrics(tmp_path)[0]["train_part"] == 1


def test_an_objective_over_many_images_of_a_batch_is_tried_with_as_many(dataset, tmp_path):
    near = Wrong(
        lambda logits: {"loss": keras.ops.mean(keras.ops.top_k(logits @ keras.ops.transpose(logits), 5)[0], -1)}
    )
    fit_small(dataset, tmp_path, epochs=1, student=plain_student(), objective=near)


class OfFeatures(Objective):
    student_layers = ("features",)

    def __call__(self, student_outputs, batch, progress):
        return {"loss": keras.ops.mean(student_outputs["features"] ** 2, axis=0)}


@pytest.mark.parametrize("images", [2, 5, 6, 8])
def test_a_loss_for_each_feature_is_not_taken_for_one_for_each_image(taught, images):
    student = student_with_features()
    dataset = bright_and_dark()
    batches = ViewBatches(
        dataset.split("train"), image_shape=(6, 6, 1), view_spec=ViewSpec(), batch_size=images, **taught
    )
    with pytest.raises(InputError, match=r"returned loss of shape \[5\]"):
        build_objective(OfFeatures(), student, batches)


class Counting(Wrong):
    def __init__(self, numbers):
        super().__init__(lambda logits: {"loss": logits[:, 0] ** 2})
        self._numbers = numbers

    def numbers(self, progress):
        return self._numbers(progress)


def test_numbers_of_an_objective_are_recorded_as_numbers(dataset, tmp_path):
    objective = Counting(lambda progress: {"a": keras.ops.maximum(1 - progress, 0.0), "b": np.float32(2)})
    fit_small(dataset, tmp_path, epochs=2, student=plain_student(), objective=objective)
    assert [row["b"] for row in read_metrics(tmp_path)] == [2, 2]
    assert json.loads((tmp_path / "summary.json").read_text())["best"]["b"] == 2


@pytest.mark.parametrize("name", ["epoch", "learning_rate", "train_loss", "validation_accuracy"])
def test_numbers_that_are_called_as_a_measurement_are_refused(dataset, tmp_path, name):
    with pytest.raises(InputError, match=f"has a number named {name}, as a measured column is"):
        fit_small(dataset, tmp_path, student=plain_student(), objective=Counting(lambda progress: {name: 0.0}))


def test_an_empty_list_of_layers_that_build_fills_is_no_setting(dataset, tmp_path, capsys):
    class Filled(Objective):
        teacher_outputs = ()

        def __init__(self):
            self.layers = []
            self.scale = np.float32(2)

        def build(self, student_outputs, teacher_outputs):
            self.layers = [ones()]

        def __call__(self, student_outputs, batch, progress):
            return {"loss": keras.ops.mean((self.layers[0](student_outputs["logits"]) - self.scale) ** 2, axis=-1)}

    objective = Filled()
    for _ in range(2):
        train(plain_student(), dataset, out=tmp_path / "run", objective=objective, recipe=Recipe(epochs=1))
    assert "is already complete" in capsys.readouterr().out


def test_a_partial_is_identified_by_its_source_and_its_arguments(dataset, tmp_path):
    def scaled(student_logits, teacher_logits, by=1.0):
        return by * keras.ops.mean((student_logits - teacher_logits) ** 2, axis=-1)

    described = [as_objective(functools.partial(scaled, by=by)).describe() for by in (1.0, 2.0, np.float64(2.0))]
    assert described[0]["source_sha256"] != described[1]["source_sha256"] == described[2]["source_sha256"]

    def weighted(weights, student_outputs, batch, progress):
        return {"loss": student_outputs["logits"][:, 0] * weights[0]}

    assert as_objective(functools.partial(weighted, [1, 2])).formula.endswith("weighted")
    with pytest.raises(InputError, match="are not plain values .*: give it an attribute fingerprint"):
        as_objective(functools.partial(weighted, object())).describe()


def made_with(factor, *, of=None):
    def made(student_logits, teacher_logits):
        loss = keras.ops.mean((student_logits - teacher_logits) ** 2, axis=-1) if of is None else of()
        return factor * loss

    return made


class Identified:
    def __init__(self, fingerprint):
        self.fingerprint = fingerprint

    def method(self):
        return 0


def doubled(function):
    @functools.wraps(function)
    def twice(**values):
        return 2 * function(**values)

    return twice


def test_functions_that_the_same_lines_made_of_other_values_are_others():
    def again():
        return again

    plain = made_with(1.0)
    different = [
        *(made_with(factor) for factor in (1.0, 2.0, True, "1.0", None, [1.0], {"a": 1}, {1: 2}, {"1": 2})),
        *(made_with(factor) for factor in (b"1", b"2", {1, 2}, {1, 3}, range(2), range(3), 1j, np.add, np.multiply)),
        *(made_with(factor) for factor in (np.ones(2), np.zeros(2), tf.zeros(3), tf.ones(3), keras.Variable(1.0))),
        *(made_with(Identified(name)) for name in ("v1", "v2")),
        *(made_with(functools.lru_cache(made_with(factor))) for factor in (1, 2)),
        *(made_with(method) for method in (Identified("v1").method, Identified("v2").method)),
        *(made_with(1.0, of=function) for function in (len, made_with, again, doubled(plain), doubled(made_with(3)))),
        doubled(plain),
        doubled(made_with(2.0)),
        lambda student_logits, teacher_logits: student_logits,
        lambda student_logits, teacher_logits: teacher_logits,
    ]
    assert len({source_sha256(function) for function in different}) == len(different)
    assert source_sha256(made_with(np.float64(2.0))) == source_sha256(made_with(2.0))


@pytest.mark.parametrize("held", [object, lambda: np.array([object()]), lambda: {object(): 1}, lambda: [lambda: 0]])
def test_an_address_in_memory_does_not_tell_functions_apart(held):
    assert source_sha256(made_with(held())) == source_sha256(made_with(held()))


def test_what_a_function_is_made_with_may_hold_itself_and_may_change():
    endless = [1]
    endless.append(endless)
    function = made_with(endless)
    first = source_sha256(function)
    endless.append(2)  # as an objective may that remembers something
    assert source_sha256(function) == first != source_sha256(made_with(endless))


def test_a_decorated_function_is_identified_by_its_own_file_too(tmp_path, monkeypatch):
    def loss_of(text):
        (tmp_path / "mine.py").write_text(f"def loss(**values):\n    return {text}\n")
        found = importlib.util.spec_from_file_location("mine", tmp_path / "mine.py")
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        return source_sha256(doubled(module.loss))

    assert loss_of("1") == loss_of("1") != loss_of("2")


def test_a_function_that_stands_by_itself_is_the_file_it_is_in():
    assert source_sha256(made_with) == hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def test_an_option_that_counts_stays_a_whole_number():
    def nearest(student_logits, teacher_logits, k=2):
        return keras.ops.top_k(student_logits - teacher_logits, k)[0][:, 0]

    loss = DistillationLoss(soft=SoftLoss.of(nearest), options={"k": 3.0})
    assert isinstance(loss.options["k"], int)


def test_dropout_in_a_layer_of_an_objective_drops_the_same_units_after_an_interruption(dataset, tmp_path):
    class Dropping(Objective):
        teacher_outputs = ()

        def __init__(self):
            self._layers = [keras.layers.Dropout(0.5), keras.layers.Dense(1)]
            self.layers = self._layers

        def build(self, student_outputs, teacher_outputs):
            self._layers[1].build(student_outputs["logits"].shape)

        def __call__(self, student_outputs, batch, progress):
            drop, dense = self._layers
            return {"loss": keras.ops.mean((dense(drop(student_outputs["logits"], training=True)) - 1) ** 2, -1)}

    def run(name):
        student = plain_student()  # begins with the seed that the objective's layers are drawn by, too
        return fit_small(dataset, tmp_path / name, epochs=2, student=student, objective=Dropping())

    run("whole")
    with killed_before(epoch=1):
        run("killed")
    run("killed")
    losses = [[row["train_loss"] for row in read_metrics(tmp_path / name)] for name in ("whole", "killed")]
    assert losses[0] == losses[1]


def test_an_objective_that_needs_a_teacher_is_refused_without_one(dataset, tmp_path):
    with pytest.raises(InputError, match="the objective Hint needs a teacher's logits: give --logits"):
        train(student_with_features(), dataset, out=tmp_path / "run", objective=Hint())
    assert not (tmp_path / "run").exists()


def test_a_plain_function_trains_through_the_library(dataset, tmp_path):
    def entropy_and_labels(student_outputs, batch, progress):
        log_probs = keras.ops.log_softmax(student_outputs["logits"])
        return {"loss": -keras.ops.sum(batch.label_probs * log_probs, axis=-1), "twice": 2 * log_probs[:, 0]}

    entropy_and_labels.teacher_outputs = ()
    recipe = Recipe(epochs=2, batch_size=8)
    how = {"recipe": recipe, "progress": False}
    own = train(plain_student(), dataset, out=tmp_path / "own", objective=entropy_and_labels, **how)
    usual = train(plain_student(), dataset, out=tmp_path / "usual", **how)
    for a, b in zip(own.get_weights(), usual.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert "train_twice" in read_metrics(tmp_path / "own")[0]


# Callbacks of Keras


class Watching(keras.callbacks.Callback):
    def __init__(self, stop_after=None):
        super().__init__()
        self.calls, self.logs, self._stop_after = [], [], stop_after

    def on_train_begin(self, logs=None):
        self.calls.append("begin")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        assert {"loss", "accuracy"} <= logs.keys()
        self.last_batch = batch

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(logs)
        if epoch == self._stop_after:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        self.calls.append("end")


@pytest.mark.parametrize("trainer", [train, train_from_labels])
def test_callbacks_are_called_as_fit_calls_them(dataset, tmp_path, trainer):
    watching, csv = Watching(), keras.callbacks.CSVLogger(tmp_path / "log.csv")
    recipe = Recipe(epochs=3, batch_size=8)
    how = {"recipe": recipe, "callbacks": [watching, csv], "progress": False}
    student = trainer(plain_student(), dataset, out=tmp_path / "run", **how)
    assert watching.calls == ["begin", 0, 1, 2, "end"]
    assert watching.last_batch == 4
    rows = read_metrics(tmp_path / "run")
    for name, column in (("loss", "train_loss"), ("val_accuracy", "validation_accuracy"), ("val_loss", None)):
        column = column or name.replace("val_", "validation_")
        assert [logs[name] for logs in watching.logs] == [row[column] for row in rows]
        assert student.history.history[name] == [row[column] for row in rows]
    assert student.history.epoch == [0, 1, 2]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize("trainer", [train, train_from_labels])
def test_a_callback_can_end_the_run(dataset, tmp_path, trainer):
    recipe = Recipe(epochs=5, batch_size=8)
    how = {"recipe": recipe, "callbacks": [Watching(stop_after=1)], "progress": False}
    student = trainer(plain_student(), dataset, out=tmp_path / "run", **how)
    assert len(read_metrics(tmp_path / "run")) == 2
    again = trainer(plain_student(), dataset, out=tmp_path / "run", **how)  # complete: nothing is trained
    assert again.history.history["loss"] == student.history.history["loss"]


class StopsInTheMiddle(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch < 2:  # `train` takes several batches in a call
            self.model.stop_training = True


class StopsAtABatch(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch >= 1:
            self.model.stop_training = True


@pytest.mark.parametrize("callback", [StopsInTheMiddle, StopsAtABatch])
@pytest.mark.parametrize("trainer", [train, train_from_labels])
def test_an_epoch_in_which_a_callback_ends_the_run_is_a_whole_one(dataset, tmp_path, trainer, callback):
    def rows_of(name, epochs, callbacks):
        recipe = Recipe(epochs=epochs, batch_size=8, schedule="constant", warmup_epochs=0)
        how = {"recipe": recipe, "callbacks": callbacks, "progress": False}
        trainer(plain_student(), dataset, out=tmp_path / name, **how)
        return [(row["train_loss"], row["train_accuracy"]) for row in read_metrics(tmp_path / name)]

    assert rows_of("stopped", 3, [callback()]) == rows_of("whole", 1, [])
