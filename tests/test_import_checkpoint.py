"""Published checkpoints become .keras files that predict what the published networks predicted."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill.command_line.stage import run_stage
from distill.errors import InputError
from distill.import_checkpoint import (
    VARIABLES,
    ImportCheckpointSettings,
    import_checkpoint,
    network_from_checkpoint,
)
from students import STUDENTS

DATA, INDEX = ".data-00000-of-00001", ".index"


def run(*args) -> int:
    with pytest.raises(SystemExit) as ended:
        run_stage(import_checkpoint, ImportCheckpointSettings, [str(arg) for arg in args])
    return ended.value.code


def refusal(*args) -> str:
    with pytest.raises(InputError) as error:
        network_from_checkpoint(*args)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def write_checkpoint(prefix, variables) -> None:
    """Write named arrays in the format of the original, without an object graph."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=[tf.constant(value) for value in variables.values()],
    )


def variables_of(network) -> dict[str, np.ndarray]:
    return dict(zip(VARIABLES, network.get_weights(), strict=True))


@pytest.fixture(scope="module")
def student():
    keras.utils.set_random_seed(0)
    return STUDENTS["microexpnet"]()


@pytest.fixture
def written(student, tmp_path):
    """The path, without suffix, of a checkpoint of `student` with an optimizer's slot behind its weights."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    write_checkpoint(folder / "Net_1.5", {**variables_of(student), "wo/Adam": np.ones(100, np.float32)})
    return folder / "Net_1.5"


@pytest.mark.parametrize(("folder", "key"), [("CK", "ck_logits"), ("OuluCASIA", "oulu_logits")])
def test_published_checkpoints_predict_what_was_published(shared, tmp_path, capsys, folder, key):
    out = tmp_path / "new" / "student.keras"
    checkpoint = shared / "microexpnet" / "checkpoints" / folder
    assert run("--checkpoint", checkpoint, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "microexpnet, 65,000 parameters" in printed
    assert "classes: neutral, angry, contempt, disgust, fear, happy, sad, surprise" in printed
    reference = np.load(shared / "microexpnet" / "reference_predictions.npz")
    model = keras.saving.load_model(out)
    assert model.name == "microexpnet"
    np.testing.assert_allclose(model(reference["images"][..., None]), reference[key], rtol=0, atol=1e-4)
    assert [each.name for each in out.parent.iterdir()] == ["student.keras"]


def test_every_way_to_name_a_checkpoint(written, student):
    for name in (written.parent, written, f"{written}{INDEX}", str(written)):
        for mine, theirs in zip(network_from_checkpoint(name).get_weights(), student.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    (written.parent / "checkpoint").write_text('model_checkpoint_path: "/somewhere/else"\n')
    assert network_from_checkpoint(written.parent).count_params() == 65_000


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_of_these_layers(tmp_path, name):
    source = STUDENTS[name]()
    if len(source.weights) != len(VARIABLES):
        pytest.skip(f"{name} has other layers")
    write_checkpoint(tmp_path / "net", variables_of(source))
    network = network_from_checkpoint(tmp_path, name)
    images = np.random.default_rng(0).integers(0, 256, (2, *source.input_shape[1:])).astype("float32")
    np.testing.assert_array_equal(network(images), source(images))
    assert all(layer.name != "scale_pixels" for layer in network.layers)


class TestRefused:
    def test_missing(self, tmp_path):
        assert "there is no checkpoint at" in refusal(tmp_path / "none")
        assert "there is no checkpoint at" in refusal(tmp_path / "none.index")
        assert "holds 0 checkpoints (none)" in refusal(tmp_path)

    def test_two_in_a_folder(self, written):
        shutil.copy(f"{written}{INDEX}", written.parent / "Other.index")
        assert "holds 2 checkpoints (Net_1.5, Other)" in refusal(written.parent)

    @pytest.mark.parametrize("suffix", [DATA, INDEX])
    @pytest.mark.parametrize("kept", [0, 0.3, 0.999])
    def test_truncated(self, written, suffix, kept):
        path = written.parent / (written.name + suffix)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * kept)])
        assert "is damaged, or lacks a file" in refusal(written)

    @pytest.mark.parametrize("suffix", [DATA, INDEX])
    def test_changed(self, written, suffix):
        path = written.parent / (written.name + suffix)
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        path.write_bytes(bytes(content))
        assert "is damaged, or lacks a file" in refusal(written)

    def test_a_path_that_tensorflow_takes_for_a_pattern(self, written):
        folder = written.parent.rename(written.parent.with_name("[g]"))
        assert "[g]/Net_1.5 has brackets, which TensorFlow takes for a pattern of names" in refusal(folder)
        folder = folder.rename(folder.with_name("g]*"))  # this one matches itself
        assert network_from_checkpoint(folder).count_params() == 65_000

    def test_without_its_data(self, written):
        (written.parent / (written.name + DATA)).unlink()
        assert "lacks a file" in refusal(written)

    def test_of_another_network(self, written):
        message = refusal(written, "microexpnet_2017")
        assert "not of microexpnet_2017: wfc is float32 [1152, 48], expected float32 [3872, 16]" in message
        assert "--student" in message

    def test_of_other_classes(self, tmp_path):
        write_checkpoint(tmp_path / "net", variables_of(STUDENTS["microexpnet"](classes=7)))
        assert "wo is float32 [48, 7], expected float32 [48, 8]" in refusal(tmp_path)

    @pytest.mark.parametrize("name", VARIABLES)
    def test_lacking_a_variable(self, student, tmp_path, name):
        variables = variables_of(student)
        del variables[name]
        write_checkpoint(tmp_path / "net", variables)
        assert f"has no variable {name}, expected float32" in refusal(tmp_path)

    def test_of_another_type(self, student, tmp_path):
        write_checkpoint(tmp_path / "net", {**variables_of(student), "bo": np.zeros(8, np.int32)})
        assert "bo is int32 [8], expected float32 [8]" in refusal(tmp_path)

    def test_diverged(self, student, tmp_path):
        write_checkpoint(tmp_path / "net", {**variables_of(student), "bfc": np.full(48, np.nan, np.float32)})
        assert "NaN or infinite" in refusal(tmp_path)

    def test_an_unknown_student(self, written):
        assert "did you mean microexpnet" in refusal(written, "microexpnett")

    def test_a_student_of_other_layers(self, written, monkeypatch):
        def other(classes):
            inputs = keras.Input((4, 4, 1))
            return keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Flatten()(inputs)))

        monkeypatch.setitem(STUDENTS, "other", other)
        assert '"other" is not built of wc1, bc1' in refusal(written, "other")

    @pytest.mark.parametrize(
        ("out", "message"),
        [("student.h5", "must end in .keras"), ("folder.keras", "is a folder"), ("file/student.keras", "file")],
    )
    def test_an_output_that_cannot_be(self, written, tmp_path, capsys, out, message):
        (tmp_path / "folder.keras").mkdir()
        (tmp_path / "file").write_text("precious")
        before = sorted(tmp_path.rglob("*"))
        assert run("--checkpoint", written, "--out", tmp_path / out) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert message in lines[0]
        assert sorted(tmp_path.rglob("*")) == before
