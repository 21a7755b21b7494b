"""One writer at a time: a second one is refused, and changes nothing."""

import errno
import os
import subprocess
import sys
from threading import Timer

import pytest
from filelock import FileLock

from distill.errors import InputError
from distill.logit_store.parts import Shard, parts_folder
from distill.logit_store.writer_lock import WriterLock

HOLD = """
import sys
from pathlib import Path
from distill.logit_store.parts import Shard
from distill.logit_store.writer_lock import WriterLock

shard = Shard.parse(sys.argv[2]) if sys.argv[2] else None
lock = WriterLock(Path(sys.argv[1]), shard)
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held_elsewhere(path):
    """A function that has another process hold the lock; the process is returned."""
    processes = []

    def hold(shard=""):
        command = [sys.executable, "-c", HOLD, str(parts_folder(path)), shard]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield hold
    for process in processes:
        process.kill()
        process.wait()


def test_a_second_writer_is_refused_and_changes_nothing(path, held_elsewhere, writer_for, written, files):
    process = held_elsewhere()
    for write in (lambda: writer_for(path).__enter__(), lambda: written(path)):
        with pytest.raises(InputError, match="another process is writing into .*teacher.h5.parts: wait"):
            write()
    assert not [name for name in files() if "part-" in name]
    process.kill()  # as a crash would
    process.wait()
    assert written(path).finish() == path


@pytest.mark.parametrize(
    ("held", "wanted", "free"),
    [("1/2", "2/2", True), ("1/2", "1/2", False), ("1/2", None, False), ("", "1/2", False)],
)
def test_shards_write_side_by_side_and_the_whole_alone(path, held_elsewhere, held, wanted, free):
    held_elsewhere(held)
    lock = WriterLock(parts_folder(path), wanted and Shard.parse(wanted))
    if free:
        lock.acquire()
        lock.release()
    else:
        with pytest.raises(InputError, match="another process"):
            lock.acquire()


def test_a_store_that_another_writer_finished_meanwhile_is_complete(path, writer_for, written):
    late = writer_for(path)
    assert not late.complete
    written(path).finish()
    with late:
        assert late.complete
        assert late.missing() == []


def test_a_lock_that_another_shard_just_looks_at_is_no_writer(path):
    lock = WriterLock(parts_folder(path), Shard(1, 2))
    lock.acquire()  # makes the folder
    looked_at = FileLock(parts_folder(path) / "writer-whole.lock", thread_local=False)
    looked_at.acquire()  # as the other does, for a moment
    timer = Timer(0.2, looked_at.release)
    timer.start()
    other_shard = WriterLock(parts_folder(path), Shard(2, 2))
    other_shard.acquire()
    timer.join()


def test_a_writer_that_wrote_nothing_leaves_no_folder(path, writer_for, written):
    with writer_for(path):
        assert parts_folder(path).is_dir()
    assert not parts_folder(path).exists()
    with written(path, parts=1):
        pass
    assert len(list(parts_folder(path).glob("part-*.h5"))) == 1


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_and_no_folder_is_left(path, monkeypatch, writer_for, files, number):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", refused)
    message = f"teacher.h5.parts cannot be locked .{os.strerror(number)}.: .*choose --out on a local disk$"
    with pytest.raises(InputError, match=message):
        writer_for(path).__enter__()
    assert files() == []
    assert not parts_folder(path).exists()
