"""Photos of people are deleted: soon, at the end, and where a process was killed at the next start."""

import os
import subprocess
import sys
import tempfile
import time

import pytest

from distill.files.photo_folder import delete_old, photo_folder


@pytest.fixture(autouse=True)
def folder_of_all(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_old_photos_and_all_but_the_newest_are_deleted(tmp_path):
    for age in range(30):
        file = tmp_path / "given" / str(age) / "photo.png"
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (time.time() - 10 * age,) * 2)
    delete_old(tmp_path, seconds=255, photos=40)
    assert len([*tmp_path.rglob("*.png")]) == 26
    delete_old(tmp_path, seconds=255, photos=3)
    assert sorted(file.parent.name for file in tmp_path.rglob("*.png")) == ["0", "1", "2"]


def test_all_go_at_the_end(folder_of_all):
    with photo_folder() as folder:
        (folder / "photo.png").touch()
        assert folder.stat().st_mode & 0o077 == 0
    assert list(folder_of_all.iterdir()) == []


def test_what_a_killed_process_left_goes_at_the_next_start_and_nothing_else(folder_of_all):
    program = (
        "import os, tempfile; from distill.files.photo_folder import photo_folder\n"
        f"tempfile.tempdir = {str(folder_of_all)!r}\n"
        "with photo_folder() as folder:\n"
        "    (folder / 'photo.png').touch(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    (left,) = folder_of_all.iterdir()
    (folder_of_all / "others").mkdir()
    with photo_folder() as of_another:  # too young to be sure that nobody has it
        assert left.exists()
        for each in (left, of_another):
            os.utime(each, (time.time() - 100,) * 2)
        with photo_folder():
            assert not left.exists()
            assert of_another.exists()
    assert [each.name for each in folder_of_all.iterdir()] == ["others"]
