"""The quickstart from end to end, small; .ci/run runs it as the README shows it."""

import json

import pytest

from distill.command_line.stage import run_stage
from distill.quickstart import QuickstartSettings, quickstart

SMALL = ("--faces", "140", "--teacher-epochs", "1", "--student-epochs", "1", "--seeds", "2", "--views", "2")


def run(*args) -> int:
    with pytest.raises(SystemExit) as ended:
        run_stage(quickstart, QuickstartSettings, args)
    return ended.value.code


def test_it_leaves_a_table_a_picture_and_every_run(tmp_path, capsys):
    assert run(*SMALL, "--out", str(tmp_path)) == 0
    said, _, following = capsys.readouterr().out.rpartition("next:\n")
    *_, head, teacher, alone, distilled, _, gain, _, _, _ = said.splitlines()
    table = [head, teacher, alone, distilled]
    assert [line.split("  ")[0] for line in table] == ["", "teacher", "labels alone", "distilled"]
    results = json.loads((tmp_path / "quickstart.json").read_text())["results"]
    pairs = zip(results["distilled"]["accuracies"], results["labels alone"]["accuracies"], strict=True)
    gains = ", ".join(f"{100 * (taught - labels):+.1f}" for taught, labels in pairs)
    assert gain.startswith(f"distilled minus labels alone, by seed: {gains} points; mean ")
    assert following.startswith("  python -m distill.predict")
    assert all(line.startswith("  python -m distill.") for line in following.splitlines())
    assert [len(results[kind]["accuracies"]) for kind in ("teacher", "labels alone", "distilled")] == [1, 2, 2]
    assert results["distilled"]["weight_bytes"] == 4 * results["distilled"]["parameters"]
    assert (tmp_path / "quickstart.png").stat().st_size > 10_000
    runs = {"teacher", "labels-alone-0", "labels-alone-1", "distilled-0", "distilled-1"}
    assert {path.parent.name for path in tmp_path.glob("*/summary.json")} == runs


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--seeds", "0"), "seeds must be at least 1, received 0"),
        (("--lambda", "2"), "lambda must lie in 0..1, received 2.0"),
        (("--temperature", "0"), "temperature must be above 0, received 0.0"),
        (("--student-epochs", "0"), "epochs must be at least 1, received 0"),
        (("--faces", "3"), "synthetic faces: count must be"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_done(tmp_path, capsys, flags, message):
    assert run(*SMALL, *flags, "--out", str(tmp_path / "out")) == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
