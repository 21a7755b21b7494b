"""Keras files whose weights are something else than arrays of the network's size."""

import os
import zipfile

import h5py
import keras
import numpy as np
import pytest

from distill.errors import InputError
from distill.runtimes.keras_file import load_network


def saved(path):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="logits")], name="small").save(path)
    return path


def with_weights(path, change):
    """Replace the weights in a `.keras` archive by what `change` makes of them, in place."""
    weights = path.with_suffix(".weights")
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    weights.write_bytes(content["model.weights.h5"])
    with h5py.File(weights, "a") as file:
        change(file)
    content["model.weights.h5"] = weights.read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, each in content.items():
            archive.writestr(name, each)


KERNEL = "layers/dense/vars/0"


def linked(file):
    del file[KERNEL]
    file[KERNEL] = h5py.ExternalLink("/etc/hostname", "/x")


def huge(file):
    file.create_dataset("zeros", (2**30,), "f4", compression="gzip")


@pytest.mark.parametrize(
    ("change", "message"), [(linked, "0 is a link to elsewhere"), (huge, r"unpacks to [\d,]+ bytes, far more than")]
)
def test_weights_are_arrays_in_the_file_and_of_the_size_of_the_network(tmp_path, change, message):
    file = saved(tmp_path / "small.keras")
    with_weights(file, change)
    with pytest.raises(InputError, match=message):
        load_network(file)


def test_an_archive_is_not_unpacked_that_is_far_larger_than_its_network(tmp_path):
    file = saved(tmp_path / "small.keras")
    with_weights(file, lambda weights: weights.create_dataset("zeros", data=np.zeros(2**25, "f4")))
    assert file.stat().st_size < 2**20
    with pytest.raises(InputError, match=r"unpacks to [\d,]+ bytes, far more than its network needs"):
        load_network(file)


@pytest.mark.parametrize("name", ["network.keras", "network.h5", "network.json"])
def test_a_pipe_is_refused_at_once(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="is not a file|is a pipe"):
        load_network(tmp_path / name)
