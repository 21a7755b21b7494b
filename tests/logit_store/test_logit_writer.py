"""Writing: nothing of another run is taken or lost, and only whole, finite logits go in."""

import errno
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.data.dataset import ArrayImages
from distill.errors import InputError
from distill.logit_store import differences
from distill.logit_store.header import identity_fields


def changed(header, name):
    """Return another legal value of a header field, whatever its type."""
    value = getattr(header, name)
    if name == "logits_dtype":
        return "float16"
    if isinstance(value, dict):
        return {**value, "seed": 99}
    if isinstance(value, tuple):
        return value[::-1] if value[::-1] != value else (*value[:-1], 0)
    return value - 1 if isinstance(value, int) else value + "-changed"


def both_values(header, name, value):
    if name == "view_spec":  # of which one setting is changed
        return f"view_spec.seed: stored {header.view_spec['seed']}, expected {value['seed']}"
    old, new = (json.dumps(v, sort_keys=True) for v in (getattr(header, name), value))
    return f"{name}: stored {old}, expected {new}"


# What is there already


def test_finished_store_is_complete(stored, writer_for, faces):
    before = stored.read_bytes()
    shuffled = faces.subset(np.random.default_rng(0).permutation(len(faces)))
    for dataset in (faces, shuffled):
        writer = writer_for(stored, dataset=dataset, dataset_name="elsewhere", versions={}, rows_per_part=5)
        assert writer.complete
        assert writer.missing() == []
        assert writer.finish() == stored
    assert stored.read_bytes() == before


@pytest.mark.parametrize("name", identity_fields())
def test_store_and_parts_of_other_settings_are_refused(tmp_path, stored, writer_for, written, header, name):
    value = changed(header, name)
    message = re.escape(both_values(header, name, value))
    assert differences(header, replace(header, **{name: value})) == [both_values(header, name, value)]
    before = stored.read_bytes()
    with pytest.raises(InputError, match=message + ".*choose another --out"):
        writer_for(stored, **{name: value})
    assert stored.read_bytes() == before
    unfinished = tmp_path / "unfinished.h5"
    written(unfinished, parts=1)
    with pytest.raises(InputError, match=message + ".*choose another --out, or delete the folder"):
        writer_for(unfinished, **{name: value}).missing()


def test_what_does_not_decide_the_logits_is_no_difference(header):
    others = {"versions": {"numpy": "0"}, "dataset_name": "elsewhere", "teacher_training": {"train": "0"}}
    others["class_order"] = "given"
    assert differences(header, replace(header, **others)) == []
    assert {*header.to_dict()} - {*identity_fields()} == set(others)


def test_a_header_from_before_a_field_was_added_is_read(header):
    values = header.to_dict()
    del values["teacher_training"], values["versions"]
    assert differences(type(header).from_dict(values), header) == []
    del values["views"]
    with pytest.raises(InputError, match="missing required field `views`"):
        type(header).from_dict(values)


def test_parts_of_another_size_are_refused(path, writer_for, written):
    written(path, parts=1)
    with pytest.raises(InputError, match="rows_per_part: stored 4, expected 5"):
        writer_for(path, rows_per_part=5).missing()


def other_samples(faces):
    pixels = faces.images.array.copy()
    pixels[0] += 1
    return {
        "sample_id: stored train/gesicht_0.png, expected": replace(faces, ids=np.roll(faces.ids, 1)),
        "content_hash: stored [0-9a-f]{32}, expected [0-9a-f]{32}": replace(faces, images=ArrayImages(pixels)),
        r"label: stored \d, expected \d": replace(faces, labels=(faces.labels + 1) % 3),
    }


@pytest.mark.parametrize("number", range(3))
def test_parts_of_other_samples_are_refused(path, writer_for, written, faces, number):
    message, others = list(other_samples(faces).items())[number]
    written(path, parts=1)
    with pytest.raises(InputError, match=message):
        writer_for(path, dataset=others).missing()


