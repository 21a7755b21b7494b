"""The commands from end to end on a few faces, and what they say to wrong input."""

import json
import shlex

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

from distill.command_line.stage import run_stage
from distill.data.expressions import CLASS_ORDERS
from distill.describe_data import DescribeDataSettings, describe_data
from distill.evaluate import EvaluateSettings, evaluate
from distill.logit_store import open_logits
from distill.teacher_logits import TeacherLogitsSettings, teacher_logits
from distill.train_student import TrainStudentSettings, train_student
from distill.train_teacher import TrainTeacherSettings, train_teacher

COMMANDS = {
    "train_teacher": (train_teacher, TrainTeacherSettings),
    "teacher_logits": (teacher_logits, TeacherLogitsSettings),
    "train_student": (train_student, TrainStudentSettings),
    "evaluate": (evaluate, EvaluateSettings),
    "describe_data": (describe_data, DescribeDataSettings),
}
USAGES = {"train": "Training", "validation": "PublicTest"}


def run(command, *args) -> int:
    with pytest.raises(SystemExit) as ended:
        run_stage(*COMMANDS[command], [str(arg) for arg in args])
    return ended.value.code


def write_faces(path, *, seed=0, size=16) -> None:
    rng = np.random.default_rng(seed)
    with open(path, "w") as file:
        file.write("emotion,pixels,Usage\n")
        for usage, count in (("Training", 28), ("PublicTest", 14)):
            for row in range(count):
                pixels = " ".join(map(str, rng.integers(0, 256, size * size)))
                file.write(f"{row % 7},{pixels},{usage}\n")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data, a trained teacher and its logits."""
    folder = tmp_path_factory.mktemp("work")
    write_faces(folder / "fer2013.csv")
    write_faces(folder / "others.csv", seed=1)
    teacher = ("--teacher", "plain_resnet_tiny")
    data = ("--data", folder / "fer2013.csv")
    assert run("train_teacher", *data, *teacher, "--epochs", 1, "--out", folder / "teacher") == 0
    logits = ("--weights", folder / "teacher", "--views", 2, "--out", folder / "logits.h5")
    assert run("teacher_logits", *data, *teacher, *logits) == 0
    return folder


def student(work, out, *more):
    return run("train_student", "--data", work / "fer2013.csv", "--epochs", 1, "--out", out, *more)


def failure(capsys) -> str:
    """The one line that a command printed as its error."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, lines
    return lines[0]


def test_from_faces_to_an_evaluated_student(work, tmp_path, capsys):
    out = tmp_path / "run"
    more = ("--logits", work / "logits.h5", "--student", "microexpnet", "--temperature", 8, "--lambda", 0.5)
    assert student(work, out, *more) == 0
    left = {path.name for path in out.iterdir() if "tfevents" not in path.name}
    assert left == {
        "settings.json",
        "metrics.csv",
        "curves.png",
        "last.keras",
        "best.keras",
        "summary.json",
        "training_images.npy",
        "README.txt",
    }
    assert any("tfevents" in path.name for path in out.iterdir())
    readme = (out / "README.txt").read_text()
    assert all(name in readme for name in left - {"README.txt"})
    assert "train_student --resume" in readme
    record = json.loads((out / "settings.json").read_text())
    assert record["objective"]["formula"] == "0.5·CE(y, s) + 0.5·T²·KL(softmax(t/T) ‖ softmax(s/T)), T=8"
    assert record["recipe"]["seed"] == 0
    assert record["teacher"]["name"] == "plain_resnet_tiny"
    capsys.readouterr()
    assert run("evaluate", "--model", out, "--config", out / "settings.json") == 0  # the same data
    printed = capsys.readouterr().out
    assert "accuracy" in printed
    assert "on 14 validation images" in printed
    evaluation = json.loads((out / "evaluation-validation" / "evaluation.json").read_text())
    (model,) = evaluation["models"]
    assert (model["name"], model["network"]) == ("run", "microexpnet")
    assert sum(map(sum, model["confusion"]["counts"])) == 14
    assert (out / "evaluation-validation" / "confusion.png").stat().st_size > 5_000
    assert "<h1>run on fer2013.csv</h1>" in (out / "evaluation-validation" / "report.html").read_text()


