"""Rows/s of the logit store alone, and memory of the caching pass, from 10^4 to 10^6 images.

    python benchmarks/store_at_scale.py [--rows 1000000] [--images 10000 100000 1000000]

- The store alone: made-up logits go in (`write` the parts, `merge` them) and come out (`open`, which checks every
  byte; `join` to a dataset of the same ids, which reads the logits). `in` and `out` are both steps together.
  In addition `shuffled`, a join to the ids in another order, and `logits`, all of them in the order of the file.
  Million rows per second, the median over rounds. Files lie in the folder for temporary ones; what was just
  written is mostly still in memory.
- The same with 512 float16 features beside the logits, of one view: `write`, `merge`, `open`, `join` as above;
  `batches`, batches of 64 random rows, each read and checked; and `verify`, all features checked in order.
- The caching pass: `cache_logits` with a teacher that gives pixels back, and 8x8 images that are made when they are
  read. `hash` is the time for content hashes and fingerprint, `score` for the rest. `peak` is the largest resident
  memory of the process, `rise` what lies above the peak of a small pass before. The dataset's own columns (ids,
  labels, splits, hashes) are part of it, and stand next to it. Once more with the features.
- Training from a cache: an epoch of `train` on such a store, with a network of one layer. `rise` as above; the logits
  in memory are part of it, and stand next to it.

Every measurement has a process of its own. Prints Markdown.
"""

import argparse
import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import MappingProxyType

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import h5py
import keras
import numpy as np

from distill.data.columns import TEXT, Names, blocks
from distill.data.dataset import Dataset
from distill.data.expressions import CLASS_ORDERS
from distill.data.views import ViewSpec
from distill.logit_store import Feature, LogitHeader, LogitWriter, open_logits
from distill.runtimes.image_model import LOGITS, ImageModel, InnerOutputs
from distill.scoring.caching import cache_logits
from distill.training.recipe import Recipe
from distill.training.train import train

CLASS_NAMES = CLASS_ORDERS["fer2013"]
CLASSES = len(CLASS_NAMES)
VIEWS = (1, 8)
ROWS_PER_PART = (16384, 512)  # the second is the default of `cache_logits`
WARM_UP_IMAGES = 2000
WARM_UP_TRAINING = 50_000  # TensorFlow's own memory grows for a while
FEATURE = Feature("pool", (512,), "float16")
BATCH, BATCHES = 64, 500
TRAINING_BATCH = 1024
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
MIB = 2**20


class MadeImages:
    """Images that depend on their position alone; none is kept."""

    shape = (8, 8, 1)

    def __init__(self, count: int):
        self.count = count
        self.factors = np.random.default_rng(0).integers(2**64, size=(1, *self.shape), dtype=np.uint64)

    def __len__(self) -> int:
        return self.count

    def read(self, indices: np.ndarray) -> np.ndarray:
        products = np.asarray(indices).astype(np.uint64)[:, None, None, None] * self.factors
        return (products >> np.uint64(56)).astype(np.uint8)


def made_faces(count: int) -> Dataset:
    ids = np.empty(count, TEXT)
    for rows in blocks(count):
        ids[rows] = [f"face-{row:07d}" for row in range(rows.start, rows.stop)]
    return Dataset(
        name="made",
        ids=ids,
        labels=np.arange(count, dtype=np.int32) % CLASSES,
        class_names=CLASS_NAMES,
        images=MadeImages(count),
        splits=np.broadcast_to("train", count),
    )


def first_pixels(images: np.ndarray) -> np.ndarray:
    """A teacher that costs nothing: its logits are the first pixels."""
    return images.reshape(len(images), -1)[:, :CLASSES]


def trivial_teacher() -> ImageModel:
    return ImageModel(
        name="first-pixels",
        input_shape=MadeImages.shape,
        classes=CLASSES,
        sha256="0",
        numeric_policy="float32",
        logits_from=LOGITS,
        input_format={},
        network=None,
        predict=first_pixels,
    )