def test_store_of_fewer_samples_is_refused(stored, writer_for, faces):
    with pytest.raises(InputError, match="samples: stored 11, expected 6"):
        writer_for(stored, dataset=faces.subset(np.arange(6)))


def test_text_file_is_left_alone(path, writer_for):
    path.write_text("my notes\n")
    with pytest.raises(InputError, match="is not a logit store.*choose another --out"):
        writer_for(path)
    assert path.read_text() == "my notes\n"


def test_folder_is_left_alone(path, writer_for):
    (path / "inside").mkdir(parents=True)
    with pytest.raises(InputError, match="is a folder.*choose another --out"):
        writer_for(path)
    assert (path / "inside").is_dir()


def test_damaged_store_is_left_alone(stored, writer_for):
    content = stored.read_bytes()[:-9]
    stored.write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged \(.*delete it.*choose another --out"):
        writer_for(stored)
    assert stored.read_bytes() == content


def test_file_in_the_place_of_the_parts_is_left_alone(path, writer_for):
    parts = Path(f"{path}.parts")
    parts.write_text("my notes\n")
    with pytest.raises(InputError, match="must be a folder"):
        writer_for(path)
    assert parts.read_text() == "my notes\n"


@pytest.mark.parametrize(
    ("code", "mend"),
    [
        (errno.ENOSPC, "make room, and"),
        (errno.EDQUOT, "make room, and"),
        (errno.EFBIG, "make room, and"),
        (errno.EROFS, "make it writable, or choose another --out, and"),
        (errno.EACCES, "make it writable, or choose another --out, and"),
    ],
    ids=errno.errorcode.get,
)
def test_what_cannot_be_written_is_reported_with_its_mend(path, written, monkeypatch, code, mend):
    def failing(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(
        InputError, match=re.escape(f"teacher.h5.parts cannot be written ({os.strerror(code)})")
    ) as refused:
        written(path)
    assert mend in str(refused.value)


# What may be written


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(path, writer_for, written, files, logits, value):
    logits[5, 1, 0] = value
    with pytest.raises(InputError, match="facenet gave logits that are not finite .* train/gesicht_5.png"):
        written(path)
    assert writer_for(path).missing() == [slice(4, 8), slice(8, 11)]
    assert [name for name in files() if "part-" in name] == ["teacher.h5.parts/part-00000.h5"]


def test_logits_too_large_for_float16_are_refused(path, written, logits):
    logits[0, 0, 0] = 1e5
    with pytest.raises(InputError, match="not finite in float16 for 1 samples"):
        written(path, logits_dtype="float16")


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 2, 8), np.float32), np.zeros((3, 2, 3), np.float32), np.zeros((4, 2, 3))]
)
def test_logits_of_another_shape_or_type_are_refused(path, writer_for, wrong):
    with pytest.raises(InputError, match=r"must be float32 or float16 \[4, 2, 3\] .*received float"):
        writer_for(path).write(slice(0, 4), wrong)


def test_rows_that_are_no_part_are_refused(path, writer_for, logits):
    with pytest.raises(ValueError, match="a slice that missing"):
        writer_for(path).write(slice(0, 3), logits[:3])


def test_samples_must_be_there_and_unique(path, writer_for, faces):
    with pytest.raises(InputError, match="no sample"):
        writer_for(path, dataset=faces.subset(np.arange(0)))
    with pytest.raises(InputError, match="unique: received 2, of which 1 differ"):
        writer_for(path, dataset=_Samples(faces, [0, 0]))


class _Samples:
    """Columns of a dataset that checks nothing."""

    def __init__(self, dataset, rows):
        self.ids, self.labels = dataset.ids[rows], dataset.labels[rows]
        self.content_hashes = dataset.content_hashes[rows]


@pytest.mark.parametrize(("name", "value"), [("logits_dtype", "bfloat16"), ("views", 0)])
def test_header_refuses_what_the_format_does_not_have(header, name, value):
    with pytest.raises(InputError, match=f"{name} must be .* received {value}"):
        replace(header, **{name: value})
