"""docs/extending.md: every file, command and block of Python in it does what the page says, from outside."""

import importlib
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

import distill
from teachers import PlainResNetTiny

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
_BLOCK = re.compile(
    r"^<!-- (file: (?P<name>\S+)|run|python) -->\n```\w+\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)
BLOCKS = list(_BLOCK.finditer(PAGE))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with the files of the page, a folder of images, and the logits of a teacher."""
    folder = tmp_path_factory.mktemp("extending")
    for block in BLOCKS:
        if block["name"]:
            (folder / block["name"]).write_text(block["text"], encoding="utf-8")
    shutil.copytree(ROOT / "tests" / "version_0_1" / "faces", folder / "my_faces")
    faces = distill.open_dataset(folder / "my_faces")
    teacher = PlainResNetTiny(input_shape=(12, 12), classes=faces.num_classes)
    distill.cache_logits(teacher, faces, folder / "logits.h5", views=1, progress=False)
    return folder


@pytest.fixture
def folder(files, monkeypatch) -> Path:
    """The folder of the files, as the current directory."""
    monkeypatch.chdir(files)
    monkeypatch.syspath_prepend(str(files))
    yield files
    for block in BLOCKS:
        if block["name"]:
            sys.modules.pop(Path(block["name"]).stem, None)


def of_kind(kind):
    return [block["text"] for block in BLOCKS if block[0].startswith(f"<!-- {kind} -->")]


@pytest.mark.parametrize("command", of_kind("run"))
def test_commands_run(folder, monkeypatch, command):
    for line in command.replace("\\\n", " ").strip().splitlines():
        program, flag, module, *arguments = shlex.split(line)
        assert (program, flag) == ("python", "-m")
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(module).main()
        assert ended.value.code == 0


@pytest.mark.parametrize("code", of_kind("python"))
def test_python_runs(folder, code):
    exec(compile(code, "docs/extending.md", "exec"), {})


def test_no_file_is_longer_than_twenty_lines():
    lengths = {block["name"]: len(block["text"].splitlines()) for block in BLOCKS if block["name"]}
    assert lengths
    assert {name for name, lines in lengths.items() if lines > 20} == set()