def teacher_with_features() -> ImageModel:
    """The same teacher, with a layer of 512 numbers that are pixels, too."""

    def predict(images: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        return first_pixels(images), [np.tile(images.reshape(len(images), -1), 8)]

    inner = InnerOutputs(lambda: {FEATURE.name: FEATURE.shape}, lambda names: predict)
    return replace(trivial_teacher(), inner=inner)


def made_writer(
    path: Path,
    faces: Dataset,
    views: int,
    rows_per_part: int,
    features: tuple[Feature, ...] = (),
    view_spec: Mapping = MappingProxyType({}),
) -> LogitWriter:
    header = LogitHeader(
        class_names=CLASS_NAMES,
        views=views,
        view_spec=view_spec,
        teacher_name="made",
        teacher_sha256="0",
        teacher_input_shape=MadeImages.shape,
        numeric_policy="float32",
        dataset_fingerprint="0",
        dataset_name=faces.name,
        features=features,
    )
    columns = {"sample_ids": faces.ids, "content_hashes": faces.content_hashes, "labels": faces.labels}
    return LogitWriter(path, header, **columns, rows_per_part=rows_per_part)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started


def store_seconds(rows: int, views: int, rows_per_part: int) -> dict[str, float]:
    """Return how long each step of the store took."""
    faces = made_faces(rows)
    faces.content_hashes  # noqa: B018 - not what is measured
    shuffled = faces.subset(np.random.default_rng(1).permutation(rows))
    logits = np.random.default_rng(0).normal(size=(rows_per_part, views, CLASSES)).astype(np.float32)
    seconds = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "logits.h5"
        with timed(seconds, "write"):
            writer = made_writer(path, faces, views, rows_per_part)
            for part in writer.missing():
                writer.write(part, logits[: part.stop - part.start])
        with timed(seconds, "merge"):
            writer.finish()
        with timed(seconds, "open"):
            open_logits(path)
        for name, wanted in (("join", faces), ("shuffled", shuffled)):
            store = open_logits(path)  # has read no logits yet
            with timed(seconds, name):
                store.join(wanted)
        store = open_logits(path)
        with timed(seconds, "logits"):
            store.logits  # noqa: B018
    return seconds


def feature_speeds(rows: int, rows_per_part: int) -> dict[str, float]:
    """Return million rows per second of each step, with a feature beside the logits."""
    faces = made_faces(rows)
    faces.content_hashes  # noqa: B018 - not what is measured
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(rows_per_part, 1, CLASSES)).astype(np.float32)
    values = rng.normal(size=(rows_per_part, 1, *FEATURE.shape)).astype(np.float32)
    seconds: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        with timed(seconds, "write"):
            writer = made_writer(Path(folder) / "logits.h5", faces, 1, rows_per_part, (FEATURE,))
            for part in writer.missing():
                count = part.stop - part.start
                writer.write(part, logits[:count], {FEATURE.name: values[:count]})
        with timed(seconds, "merge"):
            path = writer.finish()
        with timed(seconds, "open"):
            store = open_logits(path)
        with timed(seconds, "join"):
            store.join(faces)
        with timed(seconds, "batches"):
            for _ in range(BATCHES):
                store.read_feature(FEATURE.name, rng.integers(0, rows, BATCH), np.zeros(BATCH, int))
        with timed(seconds, "verify"):
            store.check_features()
    done = dict.fromkeys(seconds, rows) | {"batches": BATCH * BATCHES}
    return {name: done[name] / taken / 1e6 for name, taken in seconds.items()}


def store_speeds(rows: int, views: int, rows_per_part: int, rounds: int) -> dict[str, float]:
    """Return million rows per second of each step, and of all steps in and all steps out."""
    seconds = [in_fresh_process(store_seconds, rows, views, rows_per_part) for _ in range(rounds)]
    step = {name: median(each[name] for each in seconds) for name in seconds[0]}
    step["in"] = step["write"] + step["merge"]
    step["out"] = step["open"] + step["join"]
    return {name: rows / taken / 1e6 for name, taken in step.items()}


def caching_costs(images: int, views: int, features: tuple[str, ...] = ()) -> dict[str, float]:
    """Return seconds, and bytes by which the peak of resident memory rises."""
    seconds = {}
    teacher, how = teacher_with_features(), {"features": features, "progress": False}
    with TemporaryDirectory() as folder:
        cache_logits(teacher, made_faces(WARM_UP_IMAGES), Path(folder) / "warm.h5", **how)
        before = peak_bytes()
        faces = made_faces(images)
        with timed(seconds, "hash"):
            faces.fingerprint  # noqa: B018
        with timed(seconds, "score"):
            cache_logits(teacher, faces, Path(folder) / "logits.h5", views=views, **how)
        peak = peak_bytes()
    columns = (faces.ids, faces.labels, faces.splits, faces.content_hashes)
    return {**seconds, "peak": peak, "rise": peak - before, "columns": sum(column.nbytes for column in columns)}


def training_costs(images: int, views: int) -> dict[str, float]:
    """Return seconds of an epoch, and bytes by which the peak of resident memory rises."""
    seconds: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        for count in (WARM_UP_TRAINING, images):
            path = Path(folder) / f"{count}.h5"
            in_fresh_process(write_store, path, count, views)
            before = peak_bytes()
            faces = learned_faces(count)
            with timed(seconds, "epoch"):
                train(
                    one_layer(),
                    faces,
                    logits=path,
                    recipe=Recipe(epochs=1, batch_size=TRAINING_BATCH),
                    out=Path(folder) / f"run-{count}",
                    progress=False,
                )
        peak = peak_bytes()
    return {**seconds, "peak": peak, "rise": peak - before, "logits": 4.0 * images * views * CLASSES}


