"""The frame of every command: flags, --config, one-line errors, exit codes."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from operator import attrgetter

import pytest
import tensorflow as tf

from distill.command_line.stage import run_stage, settings_from_dict
from distill.command_line.student_training import TrainStudentSettings
from distill.data.views import ViewSpec
from distill.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Do a thing."""

    data: str
    """A path."""
    temperature: float = 8.0
    """T."""
    view: ViewSpec = field(default_factory=ViewSpec)
    """Views."""
    weights: dict[str, float] = field(default_factory=dict)
    """Numbers by name."""
    names: tuple[str, ...] | None = None
    """Names."""


def run(stage, *args):
    with pytest.raises(SystemExit) as ended:
        run_stage(stage, Settings, args)
    return ended.value.code


def raising(error):
    def stage(settings):
        raise error

    return stage


def test_flags_become_settings_and_the_exit_code_is_0():
    seen = []
    assert run(seen.append, "--data", "D", "--temperature", "2", "--view.rotation", "5") == 0
    assert seen == [Settings(data="D", temperature=2.0, view=ViewSpec(rotation=5))]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("no such thing: try another"), 2, "error: no such thing: try another\n"),
        (PermissionError(13, "Permission denied", "a.h5"), 2, "error: a.h5: Permission denied\n"),
        (OSError(28, "No space left on device"), 2, "error: file system: No space left on device\n"),
        (KeyboardInterrupt(), 130, "interrupted: the same command resumes after what is finished\n"),
    ],
)
def test_mistakes_end_in_one_line(error, code, message, capsys):
    assert run(raising(error), "--data", "D") == code
    assert capsys.readouterr().err == message


def test_impossible_settings_end_in_one_line(capsys):
    assert run(raising(None), "--data", "D", "--view.rotation", "-5") == 2
    assert capsys.readouterr().err == "error: view rotation must lie in 0..180, received -5.0\n"


def test_a_fault_of_the_program_is_one_line_and_its_traceback_a_file(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run(raising(ZeroDivisionError("by zero\n")), "--data", "D") == 70
    (report,) = tmp_path.iterdir()
    line = f"an internal error of distill-faces, please report it: the details are in {report} (--debug shows them)\n"
    assert capsys.readouterr().err == line
    assert "ZeroDivisionError: by zero" in report.read_text()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (tf.errors.ResourceExhaustedError, "there is not enough memory (it is so)"),
        (tf.errors.UnimplementedError, "TensorFlow cannot compute this on this processor (it is so)"),
    ],
)
def test_what_a_machine_lacks_is_no_fault_of_the_program(capsys, error, said):
    assert run(raising(error(None, None, "it is so")), "--data", "D") == 2
    assert capsys.readouterr().err.startswith(f"error: {said}: ")


@pytest.mark.parametrize(("error", "code"), [(ZeroDivisionError("by zero"), 70), (InputError("no such thing"), 2)])
def test_debug_shows_the_traceback(capsys, error, code):
    assert run(raising(error), "--debug", "--data", "D") == code
    assert f"{error}\n" in capsys.readouterr().err.split("Traceback (most recent call last):")[1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data", "D", "--temprature", "3"], "Unrecognized options: --temprature, 3: did you mean --temperature?"),
        (["--data", "D", "--temperature", "abc"], "Error parsing --temperature: could not convert"),
        ([], "required options are missing: --data"),
        (["--data"], "Missing value for argument '--data'"),
    ],
)
def test_a_wrong_flag_is_one_line(capsys, args, message):
    assert run(raising(None), *args) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}")
    assert said.count("\n") == 1


def test_a_file_whose_name_looks_like_a_flag_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-dash.jpg").touch()
    assert run(raising(None), "--data", "D", "-dash.jpg", "b.jpg") == 2
    assert capsys.readouterr().err.startswith("error: -dash.jpg looks like a flag: write ./-dash.jpg (")


