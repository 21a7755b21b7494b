"""A batch that is divided among replicas, on one machine or several, gives the steps of the whole batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from distill.errors import InputError
from distill.runs.run_directory import read_metrics
from distill.training.replicas import Replicas, open_strategy
from tests.training.small_runs import bright_and_dark

ROOT = Path(__file__).resolve().parents[2]

# Clipping, weight decay, the moving average, the student's own regulariser, weights of images and a short last batch
# all depend on sums over the whole batch. Dropout is out: every replica drops units by the same numbers, so that the
# masks are not those of the whole batch.
TRAIN = """
import sys
import keras
import numpy as np
import tensorflow as tf
from distill.losses.distillation_loss import DistillationLoss
from distill.training.recipe import Plateau, Recipe
from distill.training.replicas import open_strategy
from distill.runs.run_directory import RunDirectory
from distill.training.train import train
from tests.training.small_runs import bright_and_dark

kind, out, epochs, normed = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[5] == "normed"
RunDirectory._draw_curves = lambda self: None
if kind == "two devices":
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
else:
    strategy = open_strategy(kind)
with strategy.scope():
    keras.utils.set_random_seed(3)
    layers = keras.layers
    student = keras.Sequential([
        keras.Input((6, 6, 1)), layers.Rescaling(1 / 255), layers.Flatten(),
        layers.Dense(8, activation="relu", kernel_regularizer=keras.regularizers.L2(0.01)),
        *([layers.BatchNormalization(momentum=0.5), layers.Dropout(0.3)] if normed else []), layers.Dense(2),
    ], name="small")
recipe = Recipe(epochs=epochs, batch_size=9, lr=0.05, schedule="constant", clip_norm=0.3, ema=0.9, weight_decay=0.01,
                plateau=Plateau(factor=0.5, patience=1))
best = train(student, bright_and_dark(), out=out, recipe=recipe, views=2, progress=False,
             sample_weights=1 + np.arange(50) % 3)
np.savez(sys.argv[4], *student.get_weights(), *best.get_weights())
"""


def start(kind, out, weights, *, epochs=3, workers=(), index=0, student="plain") -> subprocess.Popen:
    """Begin to train in a process of its own, the `index`-th of `workers`, which are addresses."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if workers:
        task = {"type": "worker", "index": index}
        environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
    command = [sys.executable, "-c", TRAIN, kind, str(out), str(epochs), str(weights), student]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(*processes) -> None:
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-3000:]


