"""Data of one's own, ten classes of 32x32 colour pictures, through the library and every command that takes data."""

import json
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

from distill.data.open_dataset import open_dataset
from distill.errors import InputError

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
EXAMPLE = re.search(r"<!-- file: my_pictures.py -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
DATA = ("--data", "my_pictures:bars")
TEACHER = ("--teacher", "plain_resnet_tiny", "--weights", "teacher")
COMMANDS = (
    ("describe_data", *DATA),
    ("train_teacher", *DATA, "--teacher", "plain_resnet_tiny", "--epochs", "1", "--out", "teacher"),
    ("teacher_logits", *DATA, *TEACHER, "--views", "2", "--out", "logits.h5"),
    ("cache", "inspect", "logits.h5", *DATA),
    ("cache", "verify", "logits.h5", *DATA, *TEACHER),
    ("train_student", *DATA, "--logits", "logits.h5", "--epochs", "2", "--out", "student"),
    ("evaluate", *DATA, "--model", "student", "--seconds", "0.01"),
    ("export", *DATA, "--model", "student", "--seconds", "0.01", "--formats", "litert-float32"),
    ("compare", *DATA, "--logits", "logits.h5", "--temperatures", "4", "--lambdas", "0.5", "--seeds", "1")
    + ("--epochs", "1", "--out", "comparison"),
)
ABOUT_FACES = re.compile(r"\bfaces?\b(?<!distill-faces)(?!-detector)", re.IGNORECASE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside")
    (folder / "my_pictures.py").write_text(EXAMPLE)
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command[:2]).replace("---data", ""))
def test_every_command_takes_it_and_speaks_of_images(here, command, monkeypatch, capfd):
    """One after the other, each with what the earlier ones have written."""
    monkeypatch.setattr(sys, "argv", list(command))
    with pytest.raises(SystemExit) as ended:
        import_module(f"distill.{command[0]}").main()
    said = "".join(capfd.readouterr())
    assert ended.value.code == 0, said
    assert not ABOUT_FACES.search(said)


def test_what_is_written_speaks_of_images(folder):
    """Begins where the commands have ended."""
    card = (folder / "student" / "export" / "README.md").read_text()
    assert "place 8 and place 9 in an image." in card
    assert "the whole image, resized" in card
    assert "expression" not in card
    report = (folder / "student" / "evaluation-validation" / "report.html").read_text()
    shown = re.sub(r"<style>.*?</style>|<[^>]*>|data:[^\"']*", " ", report, flags=re.DOTALL)
    for text in (card, shown):
        assert not ABOUT_FACES.search(text)
    assert json.loads((folder / "student" / "evaluation-validation" / "evaluation.json").read_text())


def test_the_library_opens_it_by_its_name(here):
    dataset = open_dataset("my_pictures:bars")
    assert dataset.name == "my_pictures:bars"
    assert (dataset.num_classes, dataset.image_shape, len(dataset.split("test"))) == (10, (32, 32, 3), 200)


def test_a_path_that_looks_like_a_function_is_a_path(tmp_path, write_image, monkeypatch):
    for name in ("a", "b"):
        write_image(f"my_pictures:bars/{name}/1.png")
    monkeypatch.chdir(tmp_path)
    assert open_dataset("my_pictures:bars").class_names == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def make(): return 7", "returned int, expected a distill.Dataset: Dataset.from_arrays makes one"),
        ("def make(): return 1 / 0", "failed with ZeroDivisionError: division by zero"),
        ("def make(path): ...", "failed with TypeError"),
        ("def other(): ...", "has no function make: its functions are other"),
    ],
)
def test_what_is_no_data_set_is_said_in_one_line(here, request, text, message):
    name = f"wrong_{abs(hash(request.node.name))}"
    (here / f"{name}.py").write_text(text)
    with pytest.raises(InputError, match=message):
        open_dataset(f"{name}:make")


@pytest.mark.parametrize(
    "command", sorted({command[:2] if "cache" in command else command[:1] for command in COMMANDS})
)
def test_help_says_that_a_function_is_a_program(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [*command, "--help"])
    with pytest.raises(SystemExit):
        import_module(f"distill.{command[0]}").main()
    shown = " ".join(re.sub("[│╭╰─]", " ", capsys.readouterr().out).split())
    assert "MODULE:FUNCTION" in shown
    assert "with your permissions" in shown
