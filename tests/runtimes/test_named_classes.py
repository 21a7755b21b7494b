"""Which classes a file names, and what is no such thing."""

import json

import pytest

from distill.runtimes.named_classes import classes_in_description, classes_in_properties

NAMES = ["sad", "happy", "angry"]


def test_the_classes_of_an_export_and_of_ultralytics():
    described = json.dumps({"class_names": NAMES, "class_order": "known"})
    assert classes_in_properties({"distill_faces": described}, count=3) == tuple(NAMES)
    assert classes_in_properties({"names": "{0: 'sad', 1: 'happy', 2: 'angry'}"}, count=3) == tuple(NAMES)


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"distill_faces": "no JSON"},
        {"distill_faces": json.dumps({"class_names": NAMES[:2]})},
        {"distill_faces": json.dumps({"class_names": NAMES, "class_order": "assumed"})},
        {"distill_faces": json.dumps([NAMES])},
        {"names": "{0: 'sad', 1: 'happy', 3: 'angry'}"},
        {"names": "{0: '0', 1: '1', 2: '2'}"},
        {"names": "{0: 'sad', 1: 'sad', 2: 'angry'}"},
        {"names": "__import__('os').getcwd()"},
        {"names": "(" * 100_000},
    ],
)
def test_what_does_not_name_every_class_names_none(properties):
    assert classes_in_properties(properties, count=3) == ()


def test_a_long_text_is_not_looked_at():
    assert classes_in_description(json.dumps({"class_names": NAMES, "more": "x" * (1 << 20)}), count=3) == ()