def learned_faces(count: int) -> Dataset:
    """The made faces, of which every hundredth chooses the epoch."""
    faces = made_faces(count)
    return replace(faces, splits=Names(("train", "validation"), (np.arange(count) % 100 == 0).astype(np.uint8)))


def write_store(path: Path, images: int, views: int) -> None:
    faces, rows_per_part = learned_faces(images), ROWS_PER_PART[0]
    logits = np.random.default_rng(0).normal(size=(rows_per_part, views, CLASSES)).astype(np.float32)
    writer = made_writer(path, faces, views, rows_per_part, view_spec=ViewSpec().to_dict())
    for part in writer.missing():
        writer.write(part, logits[: part.stop - part.start])
    writer.finish()


def one_layer() -> keras.Model:
    pixels = keras.Input(MadeImages.shape)
    return keras.Model(pixels, keras.layers.Dense(CLASSES)(keras.layers.Flatten()(pixels)), name="one_layer")


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT


def in_fresh_process(function: Callable, *args) -> Mapping[str, float]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def print_header(*names: str) -> None:
    print("\n| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|")


def print_store(rows: int, rounds: int) -> None:
    steps = ("write", "merge", "in", "open", "join", "out", "shuffled", "logits")
    print(f"\n{rows:,} rows of views x classes, million rows/s, median of {rounds}")
    print_header("views x classes", "rows in a part", *steps)
    for views in VIEWS:
        for rows_per_part in ROWS_PER_PART:
            speeds = store_speeds(rows, views, rows_per_part, rounds)
            values = " | ".join(f"{speeds[step]:.2f}" for step in steps)
            print(f"| {views} x {CLASSES} | {rows_per_part} | {values} |", flush=True)


def print_features(rows: int, rounds: int) -> None:
    steps = ("write", "merge", "open", "join", "batches", "verify")
    print(f"\n{rows:,} rows of one view with {FEATURE}, million rows/s, median of {rounds}")
    print_header("rows in a part", *steps)
    for rows_per_part in ROWS_PER_PART:
        found = [in_fresh_process(feature_speeds, rows, rows_per_part) for _ in range(rounds)]
        values = " | ".join(f"{median(each[step] for each in found):.3f}" for step in steps)
        print(f"| {rows_per_part} | {values} |", flush=True)


def print_caching(images: list[int], views: tuple[int, ...] = VIEWS, features: tuple[str, ...] = ()) -> None:
    print(f"\nThe caching pass with a trivial teacher{f' and {FEATURE}' if features else ''}")
    print_header("images", "views", "hash, s", "score, s", "images/s", "peak, MiB", "rise, MiB", "own columns, MiB")
    for each in views:
        for count in images:
            costs = in_fresh_process(caching_costs, count, each, features)
            speed = count / (costs["hash"] + costs["score"])
            memory = " | ".join(f"{costs[name] / MIB:.1f}" for name in ("peak", "rise", "columns"))
            times = f"{costs['hash']:.1f} | {costs['score']:.1f} | {speed:,.0f}"
            print(f"| {count:,} | {each} | {times} | {memory} |", flush=True)


def print_training(images: list[int], views: int = 1) -> None:
    print("\nAn epoch of a network of one layer from a cache")
    print_header("images", "views", "epoch, s", "peak, MiB", "rise, MiB", "logits, MiB")
    for count in images:
        costs = in_fresh_process(training_costs, count, views)
        memory = " | ".join(f"{costs[name] / MIB:.1f}" for name in ("peak", "rise", "logits"))
        print(f"| {count:,} | {views} | {costs['epoch']:.1f} | {memory} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10**6, help="of the store alone")
    parser.add_argument("--rounds", type=int, default=3, help="of the store alone")
    parser.add_argument(
        "--images", type=int, nargs="+", default=[10**4, 10**5, 10**6], help="of the caching pass, and of training"
    )
    parser.add_argument("--features-alone", action="store_true", help="leave out what has no features")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, numpy {np.__version__}, h5py {h5py.__version__}")
    if not args.features_alone:
        print_store(args.rows, args.rounds)
        print_caching(args.images)
        print_training(args.images)
    print_features(args.rows, args.rounds)
    print_caching(args.images, (1,), (FEATURE.name,))


if __name__ == "__main__":
    main()
