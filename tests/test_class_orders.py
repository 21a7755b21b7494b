"""External networks whose classes stand in another order, or whose pixels have another range: what is said.

The network is a classifier by nearest mean brightness, as a dense layer: of a face of brightness x it gives
x c - c^2 / 2 for the brightness c of every class, so that it is right unless noise decides.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from distill.cache import VERBS
from distill.command_line.stage import run_stage, run_stages
from distill.data.expressions import CLASS_ORDERS
from distill.data.open_dataset import open_dataset
from distill.errors import InputError
from distill.evaluate import EvaluateSettings, evaluate
from distill.evaluation.side_by_side import open_teacher
from distill.export import ExportSettings, export
from distill.logit_store import Shard, open_logits
from distill.prediction.exported_model import open_exported
from distill.runtimes.foreign_network import ForeignNetwork
from distill.runtimes.input_format import InputFormat
from distill.scoring.caching import cache_logits
from distill.teacher_logits import TeacherLogitsSettings, teacher_logits
from distill.train_student import TrainStudentSettings, train_student

NAMES = CLASS_ORDERS["fer2013"]
ALPHABETICAL = tuple(sorted(NAMES))
VERSION_0_1 = Path(__file__).parent / "version_0_1"
STORE = VERSION_0_1 / "logits.h5"
RANGE = ("--input.range", "-1", "1")
ADVICE = f"--classes {','.join(ALPHABETICAL)} (alphabetical)"


def brightness(name: str) -> float:
    """Of the faces of a class, on the scale -1..1."""
    return (NAMES.index(name) - 3) / 4


def write_faces(path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["emotion,pixels,Usage"]
    for row in range(420):
        level = 127.5 + 127.5 * brightness(NAMES[row % 7])
        pixels = np.clip(level + rng.normal(0, 12, 1) + rng.normal(0, 10, 64), 0, 255).astype(int)
        usage = "Training" if row < 280 else "PublicTest"
        lines.append(f"{row % 7},{' '.join(map(str, pixels))},{usage}")
    path.write_text("\n".join(lines) + "\n")


def write_network(path: Path) -> None:
    """Save the network with its classes in alphabetical order; it takes pixels -1..1."""
    centres = np.array([brightness(name) for name in ALPHABETICAL])
    inputs = keras.Input((8, 8, 1))
    dense = keras.layers.Dense(7, activation="softmax")
    model = keras.Model(inputs, dense(keras.layers.GlobalAveragePooling2D()(inputs)))
    dense.set_weights([64 * centres[None], -32 * centres**2])
    model.save(path)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with faces and the network, which is also the function `theirs_as_function:score`."""
    folder = tmp_path_factory.mktemp("orders")
    write_faces(folder / "fer2013.csv")
    write_network(folder / "theirs.keras")
    (folder / "theirs_as_function.py").write_text(
        f"import keras\nnetwork = keras.saving.load_model({str(folder / 'theirs.keras')!r}).predict_on_batch\n"
        "def score(images):\n    return network(images)\n"
    )
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


def call(stage, settings_class, *args) -> int:
    with pytest.raises(SystemExit) as ended:
        run_stage(stage, settings_class, [str(arg) for arg in args])
    return ended.value.code


def cache(*args) -> int:
    with pytest.raises(SystemExit) as ended:
        run_stages("cache", VERBS, [str(arg) for arg in args])
    return ended.value.code


def write_logits(work, out, *flags, views=1) -> int:
    network = ("--teacher", work / "theirs.keras", "--data", work / "fer2013.csv")
    return call(teacher_logits, TeacherLogitsSettings, *network, "--out", out, "--views", views, *flags)


@pytest.fixture(scope="module")
def assumed(work):
    """A store of which nobody said the order of the classes."""
    assert write_logits(work, work / "assumed.h5", *RANGE) == 0
    return work / "assumed.h5"


def true_accuracy(work) -> float:
    """What the network is right in when it is described as it is, without this project's ways to run it."""
    dataset = open_dataset(work / "fer2013.csv")
    pixels = dataset.read(np.arange(len(dataset))).astype(np.float32) / 127.5 - 1
    said = keras.saving.load_model(work / "theirs.keras").predict(pixels, verbose=0).argmax(1)
    return np.mean([ALPHABETICAL[each] == NAMES[label] for each, label in zip(said, dataset.labels, strict=True)])


