"""What can stand for an objective, what it computes, and how a run distinguishes it from another."""

import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from distill.errors import InputError
from distill.losses.distillation_loss import DistillationLoss
from distill.losses.objective import Batch, DistillationObjective, Objective, as_objective
from distill.losses.schedules import Ramp, WarmedRamp
from distill.losses.soft_losses import SoftLoss

MODULE = """
from keras import ops

def squared(student_logits, teacher_logits, scale=1.0):
    return scale * ops.sum((student_logits - teacher_logits) ** 2, axis=-1)
"""


@pytest.fixture
def batch(rng):
    return Batch(
        images=np.zeros((4, 2, 2, 1), np.float32),
        label_probs=np.eye(3, dtype=np.float32)[[0, 1, 2, 0]],
        teacher={"logits": rng.normal(0, 3, (4, 3)).astype(np.float32)},
        sample_weights=np.ones(4, np.float32),
    )


@pytest.fixture
def outputs(rng):
    return {"logits": rng.normal(0, 3, (4, 3)).astype(np.float32)}


def absolute(student_logits, teacher_logits, label_probs, temperature=2.0, power=1.0):
    distance = keras.ops.sum(keras.ops.abs(student_logits - teacher_logits) ** power, axis=-1)
    return distance / temperature + keras.ops.sum(label_probs, axis=-1)


def values(objective, outputs, batch, progress=0.0):
    return {name: np.asarray(part) for name, part in as_objective(objective)(outputs, batch, progress).items()}


def test_a_function_of_logits_is_a_soft_loss_with_the_settings_of_its_signature(outputs, batch):
    row = SoftLoss.of(absolute)
    assert (row.temperature, row.options, row.needs_labels, row.lambda_) == (2.0, {"power": 1.0}, True, 1.0)
    expected = np.abs(outputs["logits"] - batch.teacher["logits"]).sum(1) / 2 + 1
    np.testing.assert_allclose(values(absolute, outputs, batch)["loss"], expected, rtol=1e-5)
    mixed = DistillationLoss(soft=row, lambda_=0.25, temperature=4.0, options={"power": 2.0})
    squared = ((outputs["logits"] - batch.teacher["logits"]) ** 2).sum(1) / 4 + 1
    parts = values(mixed, outputs, batch)
    np.testing.assert_allclose(parts["distillation"], squared, rtol=1e-5)
    np.testing.assert_allclose(parts["loss"], 0.75 * parts["cross_entropy"] + 0.25 * squared, rtol=1e-5)
    assert mixed.formula == "0.75·CE(y, s) + 0.25·absolute(s, t, T, power=2), T=4"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda logits, labels: 0, "takes logits, labels: it needs student_logits and teacher_logits"),
        (lambda student_logits, teacher_logits, margin: 0, "margin of the loss .* needs a number as its default"),
        (lambda student_logits, teacher_logits, temperature: 0, "temperature of the loss .* needs a number"),
        (3, "an objective is called in every training step, received 3: see distill.Objective"),
        ("hintn", 'unknown loss "hintn" .one of your own is MODULE:FUNCTION.: did you mean hinton'),
    ],
)
def test_what_cannot_be_an_objective_is_refused(function, message):
    with pytest.raises(InputError, match=message):
        as_objective(function)


def test_a_function_of_a_batch_is_an_objective_with_what_its_attributes_say(outputs, batch):
    def confidence(student_outputs, batch, progress):
        return {"loss": progress * keras.ops.max(student_outputs["logits"], axis=-1)}

    confidence.teacher_outputs = ()
    objective = as_objective(confidence)
    assert (objective.teacher_outputs, objective.uses_labels) == ((), True)
    np.testing.assert_allclose(values(objective, outputs, batch, 0.5)["loss"], 0.5 * outputs["logits"].max(1))
    assert objective.describe()["formula"].endswith("confidence")


def test_an_object_that_is_called_is_an_objective_named_by_its_class(outputs, batch):
    class Confidence:
        teacher_outputs = ()
        fingerprint = "1"  # what it is made of is not in its source

        def __call__(self, student_outputs, batch, progress):
            return {"loss": keras.ops.max(student_outputs["logits"], axis=-1)}

    objective = as_objective(Confidence())
    np.testing.assert_allclose(values(objective, outputs, batch, 0.5)["loss"], outputs["logits"].max(1))
    assert objective.describe()["formula"].endswith("Confidence")


def test_another_source_of_a_loss_is_another_objective(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    described = []
    for text in (MODULE, MODULE, MODULE.replace("** 2", "** 4")):
        (tmp_path / "their_losses.py").write_text(text)
        sys.modules.pop("their_losses", None)
        sys.dont_write_bytecode = True
        import their_losses

        described.append(as_objective(their_losses.squared).describe())
    assert described[0] == described[1] != described[2]
    assert described[0]["function"] == "their_losses:squared"
    assert described[0]["formula"] == "1·squared(s, t, scale=1)"


class Own(Objective):
    def __init__(self, weight, helper=None):
        self.weight, self.helper = weight, helper
        self.layers = [keras.layers.Dense(2)]

    def __call__(self, student_outputs, batch, progress):
        return {"loss": self.weight * keras.ops.sum(student_outputs["logits"], axis=-1)}


def test_the_record_of_an_objective_holds_its_settings_and_not_its_layers():
    described = Own(0.5).describe()
    assert described["settings"] == {"weight": 0.5, "helper": None}
    assert described["class"].endswith("test_objective:Own")
    assert described != Own(0.6).describe()
    with pytest.raises(InputError, match="Own has attributes that JSON does not know"):
        Own(0.5, helper=SimpleNamespace()).describe()


def test_a_warm_up_in_epochs_needs_to_know_how_many_there_are():
    with pytest.raises(InputError, match="a share of the run: give the objective its epochs"):
        DistillationObjective(loss=DistillationLoss(), soft_weight=WarmedRamp(warmup_epochs=2))


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_a_schedule_in_the_graph_is_the_schedule_in_the_table(shape, outputs, batch):
    ramps = {"temperature": Ramp(end=1.0, shape=shape), "soft_weight": WarmedRamp(end=0.9, warmup_epochs=3)}
    objective = DistillationObjective(loss=DistillationLoss(lambda_=0.5), epochs=8, **ramps)
    for progress in (0.0, 0.2, 0.7, 1.0):
        numbers = objective.numbers(progress)
        now = DistillationLoss(temperature=numbers["temperature"], lambda_=numbers["soft_weight"])
        in_graph = values(objective, outputs, batch, keras.ops.convert_to_tensor(progress, "float32"))
        np.testing.assert_allclose(in_graph["loss"], values(now, outputs, batch)["loss"], rtol=1e-4)
