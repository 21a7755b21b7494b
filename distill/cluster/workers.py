"""`Workers`: processes of a Ray cluster, each of which prepares itself once and then does one task after another.

A worker may be lost at any moment, with its machine or alone. What it had in hand is done again by another one.
"""

import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from distill.cluster.connection import import_ray
from distill.cluster.resources import Resources, compute_with, threads_here
from distill.errors import InputError
from distill.keras_import import import_keras_quietly
from distill.printable import one_line
from distill.refusals import reason
from distill.versions import versions

Task = TypeVar("Task")
Do = Callable[[Any], Any]

_ATTEMPTS = 3  # of a task, or of beginning: what ends so many workers would end all of them
_NOT_IMPORTED = "import on the worker"  # what Ray says of it
_PATIENCE = 60.0  # seconds, until it is said that the cluster has no room yet


class Workers:
    """As many workers as the cluster has room for, and no more than there are tasks.

        with Workers(prepare, resources) as workers:
            for task, result in workers.done(tasks):
                ...

    Args:
        prepare: called once in each worker; it returns what does a task there. It and the tasks are sent by pickle:
            their functions and classes are those of modules that a worker can import.
        resources: of each worker.

    Raises:
        InputError: no machine of the cluster has these resources.
    """

    def __init__(self, prepare: Callable[[], Do], resources: Resources):
        self._ray = import_ray()
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self._each, self._room = resources.in_cluster(nodes)
        self._actor = self._ray.remote(_Worker)
        self._prepare = self._ray.put(prepare)
        self._expected = {"versions": versions(), "folder": os.getcwd(), "threads": resources.cpus or threads_here()}
        self._alive: set[Any] = set()
        self._idle: deque[Any] = deque()
        self._in_hand: dict[Any, tuple[Any, Any]] = {}  # reference to a result -> worker, task
        self._attempts: Counter[int | None] = Counter()  # position of a task; None: to begin

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_) -> None:
        for worker in self._alive:
            self._ray.kill(worker)

    def done(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Any]]:
        """Yield every task with its result, in the order in which they are done.

        Raises:
            InputError: what a task raised; or workers end as they begin, or one task after another ends them.
        """
        self._attempts.clear()
        waiting = deque(range(len(tasks)))
        for left in range(len(tasks), 0, -1):
            for _ in range(min(left, self._room) - len(self._alive)):
                self._begin()
            position, result = self._next(waiting, tasks)
            yield tasks[position], result

    def _next(self, waiting: deque[int], tasks: Sequence[Any]) -> tuple[int, Any]:
        """Give idle workers what waits, until one has done something."""
        while True:
            while self._idle and waiting:
                worker, position = self._idle.popleft(), waiting.popleft()
                self._in_hand[worker.do.remote(tasks[position])] = worker, position
            reference = self._first_answer()
            worker, position = self._in_hand.pop(reference)
            try:
                result = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, Exception) else error) from None
            except self._ray.exceptions.RayError as error:
                self._replace(worker, position, error)
                if position is not None:
                    waiting.appendleft(position)
                continue
            self._attempts[None] = 0
            self._idle.append(worker)
            if position is not None:
                return position, result

    def _begin(self) -> None:
        worker = self._actor.options(**self._each).remote()
        self._alive.add(worker)
        # The preparation is sent as a reference in a list, which Ray leaves for the worker to open: it first looks
        # whether it can.
        self._in_hand[worker.begin.remote(self._expected, [self._prepare])] = worker, None

    def _first_answer(self) -> Any:
        running = list(self._in_hand)
        ready, _ = self._ray.wait(running, timeout=_PATIENCE)
        if not ready and all(task is None for _, task in self._in_hand.values()):
            tqdm.write("waiting for workers: the cluster has no room yet, or they are slow to begin")
        while not ready:
            ready, _ = self._ray.wait(running, timeout=_PATIENCE)
        return ready[0]

    def _replace(self, worker: Any, position: int | None, error: Exception) -> None:
        """Begin another worker in the place of one that is lost.

        Raises:
            InputError: this happened too often.
        """
        if _NOT_IMPORTED in str(error):
            said = next((line for line in reversed(str(error).splitlines()) if "Error: " in line), "").strip()
            raise InputError(
                f"workers cannot import this program ({said}): install the same distill-faces on all machines"
            ) from error
        self._ray.kill(worker)  # where it is only out of reach, it must not go on
        self._alive.discard(worker)
        self._attempts[position] += 1
        said = reason(error)
        if self._attempts[position] >= _ATTEMPTS:
            doing = "as they begin" if position is None else "at the same task"
            raise InputError(
                f"{_ATTEMPTS} workers ended {doing} ({said}): look at their memory and their installation; what is "
                "finished is kept"
            ) from error
        tqdm.write(one_line(f"a worker was lost ({said}): what it had in hand is done again"))
        self._begin()


class _Worker:
    """What runs in the cluster."""

    def begin(self, expected: dict, prepare: list) -> None:
        """Become as the process that gives the tasks, or refuse to, and prepare.

        Args:
            expected: its "versions", the "folder" that it works in, and how many "threads" compute.
            prepare: a reference to what to call, alone.
        """
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # others may have shares of the same GPU
        import_keras_quietly()
        where = f"the worker on {socket.gethostname()}"
        found = versions()
        differing = [name for name in expected["versions"] if found.get(name) != expected["versions"][name]]
        if differing:
            theirs, ours = (
                ", ".join(f"{name} {each.get(name)}" for name in differing) for each in (found, expected["versions"])
            )
            raise InputError(f"{where} has {theirs}, expected {ours}: install the same on all machines")
        if not Path(expected["folder"]).is_dir():
            raise InputError(
                f"{where} has no folder {expected['folder']}: give the command in one that all machines see"
            )
        os.chdir(expected["folder"])
        compute_with(expected["threads"])
        (reference,) = prepare
        self._do = import_ray().get(reference)()

    def do(self, task: Any) -> Any:
        """Return what the prepared function makes of a task."""
        return self._do(task)
