"""Replicas: the copies of a student among which every batch is divided, on the devices of one machine or on several.

They are those of the `tf.distribute` strategy under whose scope the student was built; by default there is one.
"""

import os
import re
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import keras
import numpy as np
import tensorflow as tf

from distill.errors import InputError
from distill.files.documents import Count, parse_json, parsed
from distill.refusals import check_known, reason

STRATEGIES = ("none", "mirrored", "workers")
_WORKERS = ("chief", "worker")  # in the order of their replicas
_EXAMPLE = """{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}"""


@dataclass(frozen=True)
class Replicas:
    """Which part of every batch this process takes."""

    number: int = 1
    """Of all processes together."""
    first: int = 0
    """The first one of this process."""
    here: int = 1
    """How many this process has."""

    @classmethod
    def of(cls, strategy: tf.distribute.Strategy) -> "Replicas":
        """Return the replicas of a strategy."""
        worker, workers = _place(strategy)
        here = strategy.num_replicas_in_sync // workers
        return cls(number=strategy.num_replicas_in_sync, first=worker * here, here=here)

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes the run directory."""
        return self.first == 0

    def part(self, picked: np.ndarray) -> np.ndarray:
        """Return the columns of `picked`, [steps, B], that this process takes."""
        start, end = (picked.shape[1] * at // self.number for at in (self.first, self.first + self.here))
        return picked[:, start:end]

    def check_batch(self, images: int) -> None:
        """Refuse a batch that is too small to give every replica a part.

        Raises:
            InputError: fewer images than replicas.
        """
        if images < self.number:
            raise InputError(
                f"a batch of {images} images cannot be divided among {self.number} replicas: give more images, or "
                "another --batch-size"
            )


def open_strategy(name: str) -> tf.distribute.Strategy:
    """Return the strategy of that name; a student built under its `scope()` is trained by it.

    It must be called before TensorFlow computes anything.

    Args:
        name: "none", TensorFlow's default; "mirrored", a replica on each GPU of this machine, or one on the
            processor; "workers", this process being one of those that the environment variable TF_CONFIG describes.

    Raises:
        InputError: another name, no usable TF_CONFIG, or an address that is not to be had.
    """
    check_known(name, STRATEGIES, what="--distribute")
    if name == "none":
        return tf.distribute.get_strategy()
    try:
        if name == "mirrored":
            return tf.distribute.MirroredStrategy()
        _check_configuration(os.environ.get("TF_CONFIG"))
        print("waiting for all workers that TF_CONFIG names")  # without end, and without an ear for interruptions
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise InputError(f"--distribute {name} cannot begin: {reason(error)}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which TensorFlow now only takes down as a notice
    return strategy


def average_statistics(network: keras.Model, layers: Sequence[keras.layers.Layer] = ()) -> None:
    """Give all replicas the mean of what each of them keeps over its share, such as the statistics of batch norms.

    What is trained is the same in all of them already. So all processes validate one and the same network.

    Args:
        layers: further ones that are trained with `network`, or hold what changes with it.
    """
    strategy = network.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        return
    for variable in [each for part in (network, *layers) for each in part.non_trainable_variables]:
        if variable.dtype == "float32":  # and no state of a generator
            of_each = strategy.run(lambda variable=variable: tf.identity(variable.value))
            variable.assign(strategy.reduce(tf.distribute.ReduceOp.MEAN, of_each, axis=None))


def check_agreement(strategy: tf.distribute.Strategy, what: str) -> None:
    """Check that all processes of a strategy have the same `what`; each waits for all others.

    Raises:
        InputError: they do not.
    """
    if _place(strategy)[1] == 1:
        return
    # Two bytes are a whole number in float32, and so is their sum over 256 workers.
    numbers = np.frombuffer(sha256(what.encode()).digest(), np.uint16).astype(np.float32)

    @partial(tf.function, autograph=False)
    def mean_of_all(own):
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, strategy.run(tf.identity, args=(own,)), axis=None)

    mean = mean_of_all(tf.constant(numbers)).numpy()
    if not np.array_equal(mean, numbers):
        raise InputError(
            "the workers do not train the same: give all of them the same settings, data and logits, and a run "
            "directory that all of them can read"
        )


def _place(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """The number of this process, and how many there are."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec().as_dict():
        return 0, 1
    sizes = {kind: resolver.cluster_spec().num_tasks(kind) for kind in resolver.cluster_spec().jobs}
    before = sizes.get("chief", 0) if resolver.task_type == "worker" else 0
    return before + resolver.task_id, sum(sizes.get(kind, 0) for kind in _WORKERS)


@dataclass
class _Task:
    type: str
    index: Count


@dataclass
class _Configuration:
    """What TensorFlow reads in TF_CONFIG."""

    cluster: dict[str, list[str]]
    task: _Task


def _check_configuration(configuration: str | None) -> None:
    """Refuse a TF_CONFIG for which TensorFlow would wait for ever, or end with a traceback."""
    hint = f"describe the workers as {_EXAMPLE}"
    if not configuration:
        raise InputError(f"--distribute workers needs the environment variable TF_CONFIG: {hint}")
    what = f"description of workers ({hint})"
    document = parse_json(configuration, source="TF_CONFIG", what=what)
    described = parsed(document, _Configuration, source="TF_CONFIG", what=what)
    cluster, task = described.cluster, described.task
    addresses = [address for each in cluster.values() for address in each]
    known = set(cluster) <= set(_WORKERS) and len(cluster.get("chief", [])) <= 1
    known &= all(re.fullmatch(r"[^:/\s]+:\d{1,5}", address) for address in addresses)
    known &= task.index < len(cluster.get(task.type, []))
    if not known:
        raise InputError(f"TF_CONFIG is not a list of workers at HOST:PORT with this one among them: {hint}")