def test_the_next_commands_name_the_data_as_it_was_given(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for folder in ("0", "1"):
        (tmp_path / "my faces" / folder).mkdir(parents=True)
        for number in range(10):
            face = Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8))
            face.save(tmp_path / "my faces" / folder / f"{number}.png")
    data = ("--data", tmp_path / "my faces", "--data-classes", "sad,happy", "--epochs", 1)
    for command in ("train_teacher", "train_student"):
        network = ("--teacher", "plain_resnet_tiny") if command == "train_teacher" else ("--student", "microexpnet")
        assert run(command, *data, *network, "--out", tmp_path / command) == 0
        _, _, commands = capsys.readouterr().out.rpartition("next:\n")
        for line in commands.splitlines():
            words = shlex.split(line)
            assert words[words.index("--data") + 1 :][:3] == [str(tmp_path / "my faces"), *data[2:4]]


def test_logits_equal_the_teachers_own_prediction(work):
    with h5py.File(work / "logits.h5") as file:
        stored, ids = file["logits"][:], [i.decode() for i in file["sample_id"][:]]
    teacher = keras.saving.load_model(work / "teacher" / "best.keras")
    from distill.data.open_dataset import open_dataset

    dataset = open_dataset(work / "fer2013.csv")
    pixels = keras.ops.image.resize(dataset.read(np.arange(len(dataset))).astype(np.float32), (48, 48))
    assert ids == dataset.ids.tolist()
    np.testing.assert_allclose(stored[:, 0], teacher.predict(pixels, verbose=0), atol=2e-3)
    assert not np.allclose(stored[:, 0], stored[:, 1], atol=1e-2)


def test_finished_work_is_already_complete(work, tmp_path, capsys):
    before = (work / "logits.h5").read_bytes()
    again = ("--data", work / "fer2013.csv", "--teacher", "plain_resnet_tiny", "--weights", work / "teacher")
    assert run("teacher_logits", *again, "--views", 2, "--out", work / "logits.h5") == 0
    assert "already complete" in capsys.readouterr().out
    assert (work / "logits.h5").read_bytes() == before
    for expected in ("note: it learns from labels alone: --logits or --online.teacher", "already complete"):
        assert student(work, tmp_path / "run") == 0
        assert expected in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_a_store_is_not_called_like_what_it_is_exported_to(work, tmp_path, capsys, suffix):
    given = ("--data", work / "fer2013.csv", "--teacher", "plain_resnet_tiny", "--weights", work / "teacher")
    assert run("teacher_logits", *given, "--out", tmp_path / f"logits{suffix}") == 2
    assert f"python -m distill.cache export then writes it as {suffix}" in failure(capsys)
    assert not list(tmp_path.iterdir())


def test_describe_data_counts_and_draws(work, tmp_path, capsys):
    picture = tmp_path / "faces.png"
    assert run("describe_data", "--data", work / "fer2013.csv", "--out", picture) == 0
    assert "42" in capsys.readouterr().out
    assert picture.stat().st_size > 5_000


