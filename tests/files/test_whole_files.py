import csv
import os

import pytest

from distill.files.whole_files import atomic_file, write_csv


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
