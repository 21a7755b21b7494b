"""`--ray`: the flags by which the work of a command is shared among the workers of a cluster."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from distill.cluster.connection import LOCAL, open_cluster
from distill.cluster.resources import Resources, compute_with
from distill.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """Whether workers share the work."""

    flags_alone: ClassVar[dict[str, str]] = {"ray": LOCAL}
    """Flags that may stand without a value, and what they mean then."""

    ray: str | None = None
    """Share the work among the workers of a Ray cluster: HOST:PORT of its head, "auto" for the one that this machine
    belongs to, or nothing for one of this machine alone, which ends with the command."""

    gpus_flag: ClassVar[str]
    """Which flag gives the GPUs of a worker."""

    @property
    def resources(self) -> Resources:
        """Of each worker."""
        raise NotImplementedError

    def set_threads(self) -> None:
        """Let this process compute with as many threads as a worker, so that both give the same; called first.

        Raises:
            InputError: TensorFlow has begun to compute with another number.
        """
        compute_with(self.resources.cpus)

    @contextmanager
    def cluster(self) -> Iterator[bool]:
        """Be part of the cluster within the block, and say whether there is one.

        Raises:
            InputError: it cannot be joined, or flags are for a cluster and none is given.
        """
        if self.ray is None:
            if self.resources.gpus is not None:
                raise InputError(f"--{self.gpus_flag} is for the workers of --ray: give --ray, too, or omit it")
            yield False
            return
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # this process shares a GPU with a worker
        with open_cluster(self.ray):
            yield True


@dataclass(frozen=True, kw_only=True)
class ClusterScoringSettings(ClusterSettings):
    """Whether workers share the work."""

    gpus_flag: ClassVar[str] = "gpus-per-worker"

    cpus_per_worker: int | None = None
    """Threads that compute, and with --ray the processors that each worker takes; by default all of a machine."""
    gpus_per_worker: float | None = None
    """With --ray, the GPUs that each worker takes, or its share of one; by default one, where there are any."""

    @property
    def resources(self) -> Resources:
        """Of each worker."""
        return Resources(cpus=self.cpus_per_worker, gpus=self.gpus_per_worker)


@dataclass(frozen=True, kw_only=True)
class ClusterRunSettings(ClusterSettings):
    """Whether workers share the runs."""

    gpus_flag: ClassVar[str] = "gpus-per-run"

    cpus_per_run: int | None = None
    """Threads that compute, and with --ray the processors that each run takes; by default all of a machine. What is
    trained depends on it in its last bits."""
    gpus_per_run: float | None = None
    """With --ray, the GPUs that each run takes, or its share of one; by default one, where there are any."""

    @property
    def resources(self) -> Resources:
        """Of each run."""
        return Resources(cpus=self.cpus_per_run, gpus=self.gpus_per_run)


NO_CLUSTER: dict[str, Any] = {"ray": None, "gpus_per_run": None}
"""Settings of what runs on its own: whether a cluster shared the work is no part of a run."""
