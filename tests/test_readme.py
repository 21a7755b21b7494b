"""What the README and the pages of docs/ show works as it stands there."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN_ELSEWHERE = ("extending.md",)


def blocks(language: str, pages: list[Path]) -> list[str]:
    text = "".join(page.read_text(encoding="utf-8") for page in pages if page.name not in RUN_ELSEWHERE)
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


EXAMPLES = blocks("python", [ROOT / "README.md", ROOT / "docs" / "my_notebook.md"])
LINES = [line for text in blocks("sh", PAGES) for line in text.replace("\\\n", " ").splitlines()]


@pytest.mark.parametrize(
    ("example", "left"),
    list(zip(EXAMPLES, [{"teacher", "logits.h5", "student"}, {"pictures"}], strict=True)),
)
def test_the_library_examples_run_in_under_ten_lines(tmp_path, monkeypatch, capsys, example, left):
    assert len([line for line in example.splitlines() if line.strip()]) < 10
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.py").write_text(example)
    runpy.run_path(str(tmp_path / "example.py"))
    accuracy = float(capsys.readouterr().out.splitlines()[-1])
    assert 0 <= accuracy <= 1
    assert {path.name for path in tmp_path.iterdir()} >= left


@pytest.mark.parametrize("line", LINES)
def test_every_command_shown_is_one_that_parses(line):
    """The flags of each `python -m distill.X` are known to X; nothing is run."""
    import importlib
    import shlex

    from distill.command_line.stage import DONE, run_stage

    for command, flags in re.findall(r"python -m (distill\.\w+)([^&#]*)", line):
        module = importlib.import_module(command)
        args = shlex.split(flags)
        if "--resume" in args:  # stands for the settings of a run, which is not there
            run = args.index("--resume") + 1
            args[run - 1 : run + 1] = ["--data", "D", "--out", args[run]]
        if hasattr(module, "VERBS"):
            settings_class = module.VERBS[args.pop(0)][1]
        else:
            name = command.rpartition(".")[2]
            settings_class = getattr(module, "".join(word.title() for word in name.split("_")) + "Settings")
        with pytest.raises(SystemExit) as ended:
            run_stage(lambda settings: None, settings_class, args, backend=None)
        assert ended.value.code == DONE


def test_the_reference_has_every_public_name():
    import distill

    shown = set(re.findall(r"^::: (\S+)$", (ROOT / "docs" / "reference.md").read_text(encoding="utf-8"), flags=re.M))
    assert shown >= {f"{module}.{name}" for name, module in distill._EXPORTS.items()}


def test_versions_agree():
    import distill

    assert f"version: {distill.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {distill.__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
