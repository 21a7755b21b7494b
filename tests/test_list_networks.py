"""The list of networks: every name, its numbers, its architecture as a file, and one-line errors."""

import json
import subprocess
import sys
import weakref

import keras
import pytest
from keras import layers

import distill.reports.network_costs as network_costs
from distill.command_line.stage import run_stage
from distill.list_networks import ListNetworksSettings, list_networks
from students import STUDENTS
from teachers import TEACHERS

TWO = ("--networks", "microexpnet", "plain_resnet_tiny", "--image-size", "48", "--classes", "3")


def run(*args) -> int:
    with pytest.raises(SystemExit) as ended:
        run_stage(list_networks, ListNetworksSettings, [str(arg) for arg in args])
    return ended.value.code


def rows(capsys, *args) -> dict:
    """What the command prints as JSON, by name."""
    assert run("--format", "json", *args) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def test_every_network_is_listed_with_its_costs(capsys):
    listed = rows(capsys, "--no-measure")
    kinds = dict.fromkeys(TEACHERS, "teacher") | dict.fromkeys(STUDENTS, "student")
    assert {name: row["kind"] for name, row in listed.items()} == kinds
    assert listed["microexpnet"] == {
        "kind": "student",
        "name": "microexpnet",
        "input_shape": [84, 84, 1],
        "classes": 8,
        "parameters": 65_000,
        "weight_bytes": 260_000,
        "multiply_adds": 2_853_248,  # by hand in test_network_costs
        "images_per_second": 0,
    }
    for row in listed.values():
        assert row["weight_bytes"] == 4 * row["parameters"]
        assert row["multiply_adds"] > 10_000


def test_the_table_at_another_size(capsys):
    assert run(*TWO, "--no-measure") == 0
    machine, _, *table = capsys.readouterr().out.splitlines()
    assert f"Keras {keras.__version__}, float32" in machine
    # MicroExpNet halves 48 four times: conv1 at 24, conv2 at 6, the dense layer reads 3x3x32.
    parameters = (64 * 16 + 16) + (16 * 16 * 32 + 32) + (288 * 48 + 48) + (48 * 3 + 3)
    uses = 24 * 24 * 64 * 16 + 6 * 6 * 16 * 16 * 32 + 288 * 48 + 48 * 3
    assert [line.split() for line in table] == [
        ["kind", "name", "input", "classes", "parameters", "bytes", "multiply-adds", "images/s"],
        ["teacher", "plain_resnet_tiny", "48x48x1", "3", "78,291", "313,164", "1,815,744", "-"],
        ["student", "microexpnet", "48x48x1", "3", f"{parameters:,}", f"{4 * parameters:,}", f"{uses:,}", "-"],
    ]
    assert len({len(line) for line in table}) == 1
    assert table[2].startswith("student  microexpnet  ")


def test_the_speed_is_measured_unless_switched_off(capsys):
    quick = ("--networks", "microexpnet", "--batch-size", 2, "--seconds", 0.01)
    assert rows(capsys, *quick)["microexpnet"]["images_per_second"] > 0
    assert run(*quick) == 0
    machine, _, _, line = capsys.readouterr().out.splitlines()
    assert machine.endswith("images/s: the fastest call in 0.01 s, 2 images each")
    assert float(line.split()[-1].replace(",", "")) > 0


def test_each_network_is_gone_before_the_next_is_built(monkeypatch, capsys):
    built, counted = [], network_costs.network_costs

    def watched(model):
        assert [reference() for reference in built] == [None] * len(built)
        built.append(weakref.ref(model))
        return counted(model)

    monkeypatch.setattr(network_costs, "network_costs", watched)
    assert run(*TWO, "--batch-size", 1, "--seconds", 0.01) == 0
    assert len(built) == 2


