"""Resuming: a kill costs at most one part, and what comes out is the uninterrupted file."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from distill.errors import InputError
from distill.logit_store import open_logits

ROOT = Path(__file__).parents[2]
ALL_ROWS = [slice(0, 4), slice(4, 8), slice(8, 11)]


def test_resume_computes_only_what_is_missing(path, writer_for, logits, written, files):
    assert writer_for(path).missing() == ALL_ROWS
    written(path, parts=2)
    again = writer_for(path)
    assert again.missing() == ALL_ROWS[2:]
    assert not again.complete
    assert written(path).finish() == path
    np.testing.assert_array_equal(open_logits(path).logits, logits)
    assert files() == ["teacher.h5"]


def test_data_whose_name_is_not_utf8_costs_no_part(path, writer_for, written, logits):
    name = {"dataset_name": os.fsdecode(b"caf\xe9.csv")}
    written(path, parts=2, **name)
    assert writer_for(path, **name).missing() == ALL_ROWS[2:]
    assert open_logits(written(path, **name).finish()).header.dataset_name == r"caf\udce9.csv"


def test_parts_may_be_written_in_any_order(path, writer_for, logits):
    writer = writer_for(path)
    for rows in reversed(writer.missing()):
        writer.write(rows, logits[rows])
    writer.finish()
    np.testing.assert_array_equal(open_logits(path).logits, logits)


def test_finish_refuses_while_parts_are_missing(path, written):
    writer = written(path, parts=1)
    with pytest.raises(InputError, match="lacks 2 of its 3 parts"):
        writer.finish()
    assert not path.exists()


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_damaged_part_is_computed_again(path, writer_for, written, logits, damage):
    writer = written(path)
    part = path.parent / "teacher.h5.parts" / "part-00001.h5"
    content = bytearray(part.read_bytes())
    content[content.index(logits[4].tobytes())] ^= 1
    part.write_bytes({"flip": content, "truncate": content[:-20], "empty": b""}[damage])
    with pytest.raises(InputError, match="part-00001.h5 is damaged: run again"):
        writer.finish()
    assert not path.exists()
    assert writer_for(path).missing() == [slice(4, 8)]
    writer.write(slice(4, 8), logits[4:8])
    writer.finish()
    np.testing.assert_array_equal(open_logits(path).logits, logits)


KILLED_WRITER = """
import os, signal, sys
import numpy as np
from distill.logit_store import LogitHeader, LogitWriter

path, renames_left = sys.argv[1], int(sys.argv[2])

def kill_before_rename(event, arguments):
    global renames_left
    if event == "os.rename":
        renames_left -= 1
        if renames_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill_before_rename)
generator = np.random.default_rng(1)
logits = generator.normal(size=(11, 1, 2)).astype(np.float32)
header = LogitHeader(
    class_names=("angry", "happy"), views=1, view_spec={"seed": 0}, teacher_name="t", teacher_sha256="0",
    teacher_input_shape=(8, 8, 1), numeric_policy="float32", dataset_fingerprint="f", dataset_name="d",
)
writer = LogitWriter(
    path, header, sample_ids=np.array([f"s{row}" for row in range(11)]), labels=np.arange(11) % 2,
    content_hashes=generator.integers(0, 256, (11, 16), np.uint8), rows_per_part=4,
)
for rows in writer.missing():
    print(rows.start, flush=True)
    writer.write(rows, logits[rows])
writer.finish()
"""


def run_writer(path, renames):
    """Write three parts and merge them, killed with SIGKILL before a rename; return the rows begun."""
    command = [sys.executable, "-c", KILLED_WRITER, str(path), str(renames)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode == 0, [int(row) for row in done.stdout.split()]


def test_killed_at_every_step_and_resumed_gives_the_uninterrupted_file(tmp_path, files):
    killed, whole = tmp_path / "killed" / "t.h5", tmp_path / "whole" / "t.h5"
    assert run_writer(whole, renames=99) == (True, [0, 4, 8])
    # Each run gets one file into place and is killed with the next one written, but not renamed.
    for begun in ([0, 4], [4, 8], [8], []):
        assert run_writer(killed, renames=1) == (False, begun)
        assert not killed.exists()
    assert run_writer(killed, renames=99) == (True, [])
    assert killed.read_bytes() == whole.read_bytes()
    assert files() == ["killed/t.h5", "whole/t.h5"]


def test_killed_before_the_parts_are_removed(path, writer_for, written, files, monkeypatch):
    def killed(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt), written(path) as writer:
            writer.finish()
    again = writer_for(path)
    assert again.complete
    again.finish()
    assert files() == ["teacher.h5"]
