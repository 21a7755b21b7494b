"""What a worker takes of a cluster: processors, graphics processors, and the threads that compute."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.errors import InputError
from distill.refusals import check_at_least


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Of each worker.

    Raises:
        InputError: fewer than one processor; a share of several graphics processors.
    """

    cpus: int | None = None
    """Processors, and the threads that compute; None: those of a machine, divided among its GPUs, and as many threads
    as without a cluster."""
    gpus: float | None = None
    """Graphics processors, or a share of one; None: one, where the cluster has any."""

    def __post_init__(self):
        check_at_least(1, cpus=self.cpus)
        check_at_least(0, gpus=self.gpus)
        if self.gpus is not None and self.gpus > 1 and self.gpus % 1:
            raise InputError(f"gpus must be a share of one, or a whole number, received {self.gpus}")

    def in_cluster(self, nodes: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], int]:
        """Return what to ask Ray for, for each worker, and how many there is room for.

        Args:
            nodes: the resources of each machine, by Ray's names.

        Raises:
            InputError: for none.
        """
        gpus = self.gpus
        if gpus is None:
            gpus = 1.0 if any(node.get("GPU", 0) for node in nodes) else 0.0
        able = [node for node in nodes if node.get("GPU", 0) >= gpus and node.get("CPU", 0) >= (self.cpus or 1)]
        if not able:
            most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in ("CPU", "GPU")}
            raise InputError(
                f"no machine of the cluster has {self.cpus or 1} CPUs and {gpus:g} GPUs: the most are "
                f"{most['CPU']:g} and {most['GPU']:g}"
            )
        cpus = self.cpus or min(max(1, int(node["CPU"] // max(1, _times(node, gpus)))) for node in able)
        room = sum(min(int(node["CPU"] // cpus), _times(node, gpus) if gpus else 2**31) for node in able)
        return {"num_cpus": cpus, "num_gpus": gpus}, room


def _times(node: Mapping[str, float], gpus: float) -> int:
    return int(node.get("GPU", 0) / gpus) if gpus else 0


def compute_with(threads: int | None) -> None:
    """Let TensorFlow compute an operation with so many threads in this process; None leaves it as it is.

    What is trained depends on their number in its last bits.

    Raises:
        InputError: TensorFlow has begun to compute.
    """
    if threads is None:
        return
    import tensorflow as tf

    if tf.config.threading.get_intra_op_parallelism_threads() == threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise InputError(
            "TensorFlow has begun to compute with another number of threads: say how many before that"
        ) from error


def threads_here() -> int:
    """Return with how many threads TensorFlow computes an operation in this process."""
    import tensorflow as tf

    set_here = tf.config.threading.get_intra_op_parallelism_threads()
    given = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return set_here or (int(given) if given.isdecimal() else 0) or usable
