"""`python -m distill.train_student` beyond cached logits: an online teacher, several datasets, going on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from distill.command_line.stage import run_stage
from distill.command_line.student_training import seeded_objective
from distill.runs.run_directory import read_metrics
from distill.teacher_logits import TeacherLogitsSettings, teacher_logits
from distill.train_student import TrainStudentSettings, train_student
from distill.train_teacher import TrainTeacherSettings, train_teacher
from tests.test_commands import write_faces

ROOT = Path(__file__).resolve().parents[1]
TEACHER = ("--teacher", "plain_resnet_tiny")


def run(stage, settings, *args) -> int:
    with pytest.raises(SystemExit) as ended:
        run_stage(stage, settings, [str(arg) for arg in args], resumes=stage is not teacher_logits)
    return ended.value.code


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with labelled faces, unlabelled ones of another size, a teacher, and its logits for both."""
    folder = tmp_path_factory.mktemp("work")
    write_faces(folder / "fer2013.csv")
    rng = np.random.default_rng(3)
    (folder / "mine").mkdir()
    for number in range(10):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / "mine" / f"{number}.png")
    teacher = ("--data", folder / "fer2013.csv", *TEACHER, "--epochs", 1, "--out", folder / "teacher")
    assert run(train_teacher, TrainTeacherSettings, *teacher) == 0
    for data, out in (("fer2013.csv", "faces.h5"), ("mine", "mine.h5")):
        flags = ("--data", folder / data, *TEACHER, "--weights", folder / "teacher", "--views", 2)
        assert run(teacher_logits, TeacherLogitsSettings, *flags, "--out", folder / out) == 0
    return folder


def student(work, out, *more) -> int:
    usual = ("--data", work / "fer2013.csv", "--epochs", 1)
    return run(train_student, TrainStudentSettings, *usual, *more, *(() if "--resume" in more else ("--out", out)))


def record(out) -> dict:
    return json.loads((out / "settings.json").read_text())


def error(capsys) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def online(work) -> tuple:
    return ("--online.teacher", "plain_resnet_tiny", "--online.weights", work / "teacher")


def test_unlabelled_faces_of_ones_own_are_distilled_in_one_command(work, tmp_path, capsys):
    assert student(work, tmp_path / "run", *online(work), "--extra-data", work / "mine") == 0
    assert "learns 0.1·CE(y, s) + 0.9·T²·KL(softmax(t/T) ‖ softmax(s/T)), T=4" in capsys.readouterr().out
    facts = record(tmp_path / "run")
    assert [each["images"] for each in facts["extra_data"]] == [10]
    assert facts["teacher"]["online"] is True
    assert facts["network"]["policy"] == "float32"


def test_data_sets_stand_side_by_side_each_with_its_store(work, tmp_path):
    more = ("--logits", work / "faces.h5", "--extra-data", work / "mine", "--extra-logits", work / "mine.h5")
    assert student(work, tmp_path / "run", *more) == 0
    facts = record(tmp_path / "run")
    assert facts["extra_data"][0]["teacher"]["sha256"] == facts["teacher"]["sha256"]


def test_two_teachers_of_two_data_sets_are_four_stores(work, tmp_path, capsys):
    two = ("--logits", work / "faces.h5", work / "faces.h5", "--extra-data", work / "mine", "--extra-logits")
    assert student(work, tmp_path / "run", *two, work / "mine.h5", work / "mine.h5") == 0
    assert len(record(tmp_path / "run")["extra_data"][0]["teacher"]["teachers"]) == 2
    assert student(work, tmp_path / "other", *two, work / "mine.h5") == 2
    assert "need 2 stores of their own: received 1 --extra-logits" in error(capsys)


def test_a_teacher_in_bfloat16_leaves_the_student_in_float32(work, tmp_path):
    assert student(work, tmp_path / "run", *online(work), "--online.policy", "mixed_bfloat16") == 0
    facts = record(tmp_path / "run")
    assert (facts["teacher"]["policy"], facts["network"]["policy"]) == ("mixed_bfloat16", "float32")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--online.teacher", "plain_resnet_tiny"), "needs what it learned: give --online.weights"),
        (
            ("--online.teacher", "a.keras", "--online.image-size", 9),
            "--online.image-size is not for --online.teacher a",
        ),
        (
            ("--online.teacher", "facenet", "--ensemble-mean", "logits"),
            "--ensemble-mean is for --logits, not for --onl",
        ),
        (("--online.teacher", "facenet", "--lambda", 0), "the objective CE(y, s) needs nothing of --online.teacher"),
        (("--online.teacher", "facenet", "--folds", 3), "may have learned from their test images"),
        (("--distribute", "workers", "--folds", 3), "--folds are trained by one process"),
        (("--online.weights", "run"), "--online describes a teacher that is not named: give --online.teacher"),
        (("--logits", "a.h5", "--online.teacher", "facenet"), "two ways to be taught: give one of them"),
        (("--extra-logits", "a.h5"), "received 1 --extra-logits"),
        (("--folds", 3, "--extra-data", "x"), "omit --extra-data"),
        (("--distribute", "horovod"), 'unknown --distribute "horovod": choose one of none, mirrored, workers'),
        (("--distribute", "workers"), "needs the environment variable TF_CONFIG"),
        (
            ("--resume", "nowhere"),
            '--resume "nowhere" is not a folder of a run: give the --out of one that was begun',
        ),
    ],
)
def test_wrong_input_ends_in_one_line_and_writes_nothing(work, tmp_path, capsys, monkeypatch, flags, said):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert student(work, tmp_path / "run", *flags) == 2
    assert said in error(capsys)
    assert not (tmp_path / "run").exists()


