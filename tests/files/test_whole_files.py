import csv
import errno
import os

import pytest

from distill.files.whole_files import atomic_file, atomic_folder, write_csv


def test_a_name_that_is_no_utf8_keeps_its_bytes_in_a_table(tmp_path):
    write_csv(tmp_path / "table.csv", [{"name": os.fsdecode(b"caf\xe9.jpg")}, {"name": "é.jpg"}])
    assert (tmp_path / "table.csv").read_bytes().splitlines() == [b"name", b"caf\xe9.jpg", b"\xc3\xa9.jpg"]


def test_a_table_has_the_columns_of_all_rows(tmp_path):
    write_csv(tmp_path / "table.csv", [{"a": 1, "b": 2}, {"a": 3, "c": 4}])
    with open(tmp_path / "table.csv", newline="") as file:
        assert list(csv.reader(file)) == [["a", "b", "c"], ["1", "2", ""], ["3", "", "4"]]


def test_what_another_one_is_writing_is_not_taken_for_left_over(tmp_path):
    target = tmp_path / "out.json"
    with atomic_file(target) as slow:
        with atomic_file(target) as first:
            first.write_text("first")
        with atomic_file(target) as second:  # which sweeps
            second.write_text("second")
        slow.write_text("slow")
    assert target.read_text() == "slow"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize("locked", [True, False])
def test_what_a_killed_process_left_goes(tmp_path, locked):
    left = tmp_path / ".out.json-0123abcd.json"
    left.write_text("half")
    if locked:
        left.with_name(f"{left.name}.lock").touch()
    with atomic_file(tmp_path / "out.json") as unfinished:
        unfinished.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_name_of_any_length_that_the_system_takes_is_written(tmp_path):
    for name in ("x" * 251 + ".png", "y" * 255, "z." + "s" * 250):
        with atomic_file(tmp_path / name) as unfinished:
            unfinished.write_text("whole")
        assert (tmp_path / name).read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_large_folder_is_not_listed_for_every_file(tmp_path, monkeypatch):
    for number in range(1000):
        (tmp_path / str(number)).touch()
    for name in ("a", "b"):
        (tmp_path / f".{name}.json-0123abcd.json").write_text("half")
    listed, list_folder = [], os.listdir
    monkeypatch.setattr("distill.files.whole_files.os.listdir", lambda path: listed.append(path) or list_folder(path))
    for name in ("a", "b", "c"):
        with atomic_file(tmp_path / f"{name}.json") as unfinished:
            unfinished.write_text("whole")
    assert len(listed) == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_an_error_names_the_target(tmp_path, monkeypatch, write):
    def read_only(path, *args, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fspath(path))

    for name in ("open", "mkdir", "unlink"):  # of a file that is not there, too
        monkeypatch.setattr(os, name, read_only)
    with pytest.raises(OSError, match="Read-only") as caught, write(tmp_path / "table.csv"):
        raise AssertionError("it was opened")
    assert caught.value.filename == str(tmp_path / "table.csv")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks_leaves_nothing_beside_the_target(tmp_path, monkeypatch, number):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", refused)
    with atomic_file(tmp_path / "table.csv") as unfinished:
        unfinished.write_text("whole")
    with atomic_folder(tmp_path / "model"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "table.csv"]
