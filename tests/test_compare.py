"""The comparison from end to end on a few faces: what it trains, when it looks at the test split, what it refuses."""

import csv
import functools
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from PIL import Image

from distill.command_line.data_settings import DataSettings
from distill.command_line.ensemble_settings import ensemble_settings_of
from distill.command_line.stage import run_stage
from distill.compare import CompareSettings, compare, compare_students
from distill.data.open_dataset import open_dataset
from distill.data.splits import with_splits
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.evaluate import EvaluateSettings, evaluate
from distill.logit_store import Feature, LogitHeader, LogitWriter, open_logits
from distill.train_student import TrainStudentSettings, train_student
from distill.training.ensemble import CachedTeachers

STUDENT = "microexpnet_p12_xxs"
SMALL = ("--students", STUDENT, "--image-size", 12, "--epochs", 1)
GRID = ("--losses", "hinton", "--temperatures", 2, 4, "--lambdas", 0, 0.5, "--seeds", 2)
VIEWS, MIXED = ViewSpec(rotation=5), ViewSpec(rotation=5, mixup=0.5)
CELLS = [f"{STUDENT}-{how}" for how in ("labels-alone", "hinton-T2-lambda0.5", "hinton-T4-lambda0.5")]


def run(*args, stage=compare, settings=CompareSettings) -> int:
    with pytest.raises(SystemExit) as ended:
        run_stage(stage, settings, [str(arg) for arg in args])
    return ended.value.code


def write_faces(path) -> None:
    rng = np.random.default_rng(0)
    with open(path, "w") as file:
        file.write("emotion,pixels,Usage\n")
        for usage, count in (("Training", 28), ("PublicTest", 14), ("PrivateTest", 14)):
            for row in range(count):
                pixels = " ".join(map(str, rng.integers(0, 256, 12 * 12)))
                file.write(f"{row % 7},{pixels},{usage}\n")


def write_logits(path, dataset, view_spec=VIEWS, features=(), sha256="0" * 64) -> None:
    """What a teacher might have said of the images of `dataset` that teach, in two views."""
    taught = dataset.split("train")
    header = LogitHeader(
        class_names=taught.class_names,
        views=2,
        view_spec=view_spec.to_dict(),
        features=features,
        teacher_name="teacher",
        teacher_sha256=sha256,
        teacher_input_shape=(48, 48, 1),
        numeric_policy="float32",
        dataset_fingerprint=taught.fingerprint,
        dataset_name=taught.name,
    )
    columns = {"content_hashes": taught.content_hashes, "labels": taught.labels}
    writer = LogitWriter(path, header, sample_ids=taught.ids, **columns)
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (len(taught), 2, 7)).astype(np.float32)
    values = {each.name: rng.normal(size=(len(taught), 2, *each.shape)).astype(np.float32) for each in features}
    for rows in writer.missing():
        writer.write(rows, logits[rows], {name: of_all[rows] for name, of_all in values.items()})
    writer.finish()


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data and logits."""
    folder = tmp_path_factory.mktemp("work")
    write_faces(folder / "fer2013.csv")
    write_logits(folder / "logits.h5", open_dataset(folder / "fer2013.csv"))
    return folder


def base(work) -> tuple:
    return ("--data", work / "fer2013.csv", "--logits", work / "logits.h5", *SMALL)


@pytest.fixture(scope="module")
def compared(work):
    """The folder of a comparison of two cells, which was interrupted in its third run, and went on."""
    import distill.training.train as module

    out, begun, train = work / "compared", [], module.train

    def interrupted(*args, **how):
        begun.append(how["out"])
        if len(begun) == 3:
            raise KeyboardInterrupt
        return train(*args, **how)

    module.train = interrupted
    try:
        assert run(*base(work), *GRID, "--out", out) == 130
        assert sorted(path.name for path in out.iterdir()) == ["runs"]
        assert run(*base(work), *GRID, "--out", out) == 0
    finally:
        module.train = train
    assert len(begun) == 3 + 6, "every run is opened once more, finished or not"
    return out


def report_of(out) -> dict:
    return json.loads((out / "comparison.json").read_text())


def failure(capsys) -> str:
    """The one line that a command printed as its error."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, lines
    return lines[0]


