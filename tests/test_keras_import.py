"""What TensorFlow is told before it is imported."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from distill.keras_import import set_tensorflow_defaults

ROOT = Path(__file__).resolve().parents[1]
VARIABLES = ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS")


@pytest.mark.parametrize(
    ("machine", "given", "expected"),
    [
        ("x86_64", {}, "1"),
        ("AMD64", {}, "1"),
        ("x86_64", {"TF_ENABLE_ONEDNN_OPTS": "0"}, "0"),
        ("aarch64", {}, None),
        ("arm64", {"TF_ENABLE_ONEDNN_OPTS": "1"}, "1"),
    ],
)
def test_fast_kernels_are_asked_for_on_x86_and_the_user_has_the_last_word(monkeypatch, machine, given, expected):
    monkeypatch.setattr(os, "environ", dict(given))
    monkeypatch.setattr(platform, "machine", lambda: machine)
    set_tensorflow_defaults()
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == expected
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="oneDNN is not asked for here")
@pytest.mark.skipif(sys.platform == "darwin", reason="TensorFlow for macOS is built without oneDNN")
def test_a_command_has_the_fast_kernels():
    code = """
from distill.keras_import import import_keras_quietly
import_keras_quietly()
import keras
images = keras.ops.ones((1, 1, 4, 4))
print(keras.ops.conv(images, keras.ops.ones((3, 3, 1, 1)), data_format="channels_first").shape)
"""  # channels first is a convolution that oneDNN alone has on processors
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
    )
    assert (ended.stdout.strip(), ended.stderr) == ("(1, 1, 2, 2)", "")