def test_a_random_split_is_the_same_at_training_and_evaluation(work, tmp_path, capsys):
    out = tmp_path / "run"
    assert student(work, out, "--splits", "random", "--split-seed", 3) == 0
    counts = json.loads((out / "settings.json").read_text())["data"]
    assert (counts["train"]["images"], counts["validation"]["images"]) == (34, 8)
    assert run("evaluate", "--model", out, "--data", work / "fer2013.csv") == 0  # split as in training
    assert "on 8 validation images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--lambda", 1.5), r"lambda must lie in 0..1, received 1.5"),
        (("--lambda", 0.5), "needs a teacher's logits: give --logits"),
        (("--temperature", 0), "temperature must be above 0, received 0.0"),
        (("--student", "microexpnett"), 'unknown network "microexpnett": did you mean microexpnet'),
        (("--loss", "kd"), "did you mean nkd or dkd"),
        (("--classes", 8), "--classes 8 does not fit"),
        (("--student-options", "keep_prob", 0), "keep_prob must be above 0"),
        (("--splits", "other"), 'split policy must be "official" or "random", received "other"'),
        (("--epochs", 0), "epochs must be at least 1, received 0"),
        (("--batch-size", 0), "batch-size must be at least 1, received 0"),
        (("--schedule", "step"), 'unknown schedule "step": did you mean steps?'),
        (("--logits", "nowhere.h5"), "nowhere.h5"),
        (("--temperature", 4), "without a teacher's logits nothing uses --temperature: give --logits"),
        (("--ensemble-weights", 1, 2), "without a teacher's logits nothing uses --ensemble-weights: give --logits"),
        (
            ("--ensemble-mean", "logits", "--class-match", "names"),
            "nothing uses --ensemble-mean, --class-match: give",
        ),
        (("--logits",), "--logits names no file"),
        (("--view-order", "any"), 'unknown view-order "any": choose one of next, random'),
        (("--view-order", "random"), 'the view order "random" has no views to take from'),
        (("--views", 0), "views must be at least 1 (the untouched image), received 0"),
        (("--seed", -1), "seed must be 0 or more, and below 4294967296, received -1"),
    ],
)
def test_wrong_flags_of_train_student(work, tmp_path, capsys, flags, message):
    assert student(work, tmp_path / "run", *flags) == 2
    assert message in failure(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--ensemble-mean", "probabilities"), "are for several teachers, received"),
        (("--ensemble-weights", 1), "are for several teachers, received"),
        (("--class-match", "name"), 'class-match must be exact or names, received "name"'),
    ],
)
def test_wrong_flags_for_one_teacher(work, tmp_path, capsys, flags, message):
    assert student(work, tmp_path / "run", "--logits", work / "logits.h5", *flags) == 2
    assert message in failure(capsys)
    assert not (tmp_path / "run").exists()


def test_a_student_of_two_teachers_can_be_repeated_from_its_settings(work, tmp_path, capsys):
    both = ("--logits", work / "logits.h5", work / "logits.h5", "--view-order", "random")
    mixed = (*both, "--ensemble-weights", 0.6, 0.4, "--ensemble-mean", "probabilities")
    assert student(work, tmp_path / "run", *mixed) == 0
    record = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert record["teacher"]["mean"] == "probabilities"
    assert [teacher["weight"] for teacher in record["teacher"]["teachers"]] == [0.6, 0.4]
    capsys.readouterr()
    assert run("train_student", "--config", tmp_path / "run" / "settings.json") == 0
    assert "already complete" in capsys.readouterr().out
    assert student(work, tmp_path / "other", *both, "--ensemble-weights", 1) == 2
    assert "1 ensemble weights [1.0] for 2 teachers" in failure(capsys)


def test_unknown_teacher_offers_near_names(work, tmp_path, capsys):
    data = ("--data", work / "fer2013.csv", "--out", tmp_path / "run")
    assert run("train_teacher", *data, "--teacher", "facnet") == 2
    assert failure(capsys) == 'error: unknown network "facnet": did you mean facenet?'
    assert not (tmp_path / "run").exists()


def test_logits_of_another_data_set_are_refused(work, tmp_path, capsys):
    logits = ("--logits", work / "logits.h5", "--out", tmp_path / "run")
    assert run("train_student", "--data", work / "others.csv", *logits) == 2
    message = failure(capsys)
    assert "stored" in message
    assert "expected" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--views", 3), "3 views are wanted"),
        (("--view.rotation", 40), "rotation: stored 10.0, wanted 40.0"),
        (("--view.erase", 0.3), "erase: stored 0.0, wanted 0.3"),
    ],
)
def test_an_augmentation_that_the_teacher_never_scored_is_refused(work, tmp_path, capsys, flags, message):
    assert student(work, tmp_path / "run", "--logits", work / "logits.h5", *flags) == 2
    assert message in failure(capsys)
    assert not (tmp_path / "run").exists()