def squared(student_logits, teacher_logits, sharp=1.0):
    return sharp * np.sum((student_logits - teacher_logits) ** 2, axis=-1)


sharply = functools.partial(squared, sharp=100.0)


def test_a_loss_at_its_usual_weights_is_the_one_that_is_named():
    named = f"{__name__}:sharply"
    settings = CompareSettings(
        data="", logits=("a.h5",), out="", losses=(), usual_losses=(named, f"{__name__}:squared")
    )
    cells = [cell for cell in settings.cells if cell.is_taught]
    assert [cell.loss for cell in cells] == [named, f"{__name__}:squared"]
    objective = settings.loss_settings(cells[0]).objective(epochs=1, taught=True)
    assert objective.loss.options == {"sharp": 100.0}


class TestWhatIsLeft:
    def test_labels_alone_is_trained_once_for_every_seed(self, compared):
        left = sorted(path.parent.name for path in (compared / "runs").glob("*/summary.json"))
        assert left == sorted(f"{cell}-{seed}" for cell in CELLS for seed in (0, 1))

    def test_both_arms_go_through_the_same_views(self, compared):
        for path in (compared / "runs").glob("*/settings.json"):
            record = json.loads(path.read_text())
            assert record["views"] == {"spec": ViewSpec(rotation=5).to_dict(), "number": 2}, path
            assert (record["teacher"] is None) == ("labels-alone" in str(path))

    @pytest.mark.parametrize("name", [f"{CELLS[0]}-1", f"{CELLS[2]}-0"])
    def test_a_run_is_what_train_student_makes_of_its_settings(self, compared, name, capsys):
        folder = compared / "runs" / name
        given = ("--config", folder / "settings.json", "--out", folder)
        assert run(*given, stage=train_student, settings=TrainStudentSettings) == 0
        assert "is already complete" in capsys.readouterr().out

    def test_the_report_and_the_tables_hold_the_accuracies_of_the_runs(self, compared):
        report = report_of(compared)
        with open(compared / "runs.csv", newline="") as file:
            runs = {row["run"]: row for row in csv.DictReader(file)}
        with open(compared / "cells.csv", newline="") as file:
            cells = list(csv.DictReader(file))
        summaries = {
            name: json.loads((compared / "runs" / name / "summary.json").read_text())["validation_accuracy"]
            for name in runs
        }
        for cell, row, name in zip(report["cells"], cells, CELLS, strict=True):
            expected = mean(summaries[f"{name}-{seed}"] for seed in (0, 1))
            assert cell["mean"] == float(row["mean"]) == pytest.approx(expected)
            gain = expected - mean(summaries[f"{CELLS[0]}-{seed}"] for seed in (0, 1))
            assert float(row["difference"]) == pytest.approx(gain)
        assert [float(runs[name]["validation_accuracy"]) for name in summaries] == list(summaries.values())
        assert sum(cell["best"] for cell in report["cells"]) == 1
        assert report["tested"] == {}
        assert {"tensorflow", "keras"} <= report["versions"].keys()
        with Image.open(compared / "heat_map.png") as picture:
            assert picture.width > 400

    def test_all_files_that_are_named_in_the_end_are_there_and_no_other(self, work, compared, tmp_path, capsys):
        usual = ("--losses", "--usual-losses", "wttm", "--seeds", 1, "--out", tmp_path / "usual")  # no grid to draw
        (tmp_path / "usual").mkdir()
        (tmp_path / "usual" / "heat_map.png").write_bytes(b"of other cells, by an earlier call")
        assert run(*base(work), *usual) == 0
        named = capsys.readouterr().out.splitlines()[-1]
        left = sorted(path.name for path in (tmp_path / "usual").iterdir())
        assert named == f"in {tmp_path / 'usual'}: comparison.json, cells.csv, runs.csv and runs/"
        assert left == ["cells.csv", "comparison.json", "runs", "runs.csv"]

    def test_images_without_a_label_are_said_to_teach_the_distilled_alone(self, work, tmp_path, capsys):
        dataset = open_dataset(work / "fer2013.csv")
        taught = np.flatnonzero(dataset.splits == "train")
        without = replace(dataset, labels=np.where(np.isin(np.arange(len(dataset)), taught[::2]), -1, dataset.labels))
        write_logits(tmp_path / "logits.h5", without)
        how = {
            "students": STUDENT,
            "image_size": 12,
            "epochs": 1,
            "losses": "hinton",
            "temperatures": 2.0,
            "lambdas": 0.5,
        }
        compare_students(without, logits=tmp_path / "logits.h5", out=tmp_path / "out", **how, seeds=1)
        assert "14 of the 28 training images have no label: labels alone learn" in capsys.readouterr().out

    def test_the_same_command_again_trains_nothing_and_prints_the_table(self, compared, capsys):
        before = {path: path.stat().st_mtime_ns for path in compared.glob("runs/*/*")}
        assert run("--config", compared / "comparison.json") == 0
        assert {path: path.stat().st_mtime_ns for path in compared.glob("runs/*/*")} == before
        printed = capsys.readouterr().out
        assert "run 6 of 6: " in printed
        assert "left" not in printed
        table = [line for line in printed.splitlines() if line.startswith(f"{STUDENT}  ")]
        assert len(table) == 3
        assert sum(line.endswith("best") for line in table) == 1
        assert f"{STUDENT}: best of 2 cells, chosen on validation" in printed

    @pytest.mark.parametrize("shared", [False, True])
    def test_other_settings_than_those_of_its_runs_are_reported_before_a_new_run_begins(
        self, work, compared, capsys, monkeypatch, shared
    ):
        monkeypatch.setattr(CompareSettings, "cluster", lambda settings: nullcontext(shared))
        monkeypatch.setattr("distill.compare.train_in_cluster", lambda *args, **how: pytest.fail("it began"))
        assert run(*base(work), *GRID, "--lambdas", 0.2, 0.5, "--lr", 0.1, "--out", compared) == 2
        assert "holds a run with other settings (recipe.lr: stored 0.001, now 0.1)" in failure(capsys)
        assert len(list((compared / "runs").iterdir())) == 6

    def test_time_left_is_estimated_from_the_runs_that_were_trained(self, work, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr("distill.command_line.student_training.train_one", lambda *args, **how: None)
        with pytest.raises(FileNotFoundError):  # nothing was trained
            compare(
                CompareSettings(data=str(work / "fer2013.csv"), out=str(tmp_path), logits=(str(work / "logits.h5"),))
            )
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("run ")]
        assert lines[0] == "run 1 of 21: microexpnet-hinton-T2-lambda0.5-0"
        assert lines[1] == "run 2 of 21, about 00:00 left: microexpnet-hinton-T2-lambda0.9-0"


