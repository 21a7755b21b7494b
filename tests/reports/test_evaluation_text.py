"""What an evaluation prints."""

import pytest

from distill.reports.evaluation_text import comparison_text, model_text
from tests.reports.evaluation_reports import found_of, report_of, small_faces


@pytest.fixture(scope="module")
def report():
    faces = small_faces()
    copies = {"copies": {"count": 11, "accuracy": 0.75}, "others": {"count": 70, "accuracy": 0.5}}
    unknown = {"latency": None, "parameters": None, "multiply_adds": None}
    return report_of(faces, found_of(faces, "one", copies=copies), found_of(faces, "two", **unknown, copies=None))


def test_a_model_is_described_with_its_tables(report):
    text = model_text(report["models"][0], report["data"])
    facts, classes, confusion = text.split("\n\n")
    lines = facts.splitlines()
    assert lines[0] == "one: microexpnet, Keras float32, 65,000 parameters"
    assert lines[1] == "on 90 validation images of /somewhere/faces"
    assert lines[2].startswith(f"accuracy {report['models'][0]['accuracy']:.4f}   balanced accuracy ")
    assert lines[3].startswith("95% confidence interval: ")
    assert lines[4].startswith('always predicting "')
    assert lines[-2].startswith("agrees with big (accuracy ")
    assert lines[-1] == "accuracy 0.7500 of 11 exact or mirrored copies of training images, 0.5000 of 70 others"
    assert len(classes.splitlines()) == len(confusion.splitlines()) == 4


def test_what_is_not_known_is_left_out(report):
    text = model_text(report["models"][1], report["data"])
    assert text.startswith("two: microexpnet, Keras float32, 260,000 bytes\n")
    assert "copies" not in text


def test_models_stand_in_one_table(report):
    header, one, two, constant = comparison_text(report["models"]).splitlines()
    assert " ".join(header.split()) == (
        "model accuracy 95% interval balanced accuracy macro-F1 calibration error as big bytes multiply-adds frames/s"
    )
    assert one.split()[-3:] == ["260,000", "2,853,200", "20,000"]
    assert two.split()[-3:] == ["260,000", "-", "-"]
    assert constant.startswith('always predicting "')