def test_training_that_diverges_says_so(work, tmp_path, capsys):
    assert student(work, tmp_path / "run", "--lr", 1e39, "--epochs", 3, "--schedule", "constant") == 2
    assert "try a smaller learning rate" in failure(capsys)
    assert not (tmp_path / "run" / "summary.json").exists()


def test_probabilities_are_not_taken_for_logits(work, tmp_path):
    from distill import InputError, cache_logits, open_dataset
    from teachers import PlainResNetTiny

    teacher = PlainResNetTiny(classifier_activation="softmax")
    with pytest.raises(InputError, match="ends in softmax: omit it, raw logits are needed"):
        cache_logits(teacher, open_dataset(work / "fer2013.csv"), tmp_path / "l.h5")


def test_pixels_that_are_neither_grey_nor_rgb_are_refused(work, tmp_path):
    from distill import InputError, cache_logits, open_dataset
    from teachers import PlainResNetTiny

    teacher = PlainResNetTiny(input_shape=(48, 48, 2))
    with pytest.raises(InputError, match=r"takes \[48, 48, 2\], expected images \[height, width, 1 or 3\]"):
        cache_logits(teacher, open_dataset(work / "fer2013.csv"), tmp_path / "l.h5")


def test_a_size_that_is_too_small_says_which_works(work, tmp_path, capsys):
    flags = ("--data", work / "fer2013.csv", "--teacher", "facenet", "--image-size", 34, "--out", tmp_path / "run")
    assert run("train_teacher", *flags) == 2
    assert "facenet needs images of at least 35x35" in failure(capsys)


def test_unlabelled_faces_cannot_choose_the_best_epoch(tmp_path, capsys):
    (tmp_path / "faces.csv").write_text("pixels\n" + "\n".join(["1 2 3 4"] * 10) + "\n")
    assert run("train_student", "--data", tmp_path / "faces.csv", "--out", tmp_path / "run") == 2
    assert "has no labels: give labelled images" in failure(capsys)


def test_logits_of_another_class_order_are_refused(work, tmp_path, capsys):
    folder = tmp_path / "data"
    rng = np.random.default_rng(0)
    from PIL import Image

    for split in ("train", "validation"):
        for name in "abcdefg":
            (folder / split / name).mkdir(parents=True)
            Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(folder / split / name / "1.png")
    assert run("train_student", "--data", folder, "--logits", work / "logits.h5", "--out", tmp_path / "run") == 2
    message = failure(capsys)
    assert "stored [angry, disgust, fear, happy, sad, surprise, neutral]" in message
    assert "expected [a, b, c, d, e, f, g]" in message


def test_weights_of_another_network_are_refused(work, tmp_path, capsys):
    flags = ("--data", work / "fer2013.csv", "--weights", work / "teacher", "--out", tmp_path / "l.h5")
    assert run("teacher_logits", *flags, "--teacher", "facenet") == 2
    message = failure(capsys)
    assert 'those of "plain_resnet_tiny", not of "facenet" (first difference: stem_conv [(3, 3, 1, 16)]' in message
    assert run("teacher_logits", *flags, "--teacher", "plain_resnet_tiny", "--image-size", 32) == 2
    assert "for images of 48x48, not 32x32" in failure(capsys)
    assert list(tmp_path.iterdir()) == []


def test_missing_or_damaged_weights_are_named(work, tmp_path, capsys):
    damaged = tmp_path / "damaged.keras"
    damaged.write_bytes(b"PK\x03\x04 and nothing more")
    for weights, message in ((tmp_path / "none", "does not exist"), (damaged, "not a Keras model")):
        flags = ("--data", work / "fer2013.csv", "--weights", weights, "--out", tmp_path / "l.h5")
        assert run("teacher_logits", *flags, "--teacher", "plain_resnet_tiny") == 2
        assert message in failure(capsys)
    assert not (tmp_path / "l.h5").exists()