class Untouchable:
    """Images of which those at `forbidden` raise when they are read."""

    def __init__(self, images, forbidden):
        self.images, self.forbidden, self.shape = images, forbidden, images.shape

    def __len__(self):
        return len(self.images)

    def read(self, indices):
        if self.forbidden[indices].any():
            raise AssertionError("the test split was read")
        return self.images.read(indices)


class TestFeaturesAndMixedPictures:
    FEATURE = ("--feature-losses", "hint", "--feature-layers", "dense=pool", "--feature-weights", 0.1)

    @pytest.fixture(scope="class")
    @staticmethod
    def stores(work):
        """Logits and a feature of the same images, in plain views and in mixed ones."""
        dataset, pool = open_dataset(work / "fer2013.csv"), (Feature("pool", (4,), "float32"),)
        for name, spec in (("plain", VIEWS), ("mixed", MIXED)):
            write_logits(work / f"{name}.h5", dataset, spec, pool)
        return ("--logits", work / "plain.h5", "--other-view-logits", work / "mixed.h5")

    @pytest.fixture(scope="class")
    @staticmethod
    def everything(work, stores):
        """A comparison of labels, logits, features and both in plain views, to which mixed ones were added."""
        grid = ("--temperatures", 2, "--lambdas", 0.9, "--seeds", 1, "--labels-epochs", 2)
        given = (*base(work), *stores, *TestFeaturesAndMixedPictures.FEATURE, *grid, "--out", work / "everything")
        assert run(*given, "--other-view-logits") == 0
        before = {path: path.stat().st_mtime_ns for path in (work / "everything").glob("runs/*/*")}
        assert run(*given) == 0
        assert {path: path.stat().st_mtime_ns for path in before} == before, "trained once more"
        return given

    def test_every_objective_is_trained_in_all_views(self, work, everything):
        left = {path.parent.name for path in (work / "everything" / "runs").glob("*/summary.json")}
        learned = ("labels-alone", "hinton-T2-lambda0.9", "labels-hint0.1", "hinton-T2-lambda0.9-hint0.1")
        learned = (*learned, "labels-alone-2-epochs")
        assert left == {f"{STUDENT}{views}-{how}-0" for views in ("", "-mixed") for how in learned}
        for path in (work / "everything" / "runs").glob("*/settings.json"):
            record, name = json.loads(path.read_text()), path.parent.name
            assert record["views"]["spec"] == (MIXED if "mixed" in name else VIEWS).to_dict(), name
            # Which images mixed ones are mixed with, a store alone says.
            assert (record["teacher"] is None) == ("labels-alone" in name and "mixed" not in name)
            assert record["objective"]["formula"].startswith("CE(y, s)") == ("labels" in name), name
            assert ("features" in record["objective"]) == ("hint0.1" in name)
            assert record["recipe"]["epochs"] == (2 if "2-epochs" in name else 1)

    @pytest.mark.parametrize(
        "name", ["labels-hint0.1-0", "mixed-hinton-T2-lambda0.9-hint0.1-0", "mixed-labels-alone-0"]
    )
    def test_a_run_is_what_train_student_makes_of_its_settings(self, work, everything, name, capsys):
        folder = work / "everything" / "runs" / f"{STUDENT}-{name}"
        given = ("--config", folder / "settings.json", "--out", folder)
        assert run(*given, stage=train_student, settings=TrainStudentSettings) == 0
        assert "is already complete" in capsys.readouterr().out

    def test_the_table_says_views_and_features_and_the_same_command_trains_nothing(self, work, everything, capsys):
        before = {path: path.stat().st_mtime_ns for path in (work / "everything").glob("runs/*/*")}
        assert run(*everything) == 0
        assert {path: path.stat().st_mtime_ns for path in (work / "everything").glob("runs/*/*")} == before
        table = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(f"{STUDENT}  ")]
        assert [line[1] for line in table] == ["-"] * 5 + ["mixed"] * 5
        assert sum("hint" in line for line in table) == 4
        report = report_of(work / "everything")
        assert set(report["other_views"]) == {"mixed"}
        with Image.open(work / "everything" / "heat_map.png") as picture:
            assert picture.width > 400

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (("--feature-losses", "hints"), 'unknown loss on features "hints"'),
            (("--feature-layers",), "compares layers, and none is named"),
            (("--feature-layers", "dens=pool"), 'reads the layer "dens", which microexpnet'),
            (("--feature-layers", "dense=pol"), "reads features/pol of the teacher plain.h5, which has"),
            (("--feature-weights", -1), "the weight of hint must be above 0, received -1"),
            (("--feature-losses",), "nothing uses --feature-layers and --feature-weights: give --feature-losses"),
            (("--labels-epochs", 0), "labels-epochs must be at least 1, received 0"),
            (("--other-view-logits", "nowhere.h5"), "nowhere.h5 does not exist"),
            (
                ("--logits", "a.h5", "b.h5"),
                "--other-view-logits are as many stores as --logits, 2, or a multiple: received 1",
            ),
            (
                ("--other-view-logits", "mixed.h5", "x/mixed.h5"),
                "two of --other-view-logits are called mixed: rename the file",
            ),
        ],
    )
    def test_what_nothing_would_use_or_nobody_has_is_refused(self, work, stores, tmp_path, capsys, flags, message):
        given = (*base(work), *stores, *self.FEATURE)
        assert run(*given, "--out", tmp_path / "out", *flags) == 2
        assert message in failure(capsys)
        assert not list(tmp_path.glob("out/runs/*/*"))


