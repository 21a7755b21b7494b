"""Work that the workers of a local cluster share, one of which is killed: the results are those of one process.

A cluster and its workers take long to start, so that there are few tests, and one cluster for all.
"""

import csv
import os
from contextlib import ExitStack
from functools import partial

import numpy as np
import pytest
from PIL import Image

from distill.cluster.connection import LOCAL, open_cluster
from distill.cluster.resources import Resources
from distill.cluster.scoring import cluster_scorer
from distill.command_line.teacher_settings import TeacherSettings
from distill.compare import CompareSettings, compare
from distill.data.dataset import ArrayImages, Dataset
from distill.data.open_dataset import open_dataset
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.logit_store import LogitHeader, LogitWriter
from distill.runtimes.input_format import InputFormat
from distill.scoring.caching import cache_logits
from distill.scoring.scorer import Scorer
from distill.train_student import TrainStudentSettings, train_student

TIMES = ("seconds", "images_per_second", "input_share")
STUDENT = "microexpnet_p12_xxs"
KILLS_ITS_PROCESS_ONCE = """
import os
import signal
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def teacher(images):
    if (images[:, 0, 0, 0] == 251).any() and os.getpid() != int((HERE / "driver").read_text()):
        try:
            os.close(os.open(HERE / "killed", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    flat = images.reshape(len(images), -1).astype(np.float64)
    return (flat @ np.random.default_rng(5).normal(0, 0.01, (flat.shape[1], 3))).astype(np.float32)
"""


@pytest.fixture(scope="module")
def cluster():
    """A local cluster with room for two workers of one processor."""
    pytest.importorskip("ray", reason="ray is not installed")
    with ExitStack() as stack:
        try:
            stack.enter_context(open_cluster(LOCAL, cpus=2))
        except InputError as error:
            pytest.skip(str(error))
        yield


@pytest.fixture
def faces(rng):
    """36 images, of which one in the middle alone begins with a pixel of 251."""
    images = rng.integers(0, 250, (36, 8, 8, 1), np.uint8)
    images[20, 0, 0] = 251
    return Dataset(
        name="faces",
        ids=np.array([f"face-{row}" for row in range(36)]),
        labels=rng.integers(0, 3, 36),
        class_names=("angry", "happy", "neutral"),
        images=ArrayImages(images),
        splits=np.repeat(["train", "validation"], 18),
    )


def test_a_store_is_that_of_one_process_though_a_worker_and_the_driver_are_lost(
    cluster, faces, tmp_path, monkeypatch, capsys
):
    (tmp_path / "killing_teacher.py").write_text(KILLS_ITS_PROCESS_ONCE)
    (tmp_path / "driver").write_text(str(os.getpid()))
    monkeypatch.chdir(tmp_path)
    settings = TeacherSettings(teacher="killing_teacher:teacher", input=InputFormat(size=8, channels=1))
    how = {"views": 2, "view_spec": ViewSpec(erase=0.5), "rows_per_part": 4, "progress": False}
    alone = cache_logits(settings.open(faces), faces, "alone.h5", **how)

    def interrupted(self, parts, views, on_batch):
        for rows in parts[:2]:
            yield rows, *self.score_all(np.arange(rows.start, rows.stop), views)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "score_parts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache_logits(settings.open(faces), faces, "shared.h5", **how)
    assert len(list((tmp_path / "shared.h5.parts").glob("part-*.h5"))) == 2

    opened = partial(
        cluster_scorer, open_teacher=partial(TeacherSettings.open, settings), resources=Resources(cpus=1)
    )
    shared = cache_logits(settings.open(faces), faces, "shared.h5", open_scorer=opened, **how)
    assert (tmp_path / "killed").exists(), "no worker was killed"
    assert "a worker was lost" in capsys.readouterr().out
    assert len(shared) == 36
    assert alone.path.read_bytes() == shared.path.read_bytes()
    assert not (tmp_path / "shared.h5.parts").exists()


