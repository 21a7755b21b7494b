"""What is said of a network, against plain loops over its images."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from distill.data.dataset import UNLABELLED, ArrayImages
from distill.errors import InputError
from distill.evaluation.evaluate_model import evaluate_model, evaluation_logits
from distill.evaluation.evaluation_report import (
    TeacherPredictions,
    copied_from_training,
    copies_and_others,
    report_on,
    teacher_predictions,
    worst_mistakes,
)
from distill.logit_store import open_logits
from distill.scoring.caching import cache_logits
from tests.reports.evaluation_reports import small_faces
from tests.training.small_runs import bright_and_dark, plain_student


@pytest.fixture(scope="module")
def faces():
    return small_faces(count=200)


@pytest.fixture
def logits(rng, faces):
    return rng.normal(0, 2, (len(faces), 3)).astype(np.float32)


def softmax(row):
    odds = [math.exp(value) for value in row]
    return [value / sum(odds) for value in odds]


def test_every_figure_is_that_of_plain_loops(faces, logits, rng):
    teacher = TeacherPredictions("big", "f" * 64, rng.normal(0, 2, logits.shape).astype(np.float32))
    found = report_on(logits, faces, teachers=[teacher])
    same, divergence, right, likelihood = [], [], [], []
    for own, theirs, label in zip(logits.tolist(), teacher.logits.tolist(), faces.labels.tolist(), strict=True):
        p, q = softmax(theirs), softmax(own)
        same.append(p.index(max(p)) == q.index(max(q)))
        divergence.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
        if label != UNLABELLED:
            right.append((q.index(max(q)) == label, p.index(max(p)) == label, max(q)))
            likelihood.append(-math.log(q[label]))
    (compared,) = found["teachers"]
    assert compared["agreement"] == pytest.approx(np.mean(same))
    assert compared["divergence"] == pytest.approx(np.mean(divergence))
    assert [found["accuracy"], compared["accuracy"]] == pytest.approx(np.mean(right, axis=0)[:2].tolist())
    assert found["calibration"]["mean_top_probability"] == pytest.approx(np.mean(right, axis=0)[2])
    assert found["calibration"]["negative_log_likelihood"] == pytest.approx(np.mean(likelihood))
    assert sum(row["count"] for row in found["calibration"]["bins"]) == found["count"] == len(right)
    assert found["unlabelled"] == len(faces) - len(right)
    assert json.loads(json.dumps(found)) == found


def test_log_probabilities_say_the_same_as_the_logits_they_come_from(faces, logits):
    log_probs = np.log([softmax(row) for row in logits.astype(np.float64)])
    teacher = TeacherPredictions("big", "", logits[::-1])
    first, second = (report_on(each, faces, teachers=[teacher]) for each in (logits, log_probs))
    assert first["confusion"] == second["confusion"]
    assert first["calibration"]["error"] == pytest.approx(second["calibration"]["error"])
    assert first["calibration"]["calibrating_temperature"] == pytest.approx(
        second["calibration"]["calibrating_temperature"]
    )
    assert first["teachers"][0]["divergence"] == pytest.approx(second["teachers"][0]["divergence"])


def test_mistakes_are_the_most_confident_first_and_all_of_them_wrong(faces, logits):
    probs = np.array([softmax(row) for row in logits.tolist()])
    by_hand = []
    for row, label, sample_id in zip(probs, faces.labels, faces.ids, strict=True):
        if label != UNLABELLED and row.argmax() != label:
            by_hand.append((row.max(), str(sample_id), row[label]))
    by_hand.sort(key=lambda each: -each[0])
    found = worst_mistakes(probs, faces, most=7)
    assert [each["id"] for each in found] == [sample_id for _, sample_id, _ in by_hand[:7]]
    assert [each["probability"] for each in found] == pytest.approx([each[0] for each in by_hand[:7]])
    assert [each["probability_of_true"] for each in found] == pytest.approx([each[2] for each in by_hand[:7]])
    label_of = dict(zip(faces.ids.tolist(), faces.labels.tolist(), strict=True))
    assert all(each["true"] == faces.class_names[label_of[each["id"]]] != each["predicted"] for each in found)
    assert len(worst_mistakes(probs, faces, most=10**6)) == len(by_hand)
    assert worst_mistakes(probs, faces, most=0) == []


def planted_copies():
    """Bright and dark images, of which five to validate on are copies of images to learn from."""
    dataset = bright_and_dark()
    images = dataset.read(np.arange(50))
    images[40:45] = images[:5]
    return replace(dataset, images=ArrayImages(images))


def test_copies_of_training_images_are_found():
    dataset = planted_copies()
    assert copied_from_training(dataset, "validation").tolist() == [True] * 5 + [False] * 5
    assert copied_from_training(dataset, "train") is None
    assert copied_from_training(dataset.split("validation"), "validation") is None


def test_copies_and_the_rest_are_counted_apart():
    labels = np.array([0, 1, 0, 1, UNLABELLED, UNLABELLED])
    logits = np.eye(2)[[0, 0, 1, 1, 0, 0]]
    copies = np.array([True, True, True, False, True, False])
    found = copies_and_others(logits, labels, copies)
    assert found == {"copies": {"count": 3, "accuracy": pytest.approx(1 / 3)}, "others": {"count": 1, "accuracy": 1}}
    none = copies_and_others(logits, labels, np.zeros(6, bool))
    assert none == {"copies": None, "others": {"count": 4, "accuracy": 0.5}}


def test_nothing_is_said_without_labels_or_of_a_network_that_diverged(faces, logits):
    with pytest.raises(InputError, match="has a label"):
        report_on(logits, replace(faces, labels=np.full(len(faces), UNLABELLED)))
    with pytest.raises(InputError, match="diverged"):
        report_on(np.full_like(logits, np.nan), faces)


def test_the_predictions_of_a_teacher_come_from_its_store(tmp_path):
    dataset, teacher = bright_and_dark(), plain_student()
    cache_logits(teacher, dataset, tmp_path / "l.h5", views=2, progress=False)
    part = dataset.split("validation")
    predictions = teacher_predictions(open_logits(tmp_path / "l.h5"), part)
    assert predictions.name == "plain"
    np.testing.assert_allclose(predictions.logits, evaluation_logits(teacher, part), rtol=1e-3, atol=1e-4)
    swapped = replace(part, class_names=part.class_names[::-1], labels=1 - part.labels)
    np.testing.assert_array_equal(
        teacher_predictions(open_logits(tmp_path / "l.h5"), swapped).logits, predictions.logits[:, ::-1]
    )
    found = report_on(evaluation_logits(teacher, part), part, teachers=[predictions])
    assert found["accuracy"] == evaluate_model(teacher, part).accuracy == found["teachers"][0]["accuracy"]
    assert found["teachers"][0]["agreement"] == 1
    assert found["teachers"][0]["divergence"] == pytest.approx(0, abs=1e-5)
