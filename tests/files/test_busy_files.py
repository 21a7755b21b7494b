"""What the system cannot read now is never called damaged, nor removed: the same for every kind of file."""

import errno
import os
import re
import resource
import subprocess
import sys
import zipfile
from contextlib import contextmanager

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

from distill.data.image_files import ImageFiles, open_image_files
from distill.data.open_dataset import open_dataset
from distill.errors import BusyError
from distill.experiments.comparison_folder import ComparisonFolder
from distill.files.busy_files import cannot_read_now, is_there, reading
from distill.import_checkpoint import _read_weights
from distill.logit_store import open_logits
from distill.logit_store.exchange import import_logits
from distill.prediction.exported_model import open_exported
from distill.prediction.photos import open_photo
from distill.runs.checkpoints import load_checkpoint
from distill.runs.networks import build_network
from distill.runs.run_directory import load_network, read_metrics, read_summary
from distill.runs.run_record import read_record
from distill.runs.training_images import TrainingImages
from distill.runtimes.open_model import open_model
from students import STUDENTS

BUSY = r"cannot be read now \(.+\): .*try again"


@contextmanager
def no_more_files():
    """A process that has as many files open as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def small_network():
    return keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])


def checked_checkpoint(path):
    load_checkpoint(path.parent, small_network())


OPENED = {
    "store": ("a.h5", open_logits),
    "keras file": ("a.keras", open_model),
    "keras 2 file": ("a.h5", open_model),
    "onnx file": ("a.onnx", open_model),
    "saved model": ("folder/saved_model.pb", lambda path: open_model(path.parent)),
    "exported": ("a.tflite", open_exported),
    "exported onnx": ("a.onnx", open_exported),
    "card": ("folder/exports.json", lambda path: open_exported(path.parent)),
    "best of a run": ("best.keras", lambda path: load_network(path.parent)),
    "record of a run": ("settings.json", lambda path: read_record(path.parent)),
    "images of a run": ("training_images.npy", lambda path: TrainingImages.read(path.parent)),
    "metrics of a run": ("metrics.csv", lambda path: read_metrics(path.parent)),
    "summary of a run": ("summary.json", lambda path: read_summary(path.parent)),
    "comparison": ("comparison.json", lambda path: ComparisonFolder(path.parent)),
    "last checkpoint": ("last.keras", checked_checkpoint),
    "weights": ("a.weights.h5", lambda path: build_network(STUDENTS, "microexpnet", classes=7, weights=path)),
    "npz logits": ("a.npz", lambda path: import_logits(path, path.with_name("out.h5"))),
    "csv logits": ("a.csv", lambda path: import_logits(path, path.with_name("out.h5"))),
    "pickled logits": ("a.pickle", lambda path: import_logits(path, path.with_name("out.h5"))),
    "csv data": ("fer2013.csv", open_dataset),
    "array data": ("a-images.npy", lambda path: (path.with_name("a-labels.npy").touch(), open_dataset(path))),
    "image": ("a.png", lambda path: ImageFiles([path], (4, 4, 1)).read(np.array([0]))),
    "image header": ("a.png", lambda path: open_image_files([path])),
}


@pytest.mark.parametrize("kind", OPENED)
def test_a_file_that_cannot_be_read_is_called_busy_and_stays(put_unreadable, kind):
    name, opens = OPENED[kind]
    path = put_unreadable(name)
    with pytest.raises(BusyError, match=BUSY) as error:
        opens(path)
    assert not {"damaged", "delete", "anew", "replace"} & set(str(error.value).replace(":", "").split())
    assert path.is_symlink()


def test_a_photo_that_cannot_be_opened_is_not_to_be_replaced(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    Image.init()
    with no_more_files(), pytest.raises(BusyError, match=r"a.png cannot be read now \(Too many open files\): close"):
        open_photo(tmp_path / "a.png")


def test_a_checkpoint_of_tensorflow_is_not_called_damaged(put_unreadable, tmp_path):
    put_unreadable("model.data-00000-of-00001")
    (tmp_path / "model.index").write_bytes(b"no index")
    with pytest.raises(BusyError, match=BUSY):
        _read_weights(tmp_path / "model", small_network())


def test_a_keras_file_that_another_program_writes_is_busy(tmp_path):
    small_network().save(tmp_path / "a.h5")
    program = f"from distill.runtimes.open_model import open_model; open_model({str(tmp_path / 'a.h5')!r})"
    with h5py.File(tmp_path / "a.h5", "r+"):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert re.search(f"BusyError: .*a.h5 {BUSY}", done.stderr)


def test_what_the_content_is_to_blame_for_is_not_busy(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\5\6" + b"\xff" * 18)
    with pytest.raises((OSError, zipfile.BadZipFile, ValueError)) as raised:
        zipfile.ZipFile(tmp_path / "a.zip")
    assert cannot_read_now(raised.value, tmp_path / "a.zip") is None
    assert cannot_read_now(OSError(errno.EINVAL, "Invalid argument"), tmp_path / "a.zip") is None
    assert cannot_read_now(OSError("image file is truncated"), tmp_path / "a.zip") is None


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES, errno.EIO, errno.ESTALE, errno.ENFILE, errno.ENOLCK])
def test_an_error_of_the_system_is_found_behind_what_a_library_made_of_it(tmp_path, number):
    def wrapped():
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise ValueError("this is not a model") from error

    with pytest.raises(ValueError, match="not a model") as raised:
        wrapped()
    busy = cannot_read_now(raised.value, tmp_path)
    assert os.strerror(number) in str(busy)
    assert str(busy).endswith("try again")


def test_a_file_that_is_not_there_is_not_busy(tmp_path):
    with pytest.raises(FileNotFoundError), reading(tmp_path / "a"):
        (tmp_path / "a").read_bytes()
    assert not is_there(tmp_path / "a")
    assert not is_there(tmp_path / "a" / "b")
    (tmp_path / "a").touch()
    assert not is_there(tmp_path / "a" / "b")
    assert is_there(tmp_path / "a")


def test_what_cannot_be_looked_at_is_not_taken_for_absent(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(BusyError, match=BUSY):
        is_there(tmp_path / "a")
