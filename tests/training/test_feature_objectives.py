"""Training on features: what is read of the store, what is trained beside the student, and what is left of it."""

import io
import sys
import zipfile

import keras
import numpy as np
import pytest

from distill.command_line.loss_settings import LossSettings
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.logit_store import open_logits
from distill.losses.feature_losses import FEATURE_LOSSES
from distill.losses.feature_objective import FeatureObjective
from distill.losses.objective import as_objective
from distill.runs.run_directory import read_metrics
from distill.runs.run_record import record_of
from distill.runtimes.image_model import LOGITS, ImageModel, InnerOutputs
from distill.scoring.caching import cache_logits
from distill.training.batches import ViewBatches
from distill.training.ensemble import CachedTeachers
from distill.training.recipe import Recipe
from distill.training.train import train
from tests.training.small_runs import bright_and_dark, fit_small, killed_before


@pytest.fixture(scope="module")
def dataset():
    return bright_and_dark()


@pytest.fixture(scope="module")
def path(dataset, tmp_path_factory):
    """A store of two views with the features "pixels@3", "rows" and "large"."""

    def score(images):
        means = images.mean((1, 2, 3)) / 32 - 4
        return np.stack([-means, means], axis=1).astype(np.float32)

    of_layers = {
        "pixels": lambda images: images / 255,
        "rows": lambda images: images.mean((2, 3)) / 255,
        "large": lambda images: np.repeat(images / 255, 9, axis=3),
    }
    inner = InnerOutputs(
        lambda: {"pixels": (6, 6, 1), "rows": (6,), "large": (6, 6, 9)},
        lambda names: lambda images: (score(images), [of_layers[name](images) for name in names]),
    )
    facts = {"name": "means", "input_shape": (6, 6, 1), "classes": 2, "sha256": "0", "numeric_policy": "float32"}
    teacher = ImageModel(**facts, logits_from=LOGITS, input_format={}, network=None, predict=score, inner=inner)
    out = tmp_path_factory.mktemp("stores") / "t.h5"
    features = ["pixels@3", "rows", "large@6"]
    cache_logits(teacher, dataset, out, views=2, features=features, rows_per_part=16, progress=False)
    return out


def student():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(2, 3, activation="relu", name="conv")(x)
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(2, name="dense")(x), name="small")


def objective(name="hint", feature="pixels@3", **how):
    return FeatureObjective(as_objective("hinton"), name, pairs={"conv": feature}, **how)


def batches_of(path, dataset, names):
    teacher = CachedTeachers.of(path)
    outputs = teacher.outputs(dataset, names, temperature=4.0)
    return ViewBatches(dataset, image_shape=(6, 6, 1), view_spec=ViewSpec(), teacher=outputs, views=2, batch_size=8)


def test_a_batch_carries_the_features_that_are_asked_for_of_its_images_and_views(path, dataset):
    train_split = dataset.split("train")
    batches = batches_of(path, train_split, {"logits", "features/rows"})
    picked = np.array([5, 0, 31, 5])
    teacher = batches.rows(picked, epoch=1).teacher
    assert teacher.keys() == {"logits", "features/rows"}
    views, store = batches.views_of_epoch(1)[picked], open_logits(path)
    rows = store.rows_of(train_split)[picked]
    np.testing.assert_array_equal(teacher["features/rows"], store.read_feature("rows", rows, views))
    np.testing.assert_array_equal(teacher["logits"], store.read(rows)[np.arange(4), views])
    blocks = list(batches.blocks(0, steps=2))
    assert blocks[0].teacher["features/rows"].shape == (2, 8, 6)


def test_no_feature_is_read_that_nothing_asks_for(path, dataset, monkeypatch):
    read = []
    original = type(open_logits(path)).read_feature

    def remembered(store, name, rows, views):
        read.append((name, len(rows)))
        return original(store, name, rows, views)

    monkeypatch.setattr("distill.logit_store.store.LogitStore.read_feature", remembered)
    list(batches_of(path, dataset, {"logits"}).epoch(0))
    assert read == []
    batches = batches_of(path, dataset, {"logits", "features/rows"})
    assert read == []  # nothing is held in memory
    list(batches.epoch(0))
    assert read == [("rows", 8)] * 6 + [("rows", 2)]
    assert batches.bytes_per_image == 36 + 4 * 6


