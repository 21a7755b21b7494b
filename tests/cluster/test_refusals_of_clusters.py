"""What is refused before any work is shared, and how much of a cluster a worker takes; Ray is not needed."""

import os
import socket
import sys
import threading
from contextlib import closing

import pytest

from distill.cluster import connection
from distill.cluster.connection import open_cluster
from distill.cluster.resources import Resources
from distill.cluster.workers import _Worker
from distill.command_line.stage import run_stage
from distill.command_line.student_training import TrainStudentSettings
from distill.compare import CompareSettings
from distill.errors import InputError
from distill.teacher_logits import TeacherLogitsSettings
from distill.versions import versions


@pytest.fixture
def bound():
    """A socket with a port of its own."""
    with closing(socket.socket()) as each:
        each.bind(("127.0.0.1", 0))
        yield each


def address_of(bound) -> str:
    return f"127.0.0.1:{bound.getsockname()[1]}"


def refused(address) -> str:
    with pytest.raises(InputError) as error, open_cluster(address):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    assert 'pip install "distill-faces[ray]"' in refused("local")


@pytest.mark.parametrize("address", ["host", "host:port", "host:0", "host:65536", ":1", "ray://host:10001", ""])
def test_what_is_no_address_is_refused_with_an_example(address):
    assert f'received "{address}"' in refused(address)
    assert "ray start --head prints the address" in refused(address)


def test_an_address_that_nobody_listens_at_is_refused(bound):
    assert f"nobody answers at {address_of(bound)} (" in refused(address_of(bound))


def test_an_address_that_says_nothing_is_refused_in_time(bound, monkeypatch):
    assert 2 * connection._SECONDS < 15
    monkeypatch.setattr(connection, "_SECONDS", 0.1)
    bound.listen()
    assert f"nobody answers at {address_of(bound)} (timed out)" in refused(address_of(bound))


def test_another_server_is_refused(bound):
    bound.listen()

    def answer():
        accepted, _ = bound.accept()
        with accepted:
            accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            while accepted.recv(1024):
                pass

    server = threading.Thread(target=answer, daemon=True)
    server.start()
    assert f"what answers at {address_of(bound)} is not a Ray cluster" in refused(address_of(bound))
    server.join()


@pytest.mark.parametrize("name", ["distill", "python", "tensorflow", "numpy"])
def test_a_worker_of_other_versions_is_refused_before_anything_is_opened(name):
    expected = {"versions": {**versions(), name: "0.0"}, "folder": os.getcwd(), "threads": None}
    with pytest.raises(InputError, match=f"has {name} {versions()[name]}, expected {name} 0.0: install the same"):
        _Worker().begin(expected, [])


def test_a_worker_that_does_not_see_the_folder_is_refused(tmp_path):
    expected = {"versions": versions(), "folder": str(tmp_path / "absent"), "threads": None}
    with pytest.raises(InputError, match="has no folder .*absent: give the command in one that all machines see"):
        _Worker().begin(expected, [])


TWO_OF_8 = [{"CPU": 8.0}, {"CPU": 8.0}]
WITH_GPUS = [{"CPU": 16.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 2.0}, {"CPU": 32.0}, {"memory": 1.0}]


@pytest.mark.parametrize(
    ("nodes", "given", "cpus", "gpus", "room"),
    [
        (TWO_OF_8, {}, 8, 0, 2),
        (TWO_OF_8, {"cpus": 3}, 3, 0, 4),
        ([{"CPU": 8.0}, {"CPU": 4.0}], {}, 4, 0, 3),
        (WITH_GPUS, {}, 4, 1, 6),
        (WITH_GPUS, {"gpus": 0.5}, 2, 0.5, 12),
        (WITH_GPUS, {"gpus": 0, "cpus": 8}, 8, 0, 7),
        (WITH_GPUS, {"gpus": 3}, 16, 3, 1),
        (WITH_GPUS, {"cpus": 8}, 8, 1, 3),
    ],
)
def test_a_worker_gets_a_gpu_where_there_are_any_and_its_share_of_the_processors(nodes, given, cpus, gpus, room):
    assert Resources(**given).in_cluster(nodes) == ({"num_cpus": cpus, "num_gpus": gpus}, room)


def test_resources_that_no_machine_has_are_refused():
    with pytest.raises(InputError, match="no machine of the cluster has 9 CPUs and 0 GPUs: the most are 8 and 0"):
        Resources(cpus=9).in_cluster(TWO_OF_8)
    with pytest.raises(InputError, match="has 1 CPUs and 5 GPUs: the most are 32 and 4"):
        Resources(gpus=5).in_cluster(WITH_GPUS)


@pytest.mark.parametrize(("given", "said"), [({"cpus": 0}, "cpus"), ({"gpus": -1}, "gpus"), ({"gpus": 1.5}, "gpus")])
def test_resources_that_cannot_be_are_refused(given, said):
    with pytest.raises(InputError, match=f"{said} must be"):
        Resources(**given)


@pytest.mark.parametrize(("flags", "meant"), [(["--ray"], "local"), (["--ray", "host:1"], "host:1"), ([], None)])
@pytest.mark.parametrize("at_the_end", [True, False])
@pytest.mark.parametrize("settings_class", [TeacherLogitsSettings, CompareSettings])
def test_ray_may_stand_without_an_address(flags, meant, at_the_end, settings_class):
    given = []
    others = ["--data", "faces", "--out", "out"] + ["--logits", "l.h5"] * (settings_class is CompareSettings)
    with pytest.raises(SystemExit) as ended:
        run_stage(given.append, settings_class, others + flags if at_the_end else flags + others, backend=None)
    assert ended.value.code == 0
    assert given[0].ray == meant


def test_what_only_a_cluster_has_is_refused_without_one():
    settings = TeacherLogitsSettings(data="faces", out="out.h5", gpus_per_worker=1)
    with pytest.raises(InputError, match="--gpus-per-worker is for the workers of --ray"), settings.cluster():
        pass


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ray": "local"}, "give them, or omit --ray"),
        ({"gpus_per_run": 1}, "give them, or omit --ray"),
        ({"ray": "local", "folds": 3, "distribute": "mirrored"}, "give one of them"),
    ],
)
def test_one_run_is_not_shared_by_a_cluster(given, said):
    with pytest.raises(InputError, match=said):
        TrainStudentSettings(data="faces", out="run", **given)
