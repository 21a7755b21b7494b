"""Temperature and lambda go where they are sent, and nothing that would be ignored is taken."""

import numpy as np
import pytest

from distill.errors import InputError
from distill.losses.distillation_loss import DistillationLoss
from distill.losses.objective import DistillationObjective
from distill.losses.schedules import SHAPES, Ramp, WarmedRamp

SHARES = np.linspace(0, 1, 21)
EXPECTED = {"linear": SHARES, "cosine": (1 - np.cos(np.pi * SHARES)) / 2}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("start", "end"), [(8.0, 2.0), (1.0, 4.0)])
def test_every_shape_goes_from_its_start_to_its_end(shape, start, end):
    values = [Ramp(end=end, shape=shape).at(start, 5 * share / 5, epochs=5) for share in SHARES]
    np.testing.assert_allclose(values, start + (end - start) * EXPECTED[shape], rtol=1e-12)
    assert (values[0], values[-1]) == (start, end)


def test_without_an_end_nothing_moves():
    assert not Ramp().moves
    assert not WarmedRamp().moves
    assert {Ramp().at(8.0, epoch / 5, epochs=5) for epoch in range(6)} == {8.0}


def test_the_warm_up_is_that_of_dkd():
    # Its authors multiply by min(epoch / 20, 1) with epochs counted from 1: the value at the end of each.
    ramp = WarmedRamp(warmup_epochs=20)
    for epoch in range(1, 41):
        assert ramp.at(0.7, epoch / 240, epochs=240) == pytest.approx(0.7 * min(epoch / 20, 1))
    assert ramp.at(0.7, 0 / 240, epochs=240) == 0


def test_a_warm_up_asks_for_the_epochs_of_the_run():
    with pytest.raises(ValueError, match="give its epochs"):
        WarmedRamp(warmup_epochs=20).at(0.7, 0.5)


def test_a_warm_up_and_an_end_multiply():
    ramp = WarmedRamp(end=0.0, warmup_epochs=4)
    assert ramp.at(0.8, 2 / 8, epochs=8) == pytest.approx(0.5 * 0.8 * 6 / 8)
    assert ramp.at(0.8, 6 / 8, epochs=8) == pytest.approx(0.8 * 2 / 8)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Ramp, {"end": 2.0, "shape": "square"}, 'unknown shape "square" of a schedule: choose one of linear, cosine'),
        (Ramp, {"shape": "cosine"}, 'a schedule of shape "cosine" goes nowhere without an end'),
        (Ramp, {"end": float("nan")}, "the end of a schedule must be a number, received nan"),
        (WarmedRamp, {"warmup_epochs": -1.0}, "warmup-epochs of a schedule must be 0 or more, received -1"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(kind, settings, message):
    with pytest.raises(InputError, match=message):
        kind(**settings)


@pytest.mark.parametrize(
    ("loss", "settings", "message"),
    [
        ({"lambda_": 0.0}, {"temperature": Ramp(end=2.0)}, r"the loss CE\(y, s\) has no soft part"),
        ({"lambda_": 0.0}, {"soft_weight": WarmedRamp(end=0.5)}, "has no soft part that a schedule could move"),
        ({"name": "mse"}, {"temperature": Ramp(end=2.0)}, 'the loss "mse" has no temperature'),
        ({}, {"temperature": Ramp(end=0.0)}, "temperature must stay above 0, received the end 0"),
        ({}, {"soft_weight": WarmedRamp(end=1.5)}, "lambda must stay in 0..1, received the end 1.5"),
        ({}, {"soft_weight": WarmedRamp(warmup_epochs=11)}, "lambda warms up over 11 epochs, the run has 10"),
    ],
)
def test_schedules_that_the_loss_would_not_use_are_refused(loss, settings, message):
    with pytest.raises(InputError, match=message):
        DistillationObjective(loss=DistillationLoss(**loss), epochs=10, **settings)


def test_a_schedule_gives_the_loss_what_moves_and_nothing_else():
    loss = DistillationLoss(temperature=8.0, lambda_=0.5)
    still = DistillationObjective(loss=loss, epochs=10)
    assert (still.numbers(0.35), still.formula) == ({}, loss.formula)
    assert "schedules" not in still.describe()
    moving = DistillationObjective(
        loss=loss, epochs=10, temperature=Ramp(end=2.0), soft_weight=WarmedRamp(warmup_epochs=5)
    )
    numbers = moving.numbers(0.25)
    assert numbers == {"temperature": pytest.approx(6.5), "soft_weight": pytest.approx(0.25)}
    assert moving.formula.endswith("temperature 8 to 2 (linear); weight of the soft part 0.5, from 0 over 5 epochs")
    assert moving.describe()["schedules"] == {
        "temperature": {"end": 2.0, "shape": "linear"},
        "soft_weight": {"end": None, "shape": "linear", "warmup_epochs": 5},
    }


def test_of_explicit_weights_the_soft_one_moves():
    loss = DistillationLoss("dkd", weights=(1.0, 3.0))
    schedule = DistillationObjective(loss=loss, epochs=10, soft_weight=WarmedRamp(warmup_epochs=5))
    assert schedule.numbers(0.25) == {"soft_weight": 1.5}
    DistillationObjective(loss=loss, epochs=10, soft_weight=WarmedRamp(end=9.0))  # no lambda, so it may be above 1


def test_labels_count_as_soon_as_lambda_leaves_one():
    teacher_alone = DistillationLoss(lambda_=1.0)
    assert not DistillationObjective(loss=teacher_alone, epochs=10).uses_labels
    assert DistillationObjective(loss=teacher_alone, epochs=10, soft_weight=WarmedRamp(end=0.5)).uses_labels
    assert DistillationObjective(loss=teacher_alone, epochs=10, soft_weight=WarmedRamp(warmup_epochs=1)).uses_labels
