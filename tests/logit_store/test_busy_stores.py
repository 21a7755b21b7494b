"""A store or part that is open elsewhere is read; one that cannot be read is not called damaged, nor written anew."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from distill.errors import BusyError, InputError
from distill.logit_store import open_logits, unlocked_file
from distill.logit_store.parts import merge_parts, parts_folder
from distill.logit_store.unlocked_file import UnlockedFile

CODE = "from distill.logit_store import open_logits; print(len(open_logits({path!r}).logits))"


def read_elsewhere(path) -> str:
    done = subprocess.run([sys.executable, "-c", CODE.format(path=str(path))], capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_store_that_another_program_has_open_is_read(stored, mode):
    with h5py.File(stored, mode):
        assert read_elsewhere(stored) == "11"


def test_a_store_is_read_though_the_environment_wants_locks(stored, monkeypatch):
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "TRUE")
    with h5py.File(stored, "r+"):
        assert read_elsewhere(stored) == "11"


def test_a_store_that_a_killed_program_had_open_is_read_and_left_as_it_is(stored, logits):
    program = f"import h5py, os; file = h5py.File({str(stored)!r}, 'r+'); os._exit(9)"
    subprocess.run([sys.executable, "-c", program])
    marked = stored.read_bytes()
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(stored)
    np.testing.assert_array_equal(open_logits(stored).logits, logits)
    assert stored.read_bytes() == marked


@pytest.mark.parametrize("size", [1, 10, 1000])
@pytest.mark.parametrize("mode", ["w", "r+"])
def test_the_checksum_of_a_superblock_is_that_of_hdf5(tmp_path, size, mode):
    with h5py.File(tmp_path / "a.h5", "w", libver=("v110", "v110")) as file:
        file["a"] = np.arange(size)
    with h5py.File(tmp_path / "a.h5", mode, libver=("v110", "v110")):
        superblock = (tmp_path / "a.h5").read_bytes()[:48]
    if superblock:  # a new file may not be on the disk yet
        assert unlocked_file._checksum(superblock[:44]) == superblock[44:]


def test_a_changed_superblock_is_no_open_store(stored):
    content = bytearray(stored.read_bytes())
    content[11] = 1  # the mark of a file that is open, without its checksum
    stored.write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        open_logits(stored)


def test_a_store_that_changes_while_it_is_open_is_to_be_closed_first(stored):
    with h5py.File(stored, "r+") as file:
        file["label"][0] += 1
        file.flush()
        said = read_elsewhere(stored)
    assert "close the program that has it open for writing, and if it is damaged still, delete it" in said


class FailingFile:
    """A file that cannot be read beyond some bytes."""

    def __init__(self, file, after):
        self.file, self.left = file, after
        self.seek, self.tell, self.read, self.close = file.seek, file.tell, file.read, file.close

    def readinto(self, buffer):
        self.left -= len(buffer)
        if self.left < 0:
            raise OSError(5, os.strerror(5))
        return self.file.readinto(buffer)


def fail_after(after, monkeypatch):
    def failing_open(path, *args, **how):
        return FailingFile(open(path, *args, **how), after)  # noqa: SIM115

    monkeypatch.setattr(unlocked_file, "open", failing_open, raising=False)


@pytest.mark.parametrize("after", [0, 200, 600, 1000, 1500])
def test_a_disk_that_fails_midway_is_no_damage(stored, monkeypatch, after):
    fail_after(after, monkeypatch)
    with pytest.raises(BusyError, match=r"teacher.h5 cannot be read now \(Input/output error\): look at its disk"):
        _ = open_logits(stored).logits


def test_zeros_stand_for_what_cannot_be_read(stored, monkeypatch):
    fail_after(10, monkeypatch)
    with UnlockedFile(stored) as file:
        buffer = bytearray(b"x" * 20)
        assert file.readinto(memoryview(buffer)) == 20
        assert buffer == bytes(20)
        assert (file.failure.errno, file.failure.filename) == (5, str(stored))


@pytest.fixture
def failing_part(path, written, put_unreadable):
    """The second of three parts, which cannot be read; whole.h5 is what it was."""
    written(path)
    part = sorted(parts_folder(path).glob("part-*.h5"))[1]
    part.rename(path.with_name("whole.h5"))
    return put_unreadable(part)


def test_a_writer_does_not_write_over_a_part_that_it_cannot_read(path, failing_part, writer_for, logits):
    with pytest.raises(BusyError, match=r"part-00001.h5 cannot be read now .*try again"):
        writer_for(path).missing()
    with pytest.raises(BusyError):
        writer_for(path).finish()
    with pytest.raises(BusyError):
        merge_parts([parts_folder(path)], path)
    assert not path.exists()
    assert failing_part.is_symlink()
    path.with_name("whole.h5").rename(failing_part)
    writer = writer_for(path)
    assert writer.missing() == []
    np.testing.assert_array_equal(open_logits(writer.finish()).logits, logits)


def test_a_part_that_is_open_elsewhere_counts_as_written(path, written, writer_for):
    written(path)
    part = min(parts_folder(path).glob("part-*.h5"))
    with h5py.File(part, "r+"):
        assert writer_for(path).missing() == []


def test_the_writer_of_a_store_that_cannot_be_read_says_so(path, writer_for, put_unreadable):
    put_unreadable(path)
    with pytest.raises(InputError, match="cannot be read now") as error:
        writer_for(path)
    assert "delete" not in str(error.value)
    assert path.is_symlink()