def test_a_message_is_one_line_whatever_a_name_contains(capsys):
    assert run(raising(InputError("no \x1b[2Jface\nin \udc80 \u202eé")), "--data", "D") == 2
    assert capsys.readouterr().err == "error: no \\x1b[2Jface\\nin \\udc80 \\u202eé\n"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_a_command_in_one_line(name):
    program = (
        "import signal, time; from distill.command_line.stage import run_stage\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # whatever started the tests ignores it
        "from distill.cache import InspectSettings\n"
        f"def stage(settings): signal.raise_signal(signal.{name}); time.sleep(60)\n"
        "run_stage(stage, InspectSettings, ['x'], backend=None)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "interrupted: the same command resumes after what is finished\n")


def test_an_interruption_while_modules_load_is_one_line(tmp_path):
    (tmp_path / "tyro.py").write_text("raise KeyboardInterrupt")
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    command, environment = [sys.executable, "-m", "distill.list_networks"], os.environ | {"PYTHONPATH": paths}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")


def test_a_program_that_uses_the_library_keeps_its_own_way_to_be_interrupted():
    program = "import atexit, distill.command_line\natexit.register(print, 'tidied up')\nraise KeyboardInterrupt\n"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stdout == "tidied up\n"
    assert ended.stderr.endswith("KeyboardInterrupt\n")


def test_config_loads_what_a_run_saved_and_flags_override_it(tmp_path):
    saved = {"settings": {"data": "D", "temperature": 3.0, "view": {"rotation": 7, "zoom": [0.8, 1.2]}}}
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(saved))
    seen = []
    assert run(seen.append, "--config", str(file), "--temperature", "5") == 0
    assert seen == [Settings(data="D", temperature=5.0, view=ViewSpec(rotation=7, zoom=(0.8, 1.2)))]