class TestTheTestSplit:
    @pytest.fixture
    def guarded(self, work, monkeypatch):
        """Settings of two runs, on data whose test images raise when they are read."""
        dataset = open_dataset(work / "fer2013.csv")
        images = Untouchable(dataset.images, dataset.splits == "test")
        monkeypatch.setattr(DataSettings, "open", lambda self: replace(dataset, images=images))
        return CompareSettings(
            data="guarded",
            logits=(str(work / "logits.h5"),),
            out=str(work / "guarded"),
            students=(STUDENT,),
            temperatures=(4.0,),
            lambdas=(0.5,),
            seeds=1,
            epochs=1,
            image_size=12,
        )

    def test_is_read_with_its_flag_alone_after_everything_else(self, guarded):
        report = compare(guarded)
        assert report["test"] == []
        with pytest.raises(AssertionError, match="the test split was read"):
            compare(replace(guarded, test=True))

    def test_evaluates_the_chosen_cell_and_labels_alone_once(self, work, compared, capsys, monkeypatch):
        assert run(*base(work), *GRID, "--out", compared, "--test") == 0
        printed = capsys.readouterr().out
        report = report_of(compared)
        chosen = next(name for cell, name in zip(report["cells"], CELLS, strict=True) if cell["best"])
        assert set(report["tested"]) == {f"{name}-{seed}" for name in (CELLS[0], chosen) for seed in (0, 1)}
        name, accuracy = next(iter(report["tested"].items()))
        model = ("--model", compared / "runs" / name, "--data", work / "fer2013.csv", "--out", work / "evaluation")
        assert run(*model, "--split", "test", stage=evaluate, settings=EvaluateSettings) == 0
        (model,) = json.loads((work / "evaluation" / "evaluation.json").read_text())["models"]
        assert model["accuracy"] == accuracy
        gain, alone = report["test"][1], report["test"][0]
        assert gain["difference"] == pytest.approx(gain["mean"] - alone["mean"])
        table = printed.split("on the test split:\n")[1]

        def twice(*args, **how):
            raise AssertionError("the test split was used twice")

        monkeypatch.setattr("distill.experiments.comparison_folder.evaluate_model", twice)
        assert run(*base(work), *GRID, "--out", compared, "--test") == 0
        assert capsys.readouterr().out.split("on the test split:\n")[1] == table
        assert report_of(compared)["tested"] == report["tested"]

        # Whoever goes on with another grid has seen the test split.
        for flags in (("--temperatures", 4), ("--seeds", 3, "--test")):
            assert run(*base(work), *GRID, "--out", compared, *flags) == 2
            message = failure(capsys)
            assert "was measured on the test split, which closed it (settings." in message
            assert "name a new folder" in message

    def test_of_other_images_is_not_taken_for_the_one_that_was_measured(self, work, tmp_path, capsys):
        given = (*base(work), *GRID, "--lambdas", 0.5, "--seeds", 1, "--out", tmp_path / "out", "--test")
        assert run(*given) == 0
        report = report_of(tmp_path / "out")
        lines = (work / "fer2013.csv").read_text().splitlines()
        others = [line for line in lines if "PrivateTest" in line][:-1]
        (tmp_path / "fer2013.csv").write_text("\n".join([*lines[:-14], *others]))
        assert run(*given, "--data", tmp_path / "fer2013.csv") == 2
        assert "was measured on another test split than that of " in failure(capsys)
        assert report_of(tmp_path / "out") == report
        for earlier in ("tested_on", "metric", "diverged"):  # which reports of before do not have
            report.pop(earlier)
        (tmp_path / "out" / "comparison.json").write_text(json.dumps(report))
        assert run(*given) == 0
        assert report_of(tmp_path / "out")["tested"] == report["tested"]

    def test_must_be_there_to_be_used(self, work, tmp_path, capsys):
        lines = (work / "fer2013.csv").read_text().splitlines()
        (tmp_path / "fer2013.csv").write_text("\n".join(line for line in lines if "PrivateTest" not in line))
        data = ("--data", tmp_path / "fer2013.csv", "--out", tmp_path / "out")
        assert run(*base(work), *data, "--test") == 2
        assert "has no test split: it has train, validation" in failure(capsys)
        assert not (tmp_path / "out").exists()


