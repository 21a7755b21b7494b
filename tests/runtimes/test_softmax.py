"""Probabilities are distinguished from logits by their values, and turned back into logits up to a constant."""

import numpy as np
import pytest

from distill.runtimes.image_model import LOG_PROBABILITIES, LOGITS
from distill.runtimes.softmax import probed
from tests.runtimes.conftest import refusal, softmax

SHAPE, CLASSES = (4, 4, 1), 3
WEIGHTS = np.random.default_rng(0).normal(0, 0.01, (16, CLASSES))
IMAGES = np.random.default_rng(1).uniform(0, 255, (6, *SHAPE)).astype(np.float32)


def logits_of(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def probe(outputs, images=IMAGES):
    """What is made of a network that gives `outputs(images)`."""
    to_logits, classes, logits_from = probed(outputs, SHAPE, source="teacher")
    assert classes == CLASSES
    return to_logits(outputs(images), len(images)), logits_from


def test_logits_stay_as_they_are():
    logits, logits_from = probe(logits_of)
    np.testing.assert_allclose(logits, logits_of(IMAGES), rtol=1e-6)
    assert (logits.dtype, logits_from) == (np.float32, LOGITS)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_probabilities_become_their_logarithms(dtype):
    logits, logits_from = probe(lambda images: softmax(logits_of(images)).astype(dtype))
    np.testing.assert_allclose(
        softmax(logits), softmax(logits_of(IMAGES)), atol=1e-3 if dtype == np.float16 else 1e-6
    )
    assert (logits.dtype, logits_from) == (np.float32, LOG_PROBABILITIES)


def test_log_probabilities_are_logits_already():
    logits, logits_from = probe(lambda images: np.log(softmax(logits_of(images))))
    np.testing.assert_allclose(logits, np.log(softmax(logits_of(IMAGES))), rtol=1e-6)
    assert logits_from == LOG_PROBABILITIES


def test_a_probability_of_zero_stays_finite():
    logits, _ = probe(lambda images: softmax(1e6 * logits_of(images)).astype(np.float32))
    assert np.isfinite(logits).all()
    assert logits.min() == np.log(np.finfo(np.float32).tiny)


def test_a_sigmoid_is_refused():
    message = refusal(probed, lambda images: 1 / (1 + np.exp(-logits_of(images))), SHAPE, source="teacher")
    assert message.startswith("teacher gives numbers in 0..1 that do not sum to 1, which looks like a sigmoid")


def test_raw_logits_in_0_to_1_are_taken_where_the_user_says_so():
    def small(images):
        return 1 / (1 + np.exp(-logits_of(images)))

    to_logits, _, logits_from = probed(small, SHAPE, source="teacher", output_type="logits")
    np.testing.assert_allclose(to_logits(small(IMAGES), len(IMAGES)), small(IMAGES), rtol=1e-6)
    assert logits_from == LOGITS
    assert "say --output-type logits" in refusal(probed, small, SHAPE, source="teacher")


def test_what_is_said_to_be_probabilities_is_checked():
    message = refusal(probed, logits_of, SHAPE, source="teacher", output_type="probabilities")
    assert message.startswith("teacher gives rows that are negative or do not sum to 1, so no probabilities")
    to_logits, _, logits_from = probed(
        lambda images: softmax(logits_of(images)), SHAPE, source="t", output_type="probabilities"
    )
    logits = to_logits(softmax(logits_of(IMAGES)), len(IMAGES))
    np.testing.assert_allclose(softmax(logits), softmax(logits_of(IMAGES)), atol=1e-6)
    assert logits_from == LOG_PROBABILITIES


def test_probabilities_that_stop_being_some_are_refused():
    to_logits, _, _ = probed(lambda images: softmax(logits_of(images)), SHAPE, source="teacher")
    message = refusal(to_logits, 2 * softmax(logits_of(IMAGES)), len(IMAGES))
    assert "teacher gave probabilities at first and now rows" in message


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda images: logits_of(images)[:, :1], "teacher gives one number per image"),
        (
            lambda images: logits_of(images)[:-1],
            "teacher gives float64 [7, 3] for 8 images, expected floats [8, clas",
        ),
        (lambda images: logits_of(images)[0], "teacher gives float64 [3] for 8 images"),
        (lambda images: logits_of(images).argmax(1), "teacher gives int64 [8] for 8 images"),
        (lambda images: logits_of(images).astype(int), "teacher gives int64 [8, 3] for 8 images"),
        (lambda images: "happy", "for 8 images, expected floats"),
    ],
)
def test_what_is_no_row_of_numbers_per_image_is_refused(outputs, message):
    assert message in refusal(probed, outputs, SHAPE, source="teacher")


def test_the_number_of_classes_may_not_change():
    to_logits, _, _ = probed(logits_of, SHAPE, source="teacher")
    message = refusal(to_logits, logits_of(IMAGES)[:, :1], len(IMAGES))
    assert "teacher gives float64 [6, 1] for 6 images, expected floats [6, 3]" in message


def test_a_network_is_asked_about_the_images_that_show_it_once():
    asked = []

    def counted(images):
        asked.append(len(images))
        return logits_of(images)

    probed(counted, SHAPE, source="teacher")
    assert asked == [8]
