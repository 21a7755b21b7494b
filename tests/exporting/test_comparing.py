"""The figures of an export are those of NumPy, and the bounds are kept."""

import keras
import numpy as np
import pytest

from distill.data.views import ViewSpec
from distill.exporting.comparing import Comparison, ExportRow, missed_bounds, size_of, some_of, table
from distill.exporting.graph import probabilities_network
from distill.prediction.latency import Latency, latency


def row(format="litert-float32", **changes) -> ExportRow:
    values = {
        "file": f"small-{format}.tflite",
        "bytes": 1000,
        "logit_difference": 0.0,
        "agreement": 1.0,
        "accuracy": 0.6,
        "latency": Latency(p50_ms=0.1, p99_ms=0.2, frames_per_second=10_000.0),
    }
    return ExportRow(format=format, **{**values, **changes})


@pytest.fixture(scope="module")
def part(faces):
    return faces.split("validation")


@pytest.fixture(scope="module")
def comparison(student, part):
    return Comparison(student, part, view_spec=ViewSpec(), seconds=0)


def test_the_student_itself_differs_by_nothing(comparison, student, part):
    network = probabilities_network(student)
    same = comparison.row(network.predict_on_batch, name="keras", path=None, weight_bytes=12)
    assert (same.file, same.bytes, same.agreement) == ("", 12, 1.0)
    assert same.logit_difference < 1e-4
    pixels = keras.ops.image.resize(part.read(np.arange(len(part))).astype(np.float32), (32, 32))
    right = student.predict(pixels, verbose=0).argmax(1) == part.labels
    assert same.accuracy == comparison.metrics.accuracy == right.mean()


def test_differences_are_those_of_logits_up_to_one_number_for_each_image(comparison, student, part, rng):
    noise = rng.normal(0, 2, (len(part), 7)).astype(np.float32)
    seen = iter(np.split(noise, range(256, len(part), 256)))

    def other(pixels):
        if len(pixels) == 1:  # the face that is timed
            return np.full((1, 7), 1 / 7, np.float32)
        logits = np.asarray(student(pixels, training=False)) + next(seen)
        return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    changed = comparison.row(other, name="other", path=None)
    pixels = keras.ops.image.resize(part.read(np.arange(len(part))).astype(np.float32), (32, 32))
    logits = student.predict(pixels, verbose=0)
    centred_noise = noise - noise.mean(1, keepdims=True)
    assert changed.logit_difference == pytest.approx(np.abs(centred_noise).max(), rel=1e-3)
    assert changed.agreement == ((logits + noise).argmax(1) == logits.argmax(1)).mean()
    assert changed.accuracy == ((logits + noise).argmax(1) == part.labels).mean()


def test_logits_that_no_float32_probability_tells_apart_are_no_difference(student, part):
    sure = keras.models.clone_model(student)
    *others, kernel, bias = student.get_weights()
    sure.set_weights([*others, 30 * kernel, 30 * bias])
    logits = sure.predict(keras.ops.image.resize(part.read(np.arange(len(part))), (32, 32)), verbose=0)
    assert np.ptp(logits, axis=1).max() > 2 * 87.3  # the logarithm of the least normal number is -87.3
    comparison = Comparison(sure, part, view_spec=ViewSpec(), seconds=0)
    same = comparison.row(probabilities_network(sure).predict_on_batch, name="keras", path=None)
    assert same.logit_difference < 0.01


def test_a_probability_of_zero_is_no_infinite_difference(comparison, part):
    def certain(pixels):
        return np.eye(7, dtype=np.float32)[np.zeros(len(pixels), int)]

    assert np.isfinite(comparison.row(certain, name="certain", path=None).logit_difference)


def test_some_images_are_always_the_same_ones(faces):
    once, again, other = (some_of(faces, 20, seed=seed) for seed in (0, 0, 1))
    assert once.ids.tolist() == again.ids.tolist() != other.ids.tolist()
    assert len(some_of(faces, 10**6)) == len(faces)


def test_a_folder_is_as_large_as_its_files(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "1").write_bytes(b"123")
    (tmp_path / "a" / "b" / "2").write_bytes(b"4567")
    assert size_of(tmp_path / "a") == 7
    assert size_of(tmp_path / "a" / "1") == 3


def test_bounds_name_the_file_that_misses_them():
    rows = [row("keras", file="", bytes=10**9), row("a", bytes=1001), row("b", agreement=0.9)]
    assert missed_bounds(rows) == []
    assert missed_bounds(rows, max_bytes=1000) == ["small-a.tflite has 1,001 bytes, more than 1,000"]
    (missed,) = missed_bounds(rows, min_agreement=0.95)
    assert missed == "small-b.tflite agrees with the student on 90.00%, less than 95.00%"
    assert missed_bounds(rows, max_bytes=1001, min_agreement=0.9) == []


def test_the_table_has_a_line_for_each():
    lines = table([row("keras", file=""), row("litert-int8", logit_difference=1.25)]).splitlines()
    assert len(lines) == 3
    assert lines[2].split() == ["litert-int8", "1,000", "1.2", "100.00%", "60.00%", "10,000", "0.100", "0.200"]


def test_latency_is_that_of_the_call():
    import time

    measured = latency(lambda: time.sleep(0.002), seconds=0)
    assert 2 <= measured.p50_ms <= measured.p99_ms
    assert measured.frames_per_second == pytest.approx(1000 / measured.p50_ms)