def diverging(*, student_logits, teacher_logits):
    """A loss of one's own that is not finite."""
    import keras

    return keras.ops.sum(student_logits, axis=-1) * float("nan")


class TestDivergedRuns:
    GRID = ("--losses", f"{__name__}:diverging", "hinton", "--temperatures", 2, "--lambdas", 0.5, "--seeds", 1)

    @pytest.fixture(autouse=True)
    def _own_loss(self, monkeypatch):
        monkeypatch.syspath_prepend(Path(__file__).parents[1])

    def test_the_others_are_trained_and_reported(self, work, tmp_path, capsys):
        given = (*base(work), *self.GRID, "--out", tmp_path / "out")
        for _ in range(2):  # the second time finds all others finished
            assert run(*given, "--test") == 2
            assert "1 of 3 runs diverged, such as " in failure(capsys)
            report = report_of(tmp_path / "out")
            assert [cell["loss"] for cell in report["cells"]] == ["labels alone", "hinton"]
            ((name, why),) = report["diverged"].items()
            assert name == f"{STUDENT}-{__name__}.diverging-lambda0.5-0", "no folder may hold a : everywhere"
            assert why.startswith("the loss of epoch 1 is nan")
            assert report["tested"] == {}, "what is missing might be better"

    def test_without_labels_alone_there_is_nothing_to_compare_with(self, work, tmp_path, capsys):
        given = (*base(work), "--lr", 1e30, "--lambdas", 0.5, "--temperatures", 2, "--seeds", 1)
        assert run(*given, "--out", tmp_path / "out") == 2
        said = failure(capsys)
        assert said.startswith("error: 2 of 2 runs diverged, such as ")
        assert said.endswith("are all there are, so that no table was written")
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["runs"]