class TestArchitecture:
    @pytest.mark.parametrize("form", ["table", "json"])
    def test_it_loads_as_the_same_network(self, tmp_path, capsys, form):
        file = tmp_path / "new" / "architecture.json"
        flags = ("--networks", "plain_resnet_tiny", "--image-size", 32, "--classes", 5, "--no-measure")
        assert run(*flags, "--json", file, "--format", form) == 0
        loaded = keras.models.model_from_json(file.read_text())
        expected = TEACHERS["plain_resnet_tiny"](input_shape=(32, 32), classes=5)
        assert (loaded.name, loaded.count_params()) == (expected.name, expected.count_params())
        assert (loaded.input_shape, loaded.output_shape) == ((None, 32, 32, 1), (None, 5))
        assert [path.name for path in file.parent.iterdir()] == ["architecture.json"]
        printed = capsys.readouterr().out
        assert len(json.loads(printed)) == 1 if form == "json" else printed.endswith(f"architecture: {file}\n")

    @pytest.mark.parametrize(("names", "count"), [((), 0), (TWO[:3], 2)])
    def test_it_is_that_of_one_network(self, tmp_path, capsys, names, count):
        assert run(*names, "--json", tmp_path / "a.json") == 2
        error = capsys.readouterr().err
        assert f"received {count} names: name one with --networks" in error
        assert error.count("\n") == 1
        assert not list(tmp_path.iterdir())

    def test_a_folder_is_no_file_for_it(self, tmp_path, capsys):
        assert run("--networks", "microexpnet", "--json", tmp_path) == 2
        assert capsys.readouterr().err == f"error: {tmp_path} is a folder: name a file for the architecture\n"


class TestMistakes:
    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (
                ("--networks", "microexpnet", "plain_restnet"),
                'unknown network "plain_restnet": did you mean plain_resnet',
            ),
            (("--networks", "xyz"), 'unknown network "xyz": choose one of '),
            (("--format", "csv"), 'unknown format "csv": choose one of table, json'),
            (("--image-size", 0), "image-size must be at least 1, received 0"),
            (("--classes", 0), "classes must be at least 1, received 0"),
            (("--batch-size", 0), "batch-size must be at least 1, received 0"),
            (("--seconds", 0), "seconds must be above 0, received 0.0"),
        ],
    )
    def test_they_end_in_one_line(self, capsys, flags, message):
        assert run(*flags, "--no-measure") == 2
        printed = capsys.readouterr()
        assert printed.err.startswith(f"error: {message}")
        assert (printed.out, printed.err.count("\n")) == ("", 1)

    def test_a_network_that_cannot_be_built_is_named_after_the_others_are_printed(self, capsys):
        assert run("--networks", "facenet", "microexpnet", "--image-size", 20, "--no-measure") == 2
        printed = capsys.readouterr()
        assert "microexpnet  20x20x1" in printed.out
        assert "facenet" not in printed.out
        assert printed.err.startswith("error: facenet needs images of at least 35x35")
        assert printed.err.count("\n") == 1

    def test_a_network_that_cannot_be_counted_is_named(self, monkeypatch, capsys):
        def odd(classes):
            inputs = keras.Input((8, 8, 1))
            outputs = layers.GlobalAveragePooling2D()(layers.Conv2DTranspose(classes, 3, name="up")(inputs))
            return keras.Model(inputs, outputs, name="oddity")

        monkeypatch.setitem(STUDENTS, "oddity", odd)
        assert run("--networks", "oddity", "--classes", 2, "--no-measure") == 2
        printed = capsys.readouterr()
        assert printed.err.startswith(
            'error: oddity: the multiply-adds of layer "up" (Conv2DTranspose) are not known'
        )
        assert printed.out == ""


def test_the_command_is_quiet():
    command = [sys.executable, "-m", "distill.list_networks", "--networks", "microexpnet", "--seconds", "0.01"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 4


def test_help_answers_without_tensorflow():
    program = "import sys, distill.list_networks as c; sys.argv[1:] = ['--help']\ntry: c.main()\n" + (
        "finally: print('loaded', [m for m in ('tensorflow', 'keras', 'numpy') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "python -m distill.list_networks" in answer.stdout
    assert answer.stdout.endswith("loaded []\n")