class TestTeacherLogits:
    def test_warns_that_another_order_fits_and_records_that_it_was_assumed(self, work, tmp_path, capsys):
        assert write_logits(work, tmp_path / "l.h5", *RANGE) == 0
        said = capsys.readouterr().out
        assert "note: the class order of theirs is assumed" in said
        assert f"{true_accuracy(work):.1%} instead of " in said
        assert ADVICE in said
        assert open_logits(tmp_path / "l.h5").header.class_order == "assumed"

    def test_names_the_pixels_too(self, work, tmp_path, capsys):
        assert write_logits(work, tmp_path / "l.h5") == 0
        said = capsys.readouterr().out
        assert f"with --input.range -1 1 {ADVICE}" in said
        assert said.count("warning: ") == 1  # not again of the logits, which are near chance

    @pytest.mark.parametrize("classes", ["alphabetical", ",".join(ALPHABETICAL)])
    def test_is_silent_where_all_is_said(self, work, tmp_path, capsys, classes):
        assert write_logits(work, tmp_path / "l.h5", *RANGE, "--classes", classes) == 0
        said = capsys.readouterr().out
        assert f"accuracy   {true_accuracy(work):.1%} of 420 labelled images" in said
        assert "assumed" not in said
        assert "warning" not in said
        header = open_logits(tmp_path / "l.h5").header
        assert (header.class_names, header.class_order) == (ALPHABETICAL, "given")

    def test_reports_the_accuracy_of_a_store_that_is_complete(self, work, assumed, capsys):
        assert write_logits(work, assumed, *RANGE) == 0
        said = capsys.readouterr().out
        assert "is already complete" in said
        assert "accuracy   " in said
        assert ADVICE in said

    def test_the_classes_of_a_run_are_known(self, tmp_path):
        for name in ("best.keras", "settings.json"):
            (tmp_path / name).write_bytes((VERSION_0_1 / "labels_alone" / name).read_bytes())
        record = json.loads((tmp_path / "settings.json").read_text())
        record["class_names"] = record["class_names"][::-1]
        (tmp_path / "settings.json").write_text(json.dumps(record))
        flags = ("--data", VERSION_0_1 / "faces", "--views", 1, "--out", tmp_path / "l.h5")
        assert call(teacher_logits, TeacherLogitsSettings, "--teacher", tmp_path / "best.keras", *flags) == 0
        header = open_logits(tmp_path / "l.h5").header
        assert (header.class_names, header.class_order) == (tuple(record["class_names"]), "known")

    def test_one_shard_that_was_given_the_order_passes_it_to_the_others(self, work, tmp_path, capsys):
        dataset = open_dataset(work / "fer2013.csv")
        for number, classes in ((1, None), (2, "fer2013")):
            network = ForeignNetwork(input=InputFormat(range=(-1, 1)), classes=classes)
            teacher = network.open_foreign(str(work / "theirs.keras"), data_classes=NAMES, data_name="faces")
            shares = {"shard": Shard(number, 2), "rows_per_part": 100, "views": 1, "progress": False}
            assert cache_logits(teacher, dataset, tmp_path / "l.h5", **shares) is None
        capsys.readouterr()
        assert cache("merge", tmp_path / "l.h5.parts", "--out", tmp_path / "l.h5") == 0
        said = capsys.readouterr().out
        assert "accuracy   " in said
        assert ADVICE in said
        assert open_logits(tmp_path / "l.h5").header.class_order == "given"