@pytest.mark.parametrize("what", ["a file", "a folder of something else", "a run of other settings"])
def test_output_that_holds_something_else_is_left_alone(work, tmp_path, capsys, what):
    out = tmp_path / "out"
    if what == "a file":
        out.write_text("precious")
    elif what == "a folder of something else":
        out.mkdir()
        (out / "thesis.txt").write_text("precious")
    else:
        assert student(work, out, "--lr", 0.01) == 0
    before = sorted((path.name, path.stat().st_size) for path in tmp_path.rglob("*"))
    capsys.readouterr()
    assert student(work, out) == 2
    message = failure(capsys)
    assert str(out) in message
    if what == "a run of other settings":
        assert "recipe.lr: stored 0.01, now 0.001" in message
    assert sorted((path.name, path.stat().st_size) for path in tmp_path.rglob("*")) == before


def run_of_classes(work, out, class_names):
    """The run of the teacher, as if it had learned `class_names`."""
    settings = json.loads((work / "teacher" / "settings.json").read_text())
    settings["data"]["class_names"] = class_names
    out.mkdir()
    (out / "settings.json").write_text(json.dumps(settings))
    (out / "best.keras").write_bytes((work / "teacher" / "best.keras").read_bytes())
    return out


def test_a_teacher_of_another_order_of_classes_is_cached_in_its_own_and_matched_by_name(work, tmp_path, capsys):
    other = run_of_classes(work, tmp_path / "run", CLASS_ORDERS["fer2013"][::-1])
    logits = ("--teacher", "plain_resnet_tiny", "--weights", other, "--out", tmp_path / "l.h5")
    assert run("teacher_logits", "--data", work / "fer2013.csv", *logits) == 0
    assert "tells apart neutral, surprise, " in capsys.readouterr().out
    header = open_logits(tmp_path / "l.h5").header
    assert header.class_names == CLASS_ORDERS["fer2013"][::-1]
    assert header.class_order == "known"
    learned = ("--data", work / "fer2013.csv", "--logits", tmp_path / "l.h5", "--epochs", 1, "--out", tmp_path / "s")
    assert run("train_student", *learned) == 2
    assert "--class-match names" in failure(capsys)
    assert run("train_student", *learned, "--class-match", "names") == 0


def test_a_teacher_that_does_not_know_a_class_of_the_data_is_refused_before_it_is_asked(work, tmp_path, capsys):
    without_fear = ["contempt" if name == "fear" else name for name in CLASS_ORDERS["fer2013"]]
    other = run_of_classes(work, tmp_path / "run", without_fear)
    logits = ("--teacher", "plain_resnet_tiny", "--weights", other, "--out", tmp_path / "l.h5")
    assert run("teacher_logits", "--data", work / "fer2013.csv", *logits) == 2
    assert "no fear among the classes angry, disgust, contempt" in failure(capsys)
    assert not list(tmp_path.glob("l.h5*"))


def test_a_network_of_other_classes_is_not_evaluated(work, tmp_path, capsys):
    other = run_of_classes(work, tmp_path / "run", CLASS_ORDERS["fer2013"][::-1])
    assert run("evaluate", "--model", other, "--data", work / "fer2013.csv") == 2
    assert "was trained on the classes neutral, surprise" in failure(capsys)
    assert run("evaluate", "--model", work / "teacher", "--data", work / "fer2013.csv", "--split", "test") == 2
    assert "has no test split: it has train, validation" in failure(capsys)


def test_a_teacher_that_gives_nan_leaves_no_store(work, tmp_path, capsys):
    teacher = keras.saving.load_model(work / "teacher" / "best.keras")
    teacher.layers[-1].set_weights([weight * np.nan for weight in teacher.layers[-1].get_weights()])
    teacher.save(tmp_path / "nan.keras")
    flags = ("--data", work / "fer2013.csv", "--weights", tmp_path / "nan.keras", "--out", tmp_path / "l.h5")
    assert run("teacher_logits", *flags, "--teacher", "plain_resnet_tiny") == 2
    assert "not finite" in failure(capsys)
    assert not (tmp_path / "l.h5").exists()
