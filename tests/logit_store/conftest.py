from dataclasses import replace

import numpy as np
import pytest

from distill.data.dataset import ArrayImages, Dataset
from distill.logit_store import LogitHeader, LogitWriter

CLASS_NAMES = ("angry", "happy", "neutral")


@pytest.fixture
def faces():
    generator = np.random.default_rng(7)
    return Dataset(
        name="faces",
        ids=np.array([f"train/gesicht_{row}.png" for row in range(10)] + ["train/été.png"]),
        labels=generator.integers(0, len(CLASS_NAMES), 11),
        class_names=CLASS_NAMES,
        images=ArrayImages(generator.integers(0, 256, (11, 6, 6, 1), np.uint8)),
        splits=np.full(11, "train"),
    )


@pytest.fixture
def header(faces):
    return LogitHeader(
        class_names=CLASS_NAMES,
        views=2,
        view_spec={"algorithm": "drawn", "zoom": (0.9, 1.1), "seed": 3},
        teacher_name="facenet",
        teacher_sha256="ab" * 32,
        teacher_input_shape=(48, 48, 1),
        numeric_policy="float32",
        dataset_fingerprint=faces.fingerprint,
        dataset_name=faces.name,
        versions={"numpy": np.__version__},
    )


@pytest.fixture
def logits(faces):
    return np.random.default_rng(8).normal(0, 5, (len(faces), 2, len(CLASS_NAMES))).astype(np.float32)


@pytest.fixture
def writer_for(faces, header):
    """A function that makes a LogitWriter; `changes` are header fields."""

    def make(path, *, rows_per_part=4, dataset=faces, shard=None, **changes):
        return LogitWriter(
            path,
            replace(header, **changes),
            sample_ids=dataset.ids,
            content_hashes=dataset.content_hashes,
            labels=dataset.labels,
            rows_per_part=rows_per_part,
            shard=shard,
        )

    return make


@pytest.fixture
def written(writer_for, logits):
    """A function that writes what is missing, or the first `parts` of it, and returns the writer."""

    def write(path, *, parts=None, **changes):
        writer = writer_for(path, **changes)
        for rows in writer.missing()[:parts]:
            writer.write(rows, logits[rows])
        return writer

    return write


@pytest.fixture
def path(tmp_path):
    return tmp_path / "teacher.h5"


@pytest.fixture
def stored(path, written):
    """Path of a finished store of `faces`."""
    return written(path).finish()


@pytest.fixture
def files(tmp_path):
    """A function that lists every file in the test's folder."""
    return lambda: sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file())
