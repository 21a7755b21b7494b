"""Ctrl-C: it waits while HDF5 works, is never lost, and what is on disk afterwards is whole."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import pytest

from distill.logit_store import open_logits
from distill.logit_store.interrupts import uninterrupted
from distill.logit_store.parts import merge_parts, parts_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def sigint_interrupts():
    """As in a terminal; what is started in the background ignores Ctrl-C, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt():
    signal.raise_signal(signal.SIGINT)


def test_an_interruption_waits_for_the_end_of_the_block():
    def interrupted():
        with uninterrupted():
            interrupt()
            with uninterrupted():
                interrupt()
            reached.append("end")

    reached = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert reached == ["end"]
    with pytest.raises(KeyboardInterrupt):  # as ever
        interrupt()


def test_an_interruption_may_be_let_through():
    def interrupted():
        with uninterrupted() as let_through:
            let_through()
            interrupt()
            let_through()
            pytest.fail("it was not let through")

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_an_interruption_outweighs_an_error():
    def interrupted():
        with uninterrupted():
            interrupt()
            raise ValueError("of less interest")

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_other_threads_and_handlers_that_are_not_pythons_are_left_as_they_are():
    def enter():
        with uninterrupted() as let_through:
            let_through()
            found.append(signal.getsignal(signal.SIGINT))

    found, before = [], signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        enter()
        interrupt()
    finally:
        signal.signal(signal.SIGINT, before)
    assert found == [before, signal.SIG_IGN]


@pytest.mark.parametrize("read", ["open", "logits", "merge"])
def test_no_read_of_hdf5_is_cut_short(path, written, monkeypatch, read):
    writer = written(path)
    store = open_logits(parts_folder(path))
    begun, done, original = [], [], h5py.Dataset.__getitem__

    def interrupted(dataset, *args, **options):
        begun.append(dataset.name)
        interrupt()
        done.append(dataset.name)
        return original(dataset, *args, **options)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", interrupted)
    action = {
        "open": lambda: open_logits(parts_folder(path)),
        "logits": lambda: store.logits,
        "merge": lambda: merge_parts([parts_folder(path)], path),
    }[read]
    with pytest.raises(KeyboardInterrupt):
        action()
    assert begun == done != []
    monkeypatch.undo()
    assert not path.exists()
    assert writer.finish() == path


INTERRUPTED_WRITER = """
import signal, sys
from pathlib import Path
import numpy as np
from distill.logit_store import LogitHeader, LogitWriter, layout
from distill.logit_store.patient_file import PatientFile

class Interrupted(PatientFile):
    calls, interrupted_at = 0, 0

    def write(self, content):  # the signal comes before the first line of the method that HDF5 calls
        Interrupted.calls += 1
        if self.calls == self.interrupted_at:
            signal.raise_signal(signal.SIGINT)
        return super().write(content)

layout.PatientFile = Interrupted
folder = Path(sys.argv[1])
header = LogitHeader(
    class_names=("angry", "happy"), views=1, view_spec={"seed": 0}, teacher_name="t", teacher_sha256="0",
    teacher_input_shape=(8, 8, 1), numeric_policy="float32", dataset_fingerprint="f", dataset_name="d",
)

def write(path):
    Interrupted.calls = 0
    columns = {"sample_ids": np.array(["a", "b", "c"]), "labels": np.zeros(3, int)}
    columns["content_hashes"] = np.ones((3, 16), np.uint8)
    with LogitWriter(path, header, **columns, rows_per_part=2) as writer:
        for rows in writer.missing():
            writer.write(rows, np.ones((rows.stop - rows.start, 1, 2), np.float32))
        return writer.finish().read_bytes()

whole = write(folder / "whole.h5")
calls = Interrupted.calls
for number in range(1, calls + 1):
    path = folder / f"{number}.h5"
    Interrupted.interrupted_at = number
    try:
        write(path)
    except KeyboardInterrupt:
        pass
    else:
        sys.exit(f"interruption {number} was lost")
    assert not [left for left in folder.rglob(".*")], number
    Interrupted.interrupted_at = 0
    assert write(path) == whole, number
print("interrupted", calls)
"""


def test_interrupted_at_every_write_of_hdf5_and_given_again_gives_the_same_file(tmp_path):
    # In a process of its own, because HDF5 ends the whole process where this goes wrong.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", INTERRUPTED_WRITER, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[1]) > 10