def write_faces(path) -> None:
    rng = np.random.default_rng(0)
    with open(path, "w") as file:
        file.write("emotion,pixels,Usage\n")
        for usage, count in (("Training", 28), ("PublicTest", 14)):
            for row in range(count):
                file.write(f"{row % 7},{' '.join(map(str, rng.integers(0, 256, 12 * 12)))},{usage}\n")


def write_logits(path, dataset) -> None:
    header = LogitHeader(
        class_names=dataset.class_names,
        views=2,
        view_spec=ViewSpec(rotation=5).to_dict(),
        teacher_name="teacher",
        teacher_sha256="0" * 64,
        teacher_input_shape=(48, 48, 1),
        numeric_policy="float32",
        dataset_fingerprint=dataset.fingerprint,
        dataset_name=dataset.name,
    )
    columns = {"content_hashes": dataset.content_hashes, "labels": dataset.labels}
    writer = LogitWriter(path, header, sample_ids=dataset.ids, **columns)
    logits = np.random.default_rng(1).normal(0, 3, (len(dataset), 2, 7)).astype(np.float32)
    for rows in writer.missing():
        writer.write(rows, logits[rows])
    writer.finish()


def of_runs(folder) -> dict[str, list]:
    """The weights of all runs in `folder`, those of their optimizers, and what was measured, without times."""
    import keras

    found: dict[str, list] = {}
    for path in [*folder.rglob("best.keras"), *folder.rglob("last.keras")]:
        model = keras.models.load_model(path)
        variables = [*model.weights, *getattr(getattr(model, "optimizer", None), "variables", [])]
        found[str(path.relative_to(folder))] = [np.asarray(each).tobytes() for each in variables]
    for path in folder.rglob("metrics.csv"):
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        found[str(path.relative_to(folder))] = [[row[name] for name in row if name not in TIMES] for row in rows]
    return found


def test_a_comparison_is_that_of_one_process_to_the_bit(cluster, tmp_path):
    write_faces(tmp_path / "fer2013.csv")
    write_logits(tmp_path / "logits.h5", open_dataset(tmp_path / "fer2013.csv"))
    how = {
        "data": str(tmp_path / "fer2013.csv"),
        "logits": (str(tmp_path / "logits.h5"),),
        "students": (STUDENT,),
        "losses": ("hinton",),
        "temperatures": (4.0,),
        "lambdas": (0.5,),
        "seeds": 1,
        "image_size": 12,
        "epochs": 2,
        "batch_size": 8,
    }
    compare(CompareSettings(out=str(tmp_path / "alone"), **how))
    compare(CompareSettings(out=str(tmp_path / "shared"), ray=LOCAL, **how))
    alone, shared = of_runs(tmp_path / "alone"), of_runs(tmp_path / "shared")
    assert len(alone) >= 4
    assert alone == shared
    assert (tmp_path / "alone" / "cells.csv").read_bytes() == (tmp_path / "shared" / "cells.csv").read_bytes()


def test_folds_are_those_of_one_process_to_the_bit(cluster, tmp_path, rng):
    for number, name in enumerate(("angry", "happy", "sad")):
        (tmp_path / "faces" / name).mkdir(parents=True)
        for subject in range(9):
            pixels = rng.integers(0, 100, (12, 12)) + 70 * number
            path = tmp_path / "faces" / name / f"S{subject:03}_00{number}_00000009.png"
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    how = {"data": str(tmp_path / "faces"), "student": STUDENT, "image_size": 12, "epochs": 2, "folds": 3}
    train_student(TrainStudentSettings(out=str(tmp_path / "alone"), **how))
    train_student(TrainStudentSettings(out=str(tmp_path / "shared"), ray=LOCAL, **how))
    alone, shared = of_runs(tmp_path / "alone"), of_runs(tmp_path / "shared")
    assert len(alone) >= 6
    assert alone == shared
    assert (tmp_path / "alone" / "folds.csv").read_bytes() == (tmp_path / "shared" / "folds.csv").read_bytes()