@pytest.mark.parametrize("wrapped", [lambda settings: settings, lambda settings: {"settings": settings}])
@pytest.mark.parametrize(
    ("former", "today"),
    [
        ({"beside": ["faces"]}, {"extra_data": ("faces",)}),
        ({"logits": ["a.h5", "b.h5"], "teacher_weights": [3, 1]}, {"ensemble_weights": (3, 1)}),
        ({"logits": ["a.h5", "b.h5"], "teacher_mean": "logits"}, {"ensemble_mean": "logits"}),
        ({"online": {"teacher": "a.onnx", "gives": "logits"}}, {"online.output_type": "logits"}),
    ],
)
def test_a_config_may_name_settings_as_earlier_versions_did(tmp_path, wrapped, former, today):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(wrapped({"data": "D", **former})))
    seen = []
    with pytest.raises(SystemExit) as ended:
        run_stage(seen.append, TrainStudentSettings, ["--config", str(file), "--out", "run"])
    assert ended.value.code == 0
    assert {name: attrgetter(name)(seen[0]) for name in today} == today


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a JSON file of settings"),
        ("[1]", "holds no settings"),
        ('{"data": "D", "temprature": 3}', 'unknown setting "temprature": did you mean temperature?'),
        ('{"data": "D", "view": {"rotatoin": 3}}', 'unknown setting "rotatoin": did you mean rotation?'),
        ('{"data": "D", "temperature": "3"}', "setting \"temperature\" must be float, received '3'"),
        ('{"data": "D", "temperature": true}', 'setting "temperature" must be float, received True'),
        ('{"data": {"x": 1}}', 'setting "data" must be str'),
        ('{"data": "D", "view": 3}', "ViewSpec must be an object of settings, received 3"),
        ('{"data": "D", "view": {"zoom": 1}}', 'setting "zoom" must be tuple[float, float], received 1'),
        ('{"data": "D", "view": {"zoom": [1]}}', 'setting "zoom" must be tuple[float, float], received (1,)'),
        (
            '{"data": "D", "view": {"zoom": [1, "x"]}}',
            "setting \"zoom\" must be tuple[float, float], received (1, 'x')",
        ),
        ('{"data": "D", "weights": {"a": "x"}}', "setting \"weights\" must be dict[str, float], received {'a': 'x'}"),
        ('{"data": "D", "names": [1]}', 'setting "names" must be tuple[str, ...] or None, received (1,)'),
    ],
)
def test_config_that_cannot_be_used_is_refused(tmp_path, capsys, content, message):
    file = tmp_path / "settings.json"
    file.write_text(content)
    assert run(raising(None), "--config", str(file)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("spelling", [["--config", "{}"], ["--config={}"]])
def test_what_a_config_lacks_may_be_a_flag(tmp_path, spelling):
    file = tmp_path / "settings.json"
    file.write_text('{"temperature": 3}')
    seen = []
    assert run(seen.append, "--data", "D", *(part.format(file) for part in spelling)) == 0
    assert seen == [Settings(data="D", temperature=3)]


def test_a_config_that_is_not_there_is_named(capsys):
    assert run(raising(None), "--config", "nowhere.json") == 2
    assert capsys.readouterr().err.startswith(
        'error: --config "nowhere.json" is not a file: give a JSON file of settings'
    )


def test_another_keras_backend_is_refused(monkeypatch, capsys):
    import keras

    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    assert run(raising(None), "--data", "D") == 2
    assert capsys.readouterr().err == 'error: Keras runs on "jax": set KERAS_BACKEND=tensorflow\n'


def test_unknown_settings_name_all_when_none_is_near():
    with pytest.raises(InputError, match='"xyz": choose one of data, temperature, view'):
        settings_from_dict(Settings, {"data": "D", "xyz": 1})


def test_lists_of_the_wrong_form_are_refused():
    from distill.training.recipe import Recipe

    with pytest.raises(
        InputError, match=r'"lr_steps" must be tuple\[tuple\[int, float\], ...\], received \(5, 0.3\)'
    ):
        settings_from_dict(Recipe, {"schedule": "steps", "lr_steps": [5, 0.3]})


@pytest.mark.parametrize(("backend", "message"), [("numpyy", "Keras cannot start"), ("numpy", "or jax or torch")])
def test_a_backend_that_cannot_train_is_refused(backend, message):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, "-m", "distill.train_teacher", "--data", "synthetic", "--out", "never"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert answer.returncode == 2
    assert message in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


COMMANDS = (
    *("train_teacher", "teacher_logits", "train_student", "evaluate", "describe_data", "quickstart"),
    *("list_networks", "import_checkpoint", "cache", "compare", "export", "predict", "demo", "crop_faces"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_answers_without_tensorflow(command):
    program = f"import sys, distill.{command} as c; sys.argv[1:] = ['--help']\ntry: c.main()\n" + (
        "finally: print('loaded', [m for m in ('tensorflow', 'keras', 'h5py') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"python -m distill.{command}" in answer.stdout
    assert "Exit codes: 0 done; 1 a requested limit was not met; 2 wrong input;" in answer.stdout
    assert answer.stdout.endswith("loaded []\n")


def test_import_distill_loads_nothing_and_finds_every_name():
    program = f"""
import sys, distill
print([m for m in ('tensorflow', 'keras', 'h5py', 'numpy') if m in sys.modules])
missing = [name for name in distill.__all__ if not hasattr(distill, name)]
called = ("compare", "export")  # commands that are functions, too
run_with_m = [c for c in {COMMANDS} if 'distill.' + c in sys.modules and c not in called]
print(missing, run_with_m, set(distill.__all__) <= set(dir(distill)))
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n[] [] True\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed_lead_nowhere(tmp_path, closed):
    program = (
        "from dataclasses import dataclass\n"
        "from distill.command_line.stage import run_stage\n"
        "@dataclass\n"
        "class Settings:\n"
        "    path: str\n"
        "def write(settings):\n"
        "    import sys\n"
        "    with open(settings.path, 'w') as file:\n"
        "        print('said'); print('said', file=sys.stderr); sys.stdout.flush(); sys.stderr.flush()\n"
        "        file.write('written')\n"
        "run_stage(write, Settings, backend=None)\n"
    )
    command = f'"{sys.executable}" -c "$0" --path "$1" {closed}'
    done = subprocess.run(["sh", "-c", command, program, str(tmp_path / "a")], check=False)
    assert done.returncode == 0
    assert (tmp_path / "a").read_text() == "written"