class TestStores:
    def test_verify_does_not_call_assumed_classes_those_of_the_data(self, work, assumed, capsys):
        assert cache("verify", assumed, "--data", work / "fer2013.csv") == 0
        said = capsys.readouterr().out
        assert "classes    assumed to be those of " in said
        assert ADVICE in said
        assert cache("verify", assumed) == 0
        assert "their order: assumed" in capsys.readouterr().out

    def test_inspect_says_it_as_text_and_as_json(self, assumed, capsys):
        assert cache("inspect", assumed) == 0
        said = capsys.readouterr().out
        assert "class order       assumed" in said
        assert f"{ADVICE}\n" in said
        assert cache("inspect", assumed, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["header"]["class_order"] == "assumed"
        assert found["diagnosis"]["better_order"] == list(ALPHABETICAL)

    @pytest.mark.parametrize("suffix", [".npz", ".csv"])
    def test_it_travels_with_what_is_exported(self, assumed, tmp_path, capsys, suffix):
        assert cache("export", assumed, "--out", tmp_path / f"l{suffix}") == 0
        assert "is assumed, nobody said it" in capsys.readouterr().out
        assert cache("import", tmp_path / f"l{suffix}", "--out", tmp_path / "back.h5") == 0
        assert "is assumed, nobody said it" in capsys.readouterr().out
        assert open_logits(tmp_path / "back.h5").header == open_logits(assumed).header

    def test_what_others_exported_is_known_where_they_name_the_classes(self, tmp_path):
        arrays = {"logits": np.eye(7, dtype=np.float32) * 5, "sample_id": [f"f{n}" for n in range(7)]}
        np.savez(tmp_path / "named.npz", **arrays, class_names=ALPHABETICAL)
        np.savez(tmp_path / "bare.npz", **arrays)
        assert cache("import", tmp_path / "named.npz", "--out", tmp_path / "named.h5") == 0
        assert cache("import", tmp_path / "bare.npz", "--out", tmp_path / "bare.h5", "--classes", "fer2013") == 0
        assert open_logits(tmp_path / "named.h5").header.class_order == "known"
        assert open_logits(tmp_path / "bare.h5").header.class_order == "given"

    def test_a_store_of_an_earlier_version_did_not_record_it(self, capsys):
        assert open_logits(STORE).header.class_order == "unknown: not recorded"
        assert cache("inspect", STORE) == 0
        assert "class order       unknown: not recorded" in capsys.readouterr().out

    def test_training_reports_whose_order_is_assumed(self, work, assumed, tmp_path, capsys):
        flags = ("--data", work / "fer2013.csv", "--logits", assumed, "--epochs", 1, "--out", tmp_path / "run")
        assert call(train_student, TrainStudentSettings, *flags, "--image-size", 24) == 0
        assert f"note: the class order of {assumed} is assumed" in capsys.readouterr().out

    def test_views_are_added_to_an_assumed_store_with_its_order_given(self, work, tmp_path):
        assert write_logits(work, tmp_path / "l.h5", *RANGE) == 0
        assert write_logits(work, tmp_path / "l.h5", *RANGE, "--classes", "fer2013", views=2) == 0
        header = open_logits(tmp_path / "l.h5").header
        assert (header.views, header.class_order) == (2, "given")

    def test_a_network_that_was_only_handed_over_is_assumed(self, work, tmp_path):
        network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(7)])
        dataset = open_dataset(work / "fer2013.csv")
        cache_logits(network, dataset, tmp_path / "a.h5", views=1, progress=False)
        cache_logits(network, dataset, tmp_path / "g.h5", views=1, class_names=NAMES, progress=False)
        assert open_logits(tmp_path / "a.h5").header.class_order == "assumed"
        assert open_logits(tmp_path / "g.h5").header.class_order == "given"


class TestEvaluate:
    def found(self, work, out, *flags, model="theirs.keras"):
        data = ("--data", work / "fer2013.csv", "--split", "train", "--seconds", 0)
        given = model if ":" in str(model) else work / model  # an absolute path stays as it is
        assert call(evaluate, EvaluateSettings, "--model", given, *data, "--out", out, *flags) == 0
        (found,) = json.loads((out / "evaluation.json").read_text())["models"]
        return found

    def test_says_that_the_order_is_assumed_everywhere(self, work, tmp_path, capsys):
        found = self.found(work, tmp_path, *RANGE)
        assert found["class_order"] == "assumed"
        assert found["diagnosis"]["better_order"] == list(ALPHABETICAL)
        assert ADVICE in found["warnings"][0]
        said, page = capsys.readouterr().out, (tmp_path / "report.html").read_text()
        for text in (said, page):
            assert "assumed" in text
            assert ADVICE in text

    @pytest.mark.parametrize("model", ["theirs.keras", "theirs_as_function:score"])
    def test_takes_the_flags_of_teacher_logits(self, work, tmp_path, capsys, model):
        size = ("--input.size", 8, "--input.channels", 1) if ":" in model else ()
        found = self.found(work, tmp_path, *RANGE, *size, "--classes", "alphabetical", model=model)
        dataset = open_dataset(work / "fer2013.csv").split("train")
        pixels = dataset.read(np.arange(len(dataset))).astype(np.float32) / 127.5 - 1
        said = keras.saving.load_model(work / "theirs.keras").predict(pixels, verbose=0).argmax(1)
        right = [ALPHABETICAL[each] == NAMES[label] for each, label in zip(said, dataset.labels, strict=True)]
        assert found["accuracy"] == pytest.approx(np.mean(right))
        assert (found["class_order"], found["warnings"]) == ("given", [])
        assert "warning" not in capsys.readouterr().out

    def test_names_the_pixels_too(self, work, tmp_path):
        (warning,) = self.found(work, tmp_path)["warnings"]
        assert warning.endswith(f"with --input.range -1 1 {ADVICE}")

    def test_refuses_flags_that_describe_nothing(self, work, tmp_path, capsys):
        flags = ("--formats", "litert-float32", "--seconds", 0, "--out", tmp_path / "ex")
        data = ("--data", work / "fer2013.csv")
        assert call(export, ExportSettings, "--model", work / "theirs.keras", *data, *RANGE, *flags) == 0
        capsys.readouterr()
        for given in (RANGE, ("--classes", "fer2013"), ("--output-type", "logits")):
            assert call(evaluate, EvaluateSettings, "--model", tmp_path / "ex", *data, *given) == 2
            assert f"error: {given[0].split('.')[0]} describes external networks" in capsys.readouterr().err


