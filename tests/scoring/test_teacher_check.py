"""Whether a few labelled images show that a network takes other pixels, or has its classes in another order."""

from dataclasses import replace

import numpy as np
import pytest

from distill.data.dataset import ArrayImages, Dataset
from distill.data.expressions import CLASS_ORDERS
from distill.errors import InputError
from distill.runtimes.image_model import LOGITS, ImageModel
from distill.runtimes.input_format import InputFormat
from distill.scoring.teacher_check import check_teacher, seen_as

NAMES = CLASS_ORDERS["fer2013"]
ALPHABETICAL = tuple(sorted(NAMES))
IMAGENET = InputFormat(range=(0, 1), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def faces(channels: int) -> Dataset:
    """Noise around a brightness (and, of color, around a share of red) that shows the class."""
    rng = np.random.default_rng(0)
    labels = np.arange(420) % 7
    levels = np.stack([30 + 30 * labels] * channels, axis=1)
    if channels == 3:
        levels[:, 2] = 120
    images = np.clip(levels[:, None, None] + rng.normal(0, 20, (420, 8, 8, channels)), 0, 255)
    return Dataset(
        "faces",
        np.array([f"f{row}" for row in range(420)]),
        labels,
        NAMES,
        ArrayImages(images.round().astype(np.uint8)),
        np.full(420, "train"),
    )


def network(wanted: InputFormat, described: InputFormat, *, channels: int = 1, names=NAMES, said=NAMES) -> ImageModel:
    """A network that knows the class where it is given pixels in the format `wanted`, and is given `described`."""
    wanted, own = (each.resolve((8, 8, channels), source="it") for each in (wanted, described))
    scale, offset = (np.array(each) for each in wanted.scale_and_offset())

    def predict(images):
        seen = (own(images) - offset) / scale  # 0..255 again, if it was given what it wants
        if wanted.order == "bgr":
            seen = seen[..., ::-1]
        level = seen[..., 0].mean((1, 2), keepdims=False)
        distance = np.abs(level[:, None] - (30 + 30 * np.arange(7)))
        return np.float32(-distance)[:, [NAMES.index(name) for name in names]]

    return ImageModel(
        name="it",
        input_shape=(8, 8, channels),
        classes=7,
        sha256="",
        numeric_policy="float32",
        logits_from=LOGITS,
        input_format=own.to_dict(),
        network=None,
        predict=predict,
        class_names=said,
        class_order="assumed",
    )


@pytest.mark.parametrize(
    ("wanted", "channels", "flags"),
    [
        (InputFormat(range=(-1, 1)), 1, "--input.range -1 1"),
        (InputFormat(range=(0, 1)), 1, "--input.range 0 1"),
        (InputFormat(range=(-1, 1)), 3, "--input.range -1 1"),
        (IMAGENET, 3, "--input.range 0 1 --input.mean 0.485 0.456 0.406 --input.std 0.229 0.224 0.225"),
        (InputFormat(order="bgr"), 3, "--input.range 0 255 --input.order bgr"),
        (InputFormat(range=(0, 1), order="bgr"), 3, "--input.range 0 1 --input.order bgr"),
        (
            InputFormat(mean=(103.939, 116.779, 123.68), order="bgr"),
            3,
            "--input.order bgr --input.mean 103.939 116.779 123.68",
        ),
    ],
)
def test_the_pixels_that_a_network_takes_are_named(wanted, channels, flags):
    check = check_teacher(network(wanted, InputFormat(), channels=channels), faces(channels))
    assert check.better_input == flags
    (said,) = check.warnings(prefix="online.")
    assert flags.replace("--", "--online.") in said
    described = check_teacher(network(wanted, wanted, channels=channels), faces(channels))
    assert described.warnings() == []
    assert check.with_better_input.accuracy == pytest.approx(described.diagnosis.accuracy, abs=0.01)


def test_pixels_and_order_are_named_together():
    check = check_teacher(network(InputFormat(range=(-1, 1)), InputFormat(), names=ALPHABETICAL), faces(1))
    (said,) = check.warnings()
    assert said.endswith(f"with --input.range -1 1 --classes {','.join(ALPHABETICAL)} (alphabetical)")
    described = network(InputFormat(range=(-1, 1)), InputFormat(range=(-1, 1)), names=ALPHABETICAL, said=ALPHABETICAL)
    assert check_teacher(described, faces(1)).warnings() == []


def test_what_was_described_is_questioned_only_near_chance():
    half_right = network(InputFormat(range=(0, 1)), InputFormat(range=(0, 0.9)))
    check = check_teacher(half_right, faces(1))
    assert not check.diagnosis.near_chance
    assert check.better_input is None
    lost = network(InputFormat(range=(0, 1)), InputFormat(range=(-9, -8)))
    assert check_teacher(lost, faces(1)).better_input == "--input.range 0 1"


def test_pixels_that_a_network_refuses_are_not_tried_further():
    picky = network(InputFormat(range=(-1, 1)), InputFormat())

    def predict(images):
        if images.max() < 2:
            raise InputError("too dark")
        return picky.predict(images)

    assert check_teacher(replace(picky, predict=predict), faces(1)).better_input is None


def test_a_network_of_this_project_is_given_what_it_takes():
    seen = []

    def predict(images):
        seen.append(len(images))
        return np.zeros((len(images), 7), np.float32)

    check_teacher(
        replace(network(InputFormat(), InputFormat()), input_format={}, predict=predict), faces(1), images=50
    )
    assert sum(seen) == 50


def test_without_labels_nothing_is_reported_or_scored():
    dataset = faces(1)
    unlabelled = replace(dataset, labels=np.full(len(dataset), -1))
    opened = network(InputFormat(), InputFormat())
    assert check_teacher(replace(opened, predict=None), unlabelled).warnings() == []


@pytest.mark.parametrize("own", [InputFormat(), IMAGENET, InputFormat(range=(-1, 1), order="bgr")])
@pytest.mark.parametrize("wanted", [InputFormat(order="bgr"), IMAGENET, InputFormat(range=(0, 1))])
def test_pixels_seen_as_others_are_what_the_other_format_makes_of_them(own, wanted, rng):
    pixels = rng.uniform(0, 255, (2, 4, 4, 3)).astype(np.float32)
    own, wanted = (each.resolve((4, 4, 3), source="it") for each in (own, wanted))
    np.testing.assert_allclose(own(seen_as(pixels, wanted, own)), wanted(pixels), rtol=1e-4, atol=1e-3)
