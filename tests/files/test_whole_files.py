import csv
import os

from distill.files.whole_files import write_csv


def test_a_name_that_is_no_utf8_keeps_its_bytes_in_a_table(tmp_path):
    write_csv(tmp_path / "table.csv", [{"name": os.fsdecode(b"caf\xe9.jpg")}, {"name": "é.jpg"}])
    assert (tmp_path / "table.csv").read_bytes().splitlines() == [b"name", b"caf\xe9.jpg", b"\xc3\xa9.jpg"]


def test_a_table_has_the_columns_of_all_rows(tmp_path):
    write_csv(tmp_path / "table.csv", [{"a": 1, "b": 2}, {"a": 3, "c": 4}])
    with open(tmp_path / "table.csv", newline="") as file:
        assert list(csv.reader(file)) == [["a", "b", "c"], ["1", "2", ""], ["3", "", "4"]]