def test_an_interrupted_run_says_how_it_goes_on(work, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "distill.train_student", "--data", str(work / "fer2013.csv"), "--epochs", "400"]
    out = tmp_path / "run"
    # Not in the background of a shell, where interruptions are ignored.
    process = subprocess.Popen(
        [*command, "--out", str(out)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while process.poll() is None and len(read_metrics(out)) < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130
    done = int(re.search(rf"(\d+) of 400 epochs are kept in {out}", printed)[1])
    assert said.endswith(
        f"interrupted: the same command resumes after what is finished, and so does --resume {out}\n"
    )
    assert 1 <= done < 400  # the table is a moment ahead of the checkpoint
    assert len(read_metrics(out)) in (done, done + 1)


def test_numbers_of_extra_data_are_named_by_a_flag_of_their_own(work, tmp_path, capsys):
    numbered = tmp_path / "numbered"
    for number in (1, 2):
        (numbered / str(number)).mkdir(parents=True)
        Image.new("L", (48, 48)).save(numbered / str(number) / "a.png")
    assert student(work, tmp_path / "run", "--extra-data", numbered) == 2
    assert "name the classes with --extra-data-classes" in error(capsys)
    assert student(work, tmp_path / "run", "--extra-data-classes", "1=happy,2=sad") == 2
    assert "nothing uses --extra-data-classes: give --extra-data" in error(capsys)


def test_another_teacher_for_the_extra_data_is_refused(work, tmp_path, capsys):
    other = ("--data", work / "fer2013.csv", *TEACHER, "--epochs", 1, "--seed", 9, "--out", tmp_path / "other")
    assert run(train_teacher, TrainTeacherSettings, *other) == 0
    flags = ("--data", work / "mine", *TEACHER, "--weights", tmp_path / "other", "--views", 2)
    assert run(teacher_logits, TeacherLogitsSettings, *flags, "--out", tmp_path / "mine.h5") == 0
    more = ("--logits", work / "faces.h5", "--extra-data", work / "mine", "--extra-logits", tmp_path / "mine.h5")
    assert student(work, tmp_path / "run", *more) == 2
    assert "the stores of extra data are of other teachers, or in another order" in error(capsys)


def test_other_views_of_the_extra_data_are_another_run(work, tmp_path, capsys):
    more = ("--logits", work / "faces.h5", "--extra-data", work / "mine", "--extra-logits")
    assert student(work, tmp_path / "run", *more, work / "mine.h5") == 0
    flags = ("--data", work / "mine", *TEACHER, "--weights", work / "teacher", "--views", 3, "--view.rotation", 90)
    assert run(teacher_logits, TeacherLogitsSettings, *flags, "--out", tmp_path / "turned.h5") == 0
    assert student(work, tmp_path / "run", *more, tmp_path / "turned.h5") == 2
    assert "holds a run with other settings (extra_data: " in error(capsys)


def test_every_student_keeps_its_own_share_of_units_unless_an_option_sets_it(work, tmp_path):
    for name, keep_prob in (("microexpnet", 0.5), ("slim_resnet", 0.8)):
        assert student(work, tmp_path / name, "--student", name) == 0
        saved = keras.saving.load_model(tmp_path / name / "best.keras")
        assert saved.get_layer("dropout").rate == pytest.approx(1 - keep_prob)


def test_resume_takes_no_other_settings(work, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(work)
    begun = ("--data", "fer2013.csv", "--epochs", 1, "--out", os.path.relpath(tmp_path / "run"))
    assert run(train_student, TrainStudentSettings, *begun) == 0
    monkeypatch.chdir(tmp_path)  # from anywhere
    assert run(train_student, TrainStudentSettings, "--resume", tmp_path / "run") == 0
    assert "is already complete" in capsys.readouterr().out
    assert run(train_student, TrainStudentSettings, "--resume", tmp_path / "run", "--out", tmp_path / "other") == 2
    assert "resumes in that folder: omit --out" in error(capsys)
    assert run(train_student, TrainStudentSettings, "--resume", tmp_path / "run", "--lr", 1) == 2
    assert "recipe.lr: stored 0.001, now 1.0" in error(capsys)


def test_resume_alone_finishes_what_was_begun(work, tmp_path, monkeypatch):
    import distill.training.epochs as module

    def interrupt(*args, **how):
        raise KeyboardInterrupt

    flags = ("--epochs", 3, "--logits", work / "faces.h5", "--seed", 4)
    assert student(work, tmp_path / "whole", *flags) == 0
    reseed = module._reseed
    monkeypatch.setattr(
        module,
        "_reseed",
        lambda *args, epoch, **how: interrupt() if epoch == 2 else reseed(*args, epoch=epoch, **how),
    )
    assert student(work, tmp_path / "broken", *flags) == 130
    monkeypatch.undo()
    assert run(train_student, TrainStudentSettings, "--resume", tmp_path / "broken") == 0
    one, other = (keras.saving.load_model(tmp_path / name / "last.keras") for name in ("whole", "broken"))
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_layers_that_an_objective_makes_at_once_begin_alike_in_every_process(tmp_path, monkeypatch):
    (tmp_path / "projecting.py").write_text(
        "import keras\n"
        "from distill.losses.objective import Objective\n"
        "class Projecting(Objective):\n"
        "    def __init__(self):\n"
        "        self.layers = [keras.layers.Dense(3)]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = TrainStudentSettings(data="D", student="microexpnet", out="O", loss="projecting:Projecting")
    kernels = []
    for _ in range(2):
        (layer,) = seeded_objective(settings, taught=True).layers
        layer.build((None, 4))
        kernels.append(np.asarray(layer.kernel))
    np.testing.assert_array_equal(*kernels)