def free_addresses(count) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def weights_of(file) -> np.ndarray:
    with np.load(file) as arrays:
        return np.concatenate([arrays[name].ravel() for name in arrays.files])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with what one process came to ("none"), and two that trained together ("workers")."""
    folder = tmp_path_factory.mktemp("replicas")
    addresses = free_addresses(2)
    finish(
        start("none", folder / "none", folder / "none.npz"),
        *(
            start("workers", folder / "workers", folder / f"worker{index}.npz", workers=addresses, index=index)
            for index in range(2)
        ),
    )
    return folder


def test_two_workers_end_with_the_weights_of_one_process(trained):
    alone = weights_of(trained / "none.npz")
    for index in range(2):
        np.testing.assert_allclose(weights_of(trained / f"worker{index}.npz"), alone, rtol=0, atol=1e-5)


def test_one_of_the_workers_writes_the_run_directory(trained):
    runs = [sorted(path.name for path in (trained / name).iterdir()) for name in ("none", "workers")]
    without_events = [[name for name in names if "tfevents" not in name] for names in runs]
    assert without_events[0] == without_events[1]
    assert [len(names) - len(kept) for names, kept in zip(runs, without_events, strict=True)] == [1, 1]
    ours, theirs = (read_metrics(trained / name) for name in ("none", "workers"))
    for row, other in zip(ours, theirs, strict=True):
        assert row.keys() == other.keys()
        for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy_ema"):
            assert row[name] == pytest.approx(other[name], rel=1e-4), name


def test_two_devices_of_one_machine_end_with_the_weights_of_one(trained, tmp_path):
    finish(start("two devices", tmp_path / "run", tmp_path / "weights.npz"))
    alone = weights_of(trained / "none.npz")
    np.testing.assert_allclose(weights_of(tmp_path / "weights.npz"), alone, rtol=0, atol=1e-5)


def test_workers_whose_batch_norms_saw_other_images_validate_one_network_and_decide_alike(tmp_path):
    # The statistics were those of each worker's own share: one lowered its learning rate, and the other did not.
    addresses = free_addresses(2)
    finish(
        *(
            start(
                *("workers", tmp_path / "run", tmp_path / f"{index}.npz"),
                **{"epochs": 12, "workers": addresses, "index": index, "student": "normed"},
            )
            for index in range(2)
        )
    )
    np.testing.assert_array_equal(weights_of(tmp_path / "0.npz"), weights_of(tmp_path / "1.npz"))
    assert len({row["learning_rate"] for row in read_metrics(tmp_path / "run")}) > 1


def test_workers_that_train_something_else_are_refused(tmp_path):
    addresses = free_addresses(2)
    workers = [
        start(
            "workers", tmp_path / f"run{index}", tmp_path / "w.npz", epochs=3 + index, workers=addresses, index=index
        )
        for index in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=240)
        assert worker.returncode != 0
        assert "the workers do not train the same" in errors
    assert not list(tmp_path.glob("*/last.keras"))


# Which part of a batch a process takes


@pytest.mark.parametrize("images", [4, 7, 64])
@pytest.mark.parametrize("here", [(1, 1), (2, 2), (1, 1, 1), (2, 1)])
def test_every_image_goes_to_one_process(images, here):
    picked = np.arange(3 * images).reshape(3, images)
    parts = [Replicas(sum(here), sum(here[:place]), count).part(picked) for place, count in enumerate(here)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), picked)
    assert all(part.shape[1] >= count for part, count in zip(parts, here, strict=True))


def test_a_batch_that_leaves_a_replica_without_images_is_refused():
    Replicas(4).check_batch(4)
    with pytest.raises(InputError, match="a batch of 3 images cannot be divided among 4 replicas"):
        Replicas(4).check_batch(3)


def test_the_default_strategy_is_one_replica_that_writes():
    replicas = Replicas.of(open_strategy("none"))
    assert replicas == Replicas(1, 0, 1)
    assert replicas.writes
    assert not Replicas(2, first=1).writes


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        (None, "needs the environment variable TF_CONFIG: describe the workers as"),
        ("{", "TF_CONFIG is no"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG is not a .* required field `task`"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}', "TF_CONFIG is no"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "not a list of workers at HOST:PORT",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0.5}}',
            "is not a description of workers",
        ),
        ('{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}', "is not a description of workers"),
        ('{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}', "not a list of workers"),
        ('{"cluster": {"worker": [5]}, "task": {"type": "worker", "index": 0}}', "TF_CONFIG is no"),
        ('{"cluster": {"chief": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}', "not a list of workers"),
        ('{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "not a list of workers"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(monkeypatch, configuration, said):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if configuration is not None:
        monkeypatch.setenv("TF_CONFIG", configuration)
    with pytest.raises(InputError, match=said):
        open_strategy("workers")


def test_an_unknown_strategy_is_refused():
    with pytest.raises(InputError, match='unknown --distribute "horovod": choose one of none, mirrored, workers'):
        open_strategy("horovod")


def test_a_mirrored_student_of_one_device_is_the_plain_one(tmp_path):
    from distill.training.recipe import Recipe
    from distill.training.train import train
    from tests.training.small_runs import dropout_student

    def trained(strategy, name):
        with strategy.scope():
            student = dropout_student()
        return train(student, bright_and_dark(), out=tmp_path / name, recipe=Recipe(epochs=2), progress=False)

    one, other = trained(tf.distribute.get_strategy(), "plain"), trained(open_strategy("mirrored"), "mirrored")
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