def test_features_that_no_store_has_or_two_have_are_refused(path, dataset):
    names = {"logits", "features/conv5"}
    with pytest.raises(
        InputError, match=r"reads features/conv5 of the teacher t.h5, which has logits, features/pixels@3"
    ):
        CachedTeachers.of(path).outputs(dataset, names, temperature=4.0)
    store = open_logits(path)
    with pytest.raises(
        InputError, match="rows is a feature of several teachers, .* name one that only one of them has"
    ):
        CachedTeachers([store, store]).outputs(dataset, {"logits", "features/rows"}, temperature=4.0)


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_every_loss_trains_a_student_from_a_store_and_its_record_says_so(path, dataset, tmp_path, name):
    recipe = Recipe(epochs=2, batch_size=8, lr=0.01)
    trained = train(
        student(), dataset, logits=path, objective=objective(name), recipe=recipe, out=tmp_path, progress=False
    )
    rows = read_metrics(tmp_path)
    assert all(0 < row[f"train_{name}"] < 10 for row in rows)
    assert name != "hint" or rows[1]["train_hint"] < rows[0]["train_hint"]
    record = record_of(tmp_path)
    assert record.objective["features"]["pairs"] == {"conv": "pixels@3"}
    assert [layer.name for layer in trained.layers if layer.weights] == ["conv", "dense"]
    other = objective(name, weight=0.5)
    with pytest.raises(InputError, match="objective.features.weight: stored"):
        train(student(), dataset, logits=path, objective=other, recipe=recipe, out=tmp_path, progress=False)


def own_weights(run):
    with zipfile.ZipFile(run / "last.keras") as archive:
        stored = np.load(io.BytesIO(archive.read("own_layers.npz")))
        return [stored[name] for name in stored.files]


def last_student(run):
    return keras.saving.load_model(run / "last.keras", compile=False)


