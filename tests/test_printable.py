"""Whatever a name contains, what is shown of it is one line, and no command for a terminal."""

import csv
import io
import json

import pytest

from distill.command_line.standard_output import harmless_output
from distill.files.whole_files import write_csv
from distill.printable import json_line, one_line, printable, printable_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Gesicht é 笑 😀", "Gesicht é 笑 😀"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\udcff", "\\udcff"),
        ("1\u202f000\xa0km", "1\u202f000\xa0km"),
    ],
)
def test_control_characters_are_escaped(text, expected):
    assert printable(text) == expected
    assert printable_lines(f"{text}\n") in (f"{expected}\n", "a\nb\\tc\\r\n")


def test_a_very_long_message_keeps_its_beginning_and_its_end():
    line = one_line(f"error: {'x' * 10_000}: try another")
    assert len(line) < 2100
    assert (line[:7], line[-13:]) == ("error: ", ": try another")


def test_commands_print_no_control_characters(capsys):
    with harmless_output():
        print("class \x1b[2J\nnext")
    assert capsys.readouterr().out == "class \\x1b[2J\nnext\n"


def test_no_cell_of_a_table_is_a_formula(tmp_path):
    write_csv(tmp_path / "table.csv", [{"name": "=cmd()", "value": -1.5}, {"name": "plain", "value": "@x"}])
    rows = list(csv.reader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert rows[1:] == [["'=cmd()", "-1.5"], ["plain", "'@x"]]


@pytest.mark.parametrize("name", ["a\xadb", "\x85", "\U000e0067", "\udc80", "caf\xe9\u202f", "\x7f\n\u202e"])
def test_a_line_of_json_is_printable_and_says_the_name(name):
    line = json_line({"file": name})
    assert printable(line) == line
    assert json.loads(line) == {"file": name}