def test_cells_are_compared_by_what_their_epochs_were_chosen_by(work, tmp_path, capsys):
    given = (*base(work), *GRID, "--lambdas", 0.5, "--seeds", 1, "--choose-by", "balanced-accuracy")
    assert run(*given, "--out", tmp_path / "out", "--test") == 0
    printed, report = capsys.readouterr().out, report_of(tmp_path / "out")
    assert "validation balanced accuracy" in printed
    assert "test balanced accuracy" in printed
    assert f"{STUDENT}: best of 2 cells by balanced accuracy, chosen on validation" in printed
    for cell, row in zip(report["cells"], report["runs"], strict=True):
        assert cell["mean"] == row["validation_balanced_accuracy"]
    name, found = next(iter(report["tested"].items()))
    model = ("--model", tmp_path / "out" / "runs" / name, "--data", work / "fer2013.csv", "--out", tmp_path / "e")
    assert run(*model, "--split", "test", stage=evaluate, settings=EvaluateSettings) == 0
    (model,) = json.loads((tmp_path / "e" / "evaluation.json").read_text())["models"]
    assert model["balanced_accuracy"] == found


class TestTheLibrary:
    SMALL = {"students": STUDENT, "image_size": 12, "epochs": 1, "seeds": 1, "lambdas": 0.5}

    @pytest.fixture(scope="class")
    @staticmethod
    def faces(work):
        return with_splits(open_dataset(work / "fer2013.csv"))

    @pytest.fixture(scope="class")
    @staticmethod
    def two_stores(work, faces):
        for number in (1, 2):
            write_logits(work / f"teacher{number}.h5", faces, sha256=f"{number}" * 64)
        return [open_logits(work / f"teacher{number}.h5") for number in (1, 2)]

    def test_takes_one_value_or_an_array_where_there_are_several(self, work, faces, tmp_path):
        store = open_logits(work / "logits.h5")
        report = compare_students(faces, store, out=tmp_path, temperatures=np.array([2.0, 4.0]), **self.SMALL)
        assert [cell["temperature"] for cell in report["cells"]] == [None, 2.0, 4.0]

    def test_cached_teachers_teach_as_they_say(self, faces, two_stores, tmp_path):
        together = CachedTeachers(two_stores, weights=(3.0, 1.0), mean="probabilities")
        compare_students(faces, together, out=tmp_path, temperatures=2.0, **self.SMALL)
        (record,) = tmp_path.glob("runs/*-hinton-*/settings.json")
        teacher = json.loads(record.read_text())["teacher"]
        assert [each["weight"] for each in teacher["teachers"]] == [0.75, 0.25]
        assert teacher["mean"] == "probabilities"
        assert ensemble_settings_of(CachedTeachers(two_stores)) == {}, "a comparison by the command is the same one"
        with pytest.raises(InputError, match="the CachedTeachers say ensemble_weights: omit that"):
            compare_students(faces, together, out=tmp_path, ensemble_weights=(1.0, 1.0), **self.SMALL)

    @pytest.mark.parametrize("settings", [{"splits": "random"}, {"class_map": ("angry=other",)}, {"data": "x"}])
    def test_settings_of_data_that_is_open_are_refused(self, work, faces, tmp_path, settings):
        with pytest.raises(InputError, match="is a setting of data that the command opens"):
            compare_students(faces, open_logits(work / "logits.h5"), out=tmp_path, **settings)

    @pytest.mark.parametrize("order", [(1, 0), (0, 0)])
    def test_other_views_are_those_of_the_same_teachers_in_the_same_order(
        self, work, faces, two_stores, tmp_path, order
    ):
        for number in (1, 2):
            write_logits(tmp_path / f"mixed{number}.h5", faces, MIXED, sha256=f"{number}" * 64)
        others = tuple(str(tmp_path / f"mixed{number + 1}.h5") for number in order)
        with pytest.raises(InputError, match="the stores of --other-view-logits are of other teachers"):
            compare_students(faces, two_stores, out=tmp_path / "out", other_view_logits=others, **self.SMALL)
        assert not (tmp_path / "out").exists()