def assert_same_end(one, other):
    """Check that two runs ended with the same student and the same layers of their objectives, bit for bit."""
    for a, b in zip(own_weights(one), own_weights(other), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(last_student(one).get_weights(), last_student(other).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# A file of somebody else: a projector to the teacher's feature, on top of a loss on logits.
OUTSIDE = """
import distill
import keras
from keras import ops


class Projected(distill.Objective):
    student_layers = ("conv",)
    teacher_outputs = ("logits", "features/pixels@3")

    def __init__(self, weight=1.0):
        self.weight = weight
        self._logits = distill.as_objective("hinton")

    def build(self, student_outputs, teacher_outputs):
        channels = teacher_outputs["features/pixels@3"].shape[-1]
        how = {"kernel_initializer": keras.initializers.GlorotUniform(seed=0), "dtype": "float32"}
        self.projector = keras.layers.Conv2D(channels, 1, **how)
        self.projector.build((None, 3, 3, student_outputs["conv"].shape[-1]))

    def __call__(self, student_outputs, batch, progress):
        parts = self._logits(student_outputs, batch, progress)
        student = ops.average_pool(student_outputs["conv"], 2, strides=1)
        own = ops.mean((self.projector(student) - batch.teacher["features/pixels@3"]) ** 2, axis=(1, 2, 3))
        return {**parts, "loss": parts["loss"] + self.weight * own, "own": own}


projector = keras.layers.Conv2D(1, 1, kernel_initializer=keras.initializers.GlorotUniform(seed=0), dtype="float32")


def projected(student_outputs, batch, progress):
    return {"loss": ops.mean((projector(student_outputs["conv"]) - 1) ** 2, axis=(1, 2, 3))}


projected.student_layers, projected.teacher_outputs, projected.layers = ("conv",), ("logits",), [projector]
projected.build = lambda student_outputs, teacher_outputs: projector.build(student_outputs["conv"].shape)
"""
HINT = {"feature_loss": "hint", "feature_layers": ("conv=pixels@3",)}
OBJECTIVES = {  # with how many projectors
    "of a function": ({"loss": "somebody:projected"}, 1),
    "of a class, and ours": ({**HINT, "loss": "somebody:Projected"}, 2),
    "ours on both sides": ({**HINT, "feature_loss": "contrastive"}, 2),
}


@pytest.fixture
def somebody(tmp_path, monkeypatch):
    (tmp_path / "somebody.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "somebody", raising=False)


def run_small(path, dataset, out, how):
    sys.modules.pop("somebody", None)  # as in another process
    wanted = LossSettings(**how).objective(epochs=2, taught=True)
    outputs = CachedTeachers.of(path).outputs(dataset.split("train"), wanted.teacher_outputs, temperature=4.0)
    batches = {"teacher": outputs, "views": 2}
    return fit_small(dataset, out, epochs=2, student=student(), objective=wanted, batches=batches)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_projectors_and_their_student_resume_bit_for_bit(path, dataset, tmp_path, somebody, name):
    how, projectors = OBJECTIVES[name]
    run_small(path, dataset, tmp_path / "whole", how)
    with killed_before(epoch=1):
        run_small(path, dataset, tmp_path / "killed", how)
    keras.utils.set_random_seed(99)
    run_small(path, dataset, tmp_path / "killed", how)
    assert_same_end(tmp_path / "whole", tmp_path / "killed")
    assert len(own_weights(tmp_path / "whole")) == 2 * projectors
    assert [layer.name for layer in last_student(tmp_path / "whole").layers if layer.weights] == ["conv", "dense"]
    with zipfile.ZipFile(tmp_path / "whole" / "best.keras") as archive:
        assert "own_layers.npz" not in archive.namelist()
        assert b"projector" not in archive.read("config.json")


def test_a_hint_that_somebody_writes_down_again_ends_where_ours_does(path, dataset, tmp_path, somebody):
    run_small(path, dataset, tmp_path / "ours", HINT)
    run_small(path, dataset, tmp_path / "theirs", {"loss": "somebody:Projected"})
    ours, theirs = (
        [*own_weights(tmp_path / name), *last_student(tmp_path / name).get_weights()] for name in ("ours", "theirs")
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


# The flags


def test_the_flags_describe_the_objective():
    how = {"feature_layers": ("conv=pixels@3", "dense=a=b"), "feature_weight": 0.3}
    found = LossSettings(loss="dkd", feature_loss="hint", **how).objective(epochs=3, taught=True)
    assert (found.loss, found.pairs, found.weight) == ("hint", {"conv": "pixels@3", "dense": "a=b"}, 0.3)
    assert found.logits.loss.name == "dkd"
    alone = LossSettings(lambda_=0.0, feature_loss="similarity", feature_layers=("conv=rows",))
    assert alone.objective(epochs=3, taught=True).teacher_outputs == ("features/rows",)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"feature_weight": 1.0}, "nothing uses --feature-weight: give --feature-loss"),
        ({"feature_loss": "hint"}, "none is named: give STUDENT_LAYER=TEACHER_FEATURE"),
        (
            {"feature_loss": "hint", "feature_layers": ("conv",)},
            "are pairs, STUDENT_LAYER=TEACHER_FEATURE, received conv",
        ),
        (
            {"feature_loss": "hint", "feature_layers": ("conv=low", "conv=high")},
            "gives conv two features, low and high: name a layer of the student once",
        ),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, message):
    with pytest.raises(InputError, match=message):
        LossSettings(**flags).objective(epochs=3, taught=True)


def test_a_loss_on_features_without_a_teacher_is_refused(dataset, tmp_path):
    with pytest.raises(InputError, match="needs a teacher's logits and features/pixels@3: give --logits"):
        train(student(), dataset, objective=objective(), recipe=Recipe(epochs=1), out=tmp_path, progress=False)
