"""What is said where something is refused."""

import math

import pytest

from distill.errors import InputError
from distill.refusals import alternatives, check_at_least, check_known, check_within, near_paths, reason


def test_near_names_are_offered_and_all_where_none_is_near():
    assert alternatives("facnet", ["facenet", "vgg"]) == "did you mean facenet?"
    assert alternatives("aab", ["aaa", "aac", "z"]) == "did you mean aac or aaa?"
    assert alternatives("x", ["facenet", "vgg"]) == "choose one of facenet, vgg"


def test_an_unknown_name_is_refused_in_one_line():
    check_known("vgg", {"vgg": 1}, what="network")
    with pytest.raises(InputError, match=r'^unknown network "vg": did you mean vgg\?$'):
        check_known("vg", {"vgg": 1}, what="network")


def test_paths_near_the_one_that_does_not_exist(tmp_path):
    (tmp_path / "teacher.onnx").touch()
    assert near_paths(tmp_path / "teachre.onnx") == " (did you mean teacher.onnx?)"
    assert near_paths(tmp_path / "syntetic", ["synthetic"]) == " (did you mean synthetic?)"
    assert near_paths(tmp_path / "other") == ""
    assert near_paths(tmp_path / "no" / "other") == f", nor does its folder {tmp_path / 'no'}"


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_numbers_out_of_range(value):
    check_at_least(1, batch_size=1, patience=None)
    with pytest.raises(InputError, match=f"^batch-size must be at least 1, received {value}$"):
        check_at_least(1, epochs=3, batch_size=value)


@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan])
def test_numbers_outside_an_interval(value):
    check_within(0, 1, share=0, other=1, absent=None)
    with pytest.raises(InputError, match=f"^share must lie in 0..1, received {value}$"):
        check_within(0, 1, share=value)


def test_a_reason_is_one_line():
    assert reason(ValueError("\n  first\nsecond")) == "first"
    assert reason(KeyError()) == "KeyError"
    assert reason(ValueError("x" * 400)) == "x" * 300 + "..."
    detected = "Graph execution error:\n\nDetected at node net/conv defined at (most recent call last):\n"
    files = '  File "a.py", line 1, in b\n\n  File "c.py", line 2, in d\n\n'
    assert reason(ValueError(f"{detected}{files}No Conv2D here\n\t [[node]]")) == "No Conv2D here"