class TestWhatIsRefused:
    def test_values_that_differ_by_too_little_to_name_runs(self, work, tmp_path, capsys):
        assert run(*base(work), "--out", tmp_path / "out", "--temperatures", 2, 2.0000001) == 2
        message = f"two cells of the grid are called {STUDENT}-hinton-T2-lambda0.5: give values that differ by more"
        assert message in failure(capsys)

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (("--students", "microexpent"), 'unknown network "microexpent": did you mean microexpnet'),
            (("--losses", "hintn"), 'unknown loss "hintn"'),
            (("--students",), "--students is empty: give at least one"),
            (("--losses",), "--losses is empty: give at least one"),
            (("--temperatures",), "--temperatures is empty: give at least one"),
            (("--lambdas",), "--lambdas is empty: give at least one"),
            (("--logits",), "--logits is empty: give at least one"),
            (("--lambdas", 0), "--lambdas 0 is labels alone, which is always trained: give one above 0"),
            (("--lambdas", 0.5, 1.5), "lambda must lie in 0..1, received 1.5"),
            (("--lambdas", -0.5), "lambda must lie in 0..1, received -0.5"),
            (("--lambdas", "nan"), "lambda must lie in 0..1, received nan"),
            (("--temperatures", 4, 0), "temperature must be above 0, received 0.0"),
            (
                ("--losses", "mse", "--temperatures", 2, 4),
                "no temperature reaches the loss mse: omit --temperatures",
            ),
            (("--seeds", 0), "seeds must be at least 1, received 0"),
            (("--epochs", 0), "epochs must be at least 1, received 0"),
            (("--seed", 2**32 - 1), "seed must be 0 or more, and below 4294967296, received 4294967296"),
            (("--image-size", 0), "0"),
            (("--logits", "nowhere.h5"), "nowhere.h5 does not exist"),
            (("--ensemble-mean", "logits", "--ensemble-weights", 1), "are for several teachers"),
            (("--view.rotation", 3), "were cached with other views (rotation: stored 5"),
        ],
    )
    def test_wrong_settings_are_refused_before_anything_is_trained(self, work, tmp_path, capsys, flags, message):
        assert run(*base(work), "--out", tmp_path / "out", *flags) == 2
        assert message in failure(capsys)
        assert not list(tmp_path.glob("out/runs/*/*"))

    def test_a_mean_that_one_loss_cannot_use_is_refused_before_another_is_trained(self, work, tmp_path, capsys):
        store = dict(zip(base(work)[::2], base(work)[1::2], strict=False))["--logits"]
        flags = ("--logits", store, store, "--losses", "hinton", "mse", "--ensemble-mean", "probabilities")
        assert run(*base(work), "--out", tmp_path / "out", *flags) == 2
        assert "--ensemble-mean probabilities needs a loss with a temperature" in failure(capsys)
        assert not list(tmp_path.glob("out/runs/*/*"))

    def test_a_folder_of_something_else_stays_as_it_is(self, work, tmp_path, capsys):
        (tmp_path / "holidays.png").write_bytes(b"")
        assert run(*base(work), "--out", tmp_path) == 2
        assert "holds holidays.png, which is not of a comparison: name a new folder" in failure(capsys)
        assert run(*base(work), "--out", tmp_path / "holidays.png") == 2
        assert "is a file: name a new folder" in failure(capsys)
        assert [path.name for path in tmp_path.iterdir()] == ["holidays.png"]

    @pytest.mark.parametrize("content", ["{", "[]", "{}", '{"tested": 3}'])
    def test_a_damaged_report_is_reported(self, work, tmp_path, capsys, content):
        (tmp_path / "comparison.json").write_text(content)
        assert run(*base(work), "--out", tmp_path) == 2
        assert "comparison.json is not a report of a comparison" in failure(capsys)


def test_a_loss_without_a_temperature_is_trained_once_for_every_lambda(work, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(
        "distill.command_line.student_training.train_one",
        lambda settings, *args, **how: trained.append(Path(settings.out).name),
    )
    with pytest.raises(FileNotFoundError):  # nothing was trained
        compare(
            CompareSettings(
                data=str(work / "fer2013.csv"),
                out=str(tmp_path),
                logits=(str(work / "logits.h5"),),
                losses=("hinton", "mse"),
                temperatures=(2.0, 4.0),
                lambdas=(0.5,),
                seeds=1,
            )
        )
    assert trained == [
        *("microexpnet-hinton-T2-lambda0.5-0", "microexpnet-hinton-T4-lambda0.5-0", "microexpnet-mse-lambda0.5-0"),
        "microexpnet-labels-alone-0",
    ]