class TestExport:
    def exported(self, work, out, *flags):
        given = ("--data", work / "fer2013.csv", "--formats", "litert-float32", "onnx", "--seconds", 0, "--out", out)
        assert call(export, ExportSettings, "--model", work / "theirs.keras", *given, *flags) == 0
        return json.loads((out / "exports.json").read_text())

    def test_puts_pixels_and_classes_in_order(self, work, tmp_path):
        facts = self.exported(work, tmp_path / "out", *RANGE, "--classes", "alphabetical")
        assert facts["description"]["class_order"] == "given"
        dataset = open_dataset(work / "fer2013.csv")
        images = dataset.read(np.arange(50)).astype(np.float32)
        expected = keras.saving.load_model(work / "theirs.keras").predict(images / 127.5 - 1, verbose=0)
        expected = expected[:, [ALPHABETICAL.index(name) for name in NAMES]]
        for row in facts["exports"][1:]:
            model = open_exported(tmp_path / "out" / row["file"])
            assert model.description.class_names == NAMES
            np.testing.assert_allclose(model.probabilities(images), expected, atol=1e-4)

    def test_an_assumed_order_is_said_and_not_laundered(self, work, tmp_path, capsys):
        facts = self.exported(work, tmp_path / "out", *RANGE)
        assert ADVICE in capsys.readouterr().out
        assert facts["description"]["class_order"] == "assumed"
        assert "assumed to be that of the data" in (tmp_path / "out" / "README.md").read_text()
        found = TestEvaluate().found(work, tmp_path / "ev", model=tmp_path / "out" / facts["exports"][2]["file"])
        assert found["class_order"] == "assumed"
        assert ADVICE in found["warnings"][0]

    @pytest.mark.parametrize(("flags", "order"), [((), "assumed"), (("--classes", "alphabetical"), "known")])
    def test_a_teacher_knows_its_order_as_well_as_it_was_exported_wherever_it_lies(
        self, work, tmp_path, capsys, monkeypatch, flags, order
    ):
        monkeypatch.setenv("HOME", str(tmp_path))
        facts = self.exported(work, tmp_path / "out", *RANGE, *flags)
        for row in facts["exports"][1:]:
            for place, folder in enumerate((tmp_path, "~")):
                capsys.readouterr()
                given = ("--teacher", f"{folder}/out/{row['file']}", "--data", work / "fer2013.csv", "--views", 1)
                store = tmp_path / f"{row['format']}-{place}.h5"
                assert call(teacher_logits, TeacherLogitsSettings, *given, "--out", store) == 0
                assert open_logits(store).header.class_order == order
                said = "is assumed to be that of the data: set it with --classes" in capsys.readouterr().out
                assert said == (order == "assumed")

    def test_a_network_that_is_no_graph_is_refused(self, work, tmp_path, capsys):
        flags = ("--data", work / "fer2013.csv", "--input.size", 8, "--input.channels", 1, "--out", tmp_path / "out")
        assert call(export, ExportSettings, "--model", "theirs_as_function:score", *flags) == 2
        assert "is not a graph of Keras layers" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


class TestDemo:
    def test_its_teacher_is_described_like_any_other(self, work, rng):
        described = ForeignNetwork(input=InputFormat(range=(-1, 1)), classes="alphabetical")
        opened = open_teacher(work / "theirs.keras", NAMES, foreign=described)
        pixels = rng.uniform(0, 255, (5, 8, 8, 1)).astype(np.float32)
        expected = keras.saving.load_model(work / "theirs.keras").predict(pixels / 127.5 - 1, verbose=0)
        expected = expected[:, [ALPHABETICAL.index(name) for name in NAMES]]
        np.testing.assert_allclose(opened.probabilities(pixels), expected, atol=1e-5)
        assert opened.class_order == "given"
        assert open_teacher(work / "theirs.keras", NAMES).class_order == "assumed"

    def test_flags_without_such_a_teacher_are_refused(self):
        from distill.evaluation.side_by_side import SideBySide

        with pytest.raises(InputError, match="--classes describes an external --teacher, and none is named"):
            SideBySide(foreign=ForeignNetwork(classes="fer2013"), face_detector="none")
