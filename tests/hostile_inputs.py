"""Every kind of file that is read, and what may be wrong with it, drawn by a seed."""

import json
import os
import pickle
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.command_line.stage import settings_from_dict
from distill.data.conversion import FORMATS, convert
from distill.data.open_dataset import open_dataset
from distill.experiments.comparison_folder import ComparisonFolder
from distill.experiments.cross_validation import folds_in
from distill.exporting.export_student import _check_is_ours
from distill.exporting.model_card import _training
from distill.files.documents import read_json
from distill.logit_store import open_logits
from distill.logit_store.exchange import export_logits, import_logits
from distill.prediction.exported_model import DEFAULT_STUDENT, open_exported, trained_students
from distill.reports.store_report import describe_store, store_text
from distill.runs.networks import recorded_views
from distill.runs.recorded_data import check_unseen, split_as_trained
from distill.runs.run_directory import read_metrics, read_summary
from distill.runs.run_record import read_record
from distill.runs.training_images import TrainingImages
from distill.runtimes.keras_file import load_network
from distill.runtimes.saved_model import recognise  # noqa: F401 - loads TensorFlow before the clock runs
from distill.training.recipe import Recipe
from tests.prediction.small_student import write_students

VERSION_0_1 = Path(__file__).parent / "version_0_1"
DEADLINE = 20  # seconds for one file; a reader takes a few hundredths


@dataclass(frozen=True)
class Reader:
    """A kind of file."""

    prepare: Callable[[Path], Path]
    """Puts a good one into a folder, with what belongs to it, and returns its path."""
    read: Callable[[Path], Any]
    """Reads it as a command does."""
    exact: bool = False
    """Whether a checksum guards it: then a changed file is refused, or read as it was."""


def copied(source: Path) -> Callable[[Path], Path]:
    """Return what copies a file, or that file of a folder with all others of the folder."""

    def copy(folder: Path) -> Path:
        shutil.copytree(source.parent, folder / "copy")
        return folder / "copy" / source.name

    return copy


def written(name: str, content: Any) -> Callable[[Path], Path]:
    """Return what writes a text, or a document as JSON."""

    def write(folder: Path) -> Path:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    return write


def exported(suffix: str) -> Callable[[Path], Path]:
    """Return what exports the logits of version 0.1."""

    def export(folder: Path) -> Path:
        export_logits(open_logits(VERSION_0_1 / "logits.h5"), folder / f"logits{suffix}")
        return folder / f"logits{suffix}"

    return export


def array_pair(folder: Path) -> Path:
    np.save(folder / "faces-images.npy", np.arange(7 * 16, dtype=np.uint8).reshape(7, 4, 4))
    np.save(folder / "faces-labels.npy", np.arange(7))
    return folder / "faces-images.npy"


def labels_of_pair(folder: Path) -> Path:
    return array_pair(folder).with_name("faces-labels.npy")


def ferplus(folder: Path) -> Path:
    written("fer2013.csv", FER2013)(folder)
    return written("fer2013new.csv", FERPLUS)(folder)


def label_file(folder: Path) -> Path:
    faces = sorted((VERSION_0_1 / "faces").rglob("angry/*.png"))[:4]
    for number, face in enumerate(faces):
        shutil.copy(face, folder / f"{number}.png")
    written("classes.txt", "0 happy\n1 sad\n")(folder)
    return written("labels.txt", "".join(f"{number}.png {number % 2}\n" for number in range(len(faces))))(folder)


def classes_file(folder: Path) -> Path:
    return label_file(folder).with_name("classes.txt")


def shard(format: str) -> Callable[[Path], Path]:
    """Return what converts the faces of a label file into one shard."""

    def write(folder: Path) -> Path:
        source = folder / "source"
        source.mkdir()
        convert(open_dataset(label_file(source)), folder / "shards", format=format)
        return next((folder / "shards").glob(f"images-*{FORMATS[format].suffix}"))

    return write


def pickled(folder: Path) -> Path:
    logits = {f"a/{number}.png": [0.5, -1.0, 2.0, 0.0, 1.0, 3.0, -2.0, number] for number in map(float, range(5))}
    file = folder / "logits.pickle"
    file.write_bytes(pickle.dumps(logits, protocol=2))
    return file


def onnx_student(folder: Path) -> Path:
    write_students(folder)
    return folder / "small.onnx"


def hdf5_network(folder: Path) -> Path:
    load_network(VERSION_0_1 / "distilled" / "best.keras").save(folder / "network.h5")
    return folder / "network.h5"


def training_images(folder: Path) -> Path:
    run = copied(VERSION_0_1 / "distilled" / "settings.json")(folder).parent
    TrainingImages(np.arange(8, dtype=np.uint64).reshape(4, 2)).write(run)
    return run / "training_images.npy"


def upgraded_record(folder: Path) -> Path:
    """The record of version 0.1, as this version writes it."""
    file = copied(VERSION_0_1 / "distilled" / "settings.json")(folder)
    read_record(file.parent).write(file.parent)
    return file


def read_run(file: Path) -> Any:
    """Read a record as `evaluate`, `export`, `--config` and `--resume` do."""
    record = read_record(file.parent)
    if record is None:
        return None
    recorded_views(file.parent)
    data = open_dataset(VERSION_0_1 / "faces")
    check_unseen(file.parent, split_as_trained(data, str(file.parent)).split("validation"), split="validation")
    record.differences(read_record(VERSION_0_1 / "labels_alone"))
    _training(record)
    settings_from_dict(Recipe, record.recipe)
    return record


def read_data(path: Path) -> Any:
    dataset = open_dataset(path)
    return dataset.class_names, dataset.labels.tolist(), dataset.read(np.arange(len(dataset))).tobytes()


def read_store(path: Path) -> Any:
    store = open_logits(path)
    return store.sample_ids.tolist(), store.logits.tobytes(), store_text(describe_store(store, None)).splitlines()[1:]


def read_import(path: Path) -> Any:
    out = path.with_name("imported.h5")
    try:
        return import_logits(path, out).logits.tobytes()
    finally:
        out.unlink(missing_ok=True)
        shutil.rmtree(f"{out}.parts", ignore_errors=True)


def read_network(path: Path) -> Any:
    return [weights.tobytes() for weights in load_network(path).get_weights()]


def read_exported(path: Path) -> Any:
    model = open_exported(path if path.suffix != ".json" else path.parent)
    return model.description, model.probabilities(np.zeros((1, *model.description.input_shape))).tobytes()


FER2013 = "emotion,pixels,Usage\n" + "".join(
    f"{label},{' '.join(str((label * 31 + pixel) % 256) for pixel in range(16))},{usage}\n"
    for label, usage in ((0, "Training"), (3, "Training"), (6, "PublicTest"), (2, "PrivateTest"))
)
FERPLUS = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
    "Training,a.png,4,0,0,1,3,2,0,0,0,0\nTraining,b.png,6,0,1,1,0,0,0,0,2,0\n"
    "PublicTest,c.png,5,0,0,3,1,0,0,0,1,0\nPrivateTest,d.png,0,8,0,0,0,0,0,0,0,2\n"
)
COMPARISON = {"settings": {"epochs": 3, "view": {"rotation": 5}}, "tested": {"a-0": 0.5}}

EXPORT = trained_students()[DEFAULT_STUDENT]
READERS = {
    "record": Reader(upgraded_record, read_run),
    "record of version 0.1": Reader(copied(VERSION_0_1 / "distilled" / "settings.json"), read_run),
    "summary": Reader(copied(VERSION_0_1 / "distilled" / "summary.json"), lambda file: read_summary(file.parent)),
    "metrics": Reader(copied(VERSION_0_1 / "distilled" / "metrics.csv"), lambda file: read_metrics(file.parent)),
    "training images": Reader(training_images, lambda file: TrainingImages.read(file.parent)),
    "comparison": Reader(written("x/comparison.json", COMPARISON), lambda file: ComparisonFolder(file.parent)),
    "folds": Reader(
        lambda folder: written("fold-0/summary.json", {})(folder) and written("folds.json", {"folds": [{}]})(folder),
        lambda file: folds_in(file.parent),
    ),
    "settings": Reader(
        written("settings.json", {"epochs": 3, "view": {"rotation": 3.0, "zoom": [0.9, 1.1], "extra": {}}}),
        lambda file: settings_from_dict(Recipe, read_json(file, what="settings")),
    ),
    "exports": Reader(copied(EXPORT / "exports.json"), read_exported),
    "export folder": Reader(copied(EXPORT / "exports.json"), lambda file: _check_is_ours(file.parent)),
    "exported LiteRT": Reader(
        lambda folder: next(copied(EXPORT / "exports.json")(folder).parent.glob("*.tflite")),
        read_exported,
        exact=True,
    ),
    "store": Reader(copied(VERSION_0_1 / "logits.h5"), read_store, exact=True),
    "logits in .npz": Reader(exported(".npz"), read_import, exact=True),
    "logits in .csv": Reader(exported(".csv"), read_import),
    "header of logits in .csv": Reader(
        lambda folder: exported(".csv")(folder).with_name("logits.header.json"),
        lambda file: read_import(file.with_name("logits.csv")),
    ),
    "images in .npy": Reader(array_pair, read_data),
    "labels in .npy": Reader(labels_of_pair, lambda file: read_data(file.with_name("faces-images.npy"))),
    "fer2013.csv": Reader(written("fer2013.csv", FER2013), read_data),
    "FER+ votes": Reader(ferplus, read_data),
    "label file": Reader(label_file, read_data),
    "classes.txt": Reader(classes_file, lambda file: read_data(file.parent)),
    "image": Reader(lambda folder: label_file(folder).with_name("0.png"), lambda file: read_data(file.parent)),
    "WebDataset": Reader(shard("webdataset"), read_data),
    "Parquet": Reader(shard("parquet"), read_data),
    "TFRecord": Reader(shard("tfrecord"), read_data, exact=True),
    "pickle": Reader(pickled, read_import),
    "exported ONNX": Reader(onnx_student, read_exported, exact=True),
    "Keras network in .h5": Reader(hdf5_network, read_network),
    "checkpoint": Reader(copied(VERSION_0_1 / "distilled" / "last.keras"), read_network, exact=True),
    "Keras network": Reader(copied(VERSION_0_1 / "distilled" / "best.keras"), read_network, exact=True),
}

HOSTILE_VALUES = (
    *(None, True, -1, 0, 10**9, 2**63, 10**30, 0.5, 1e308, "", "x", "a\nb", "\ud800", "../../x", "9" * 5000),
    *([], {}, [1], {"x": 1}, [[1]], [None]),
)


def hostile_files(file: Path, *, seed: int, count: int) -> Iterator[str]:
    """Change `file` in `count` ways, one after the other, and yield what was done; it is itself again at the end."""
    content, chance = file.read_bytes(), random.Random(seed)
    try:
        for _ in range(count):
            file.unlink()
            yield _changed(file, content, chance)
            _remove(file)
            file.write_bytes(content)
        for name, put in SPECIAL_FILES.items():
            file.unlink()
            put(file)
            yield name
            _remove(file)
            file.write_bytes(content)
    finally:
        _remove(file)
        file.write_bytes(content)


SPECIAL_FILES: dict[str, Callable[[Path], Any]] = {
    "a pipe": os.mkfifo,
    "a device without an end": lambda file: file.symlink_to("/dev/zero"),
    "a link to nowhere": lambda file: file.symlink_to("nowhere"),
    "a link to itself": lambda file: file.symlink_to(file.name),
    "a folder": lambda file: file.mkdir(),
    "nothing in it": lambda file: file.touch(),
    "brackets": lambda file: file.write_bytes(b"[" * 100_000),
}


def _remove(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        file.rmdir()
    else:
        file.unlink(missing_ok=True)


def _changed(file: Path, content: bytes, chance: random.Random) -> str:
    if file.suffix == ".json" and chance.random() < 0.8:
        changed, done = _changed_document(json.loads(content), chance)
        file.write_text(json.dumps(changed))
        return done
    changed, done = chance.choice(_BYTES)(bytearray(content), chance)
    file.write_bytes(changed)
    return done


def _changed_document(document: Any, chance: random.Random) -> tuple[Any, str]:
    """Put another value somewhere, or omit something."""
    places = [*_places(document)]
    holder, key = chance.choice(places)
    if chance.random() < 0.2:
        del holder[key]
        return document, f"{key!r} left out"
    holder[key] = chance.choice(HOSTILE_VALUES)
    return document, f"{key!r} is {holder[key]!r:.60}"


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    keys = document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in list(keys):
        yield document, key
        yield from _places(document[key])


def _flip(content: bytearray, chance: random.Random) -> tuple[bytes, str]:
    positions = [chance.randrange(len(content)) for _ in range(chance.choice((1, 1, 1, 8)))]
    for position in positions:
        content[position] ^= 1 << chance.randrange(8)
    return content, f"bits of the bytes {positions} changed"


def _truncate(content: bytearray, chance: random.Random) -> tuple[bytes, str]:
    length = chance.randrange(len(content))
    return content[:length], f"ends after {length} bytes"


_INSERTED = (b"\0", b"\xff" * 9, b'"', b"9" * 5000, b"\n", b",")


def _insert(content: bytearray, chance: random.Random) -> tuple[bytes, str]:
    position, text = chance.randrange(len(content)), chance.choice(_INSERTED)
    return content[:position] + text + content[position:], f"{text[:9]} at {position}"


_BYTES = (_flip, _flip, _truncate, _insert)


@contextmanager
def deadline() -> Iterator[None]:
    """Raise a TimeoutError where a file keeps its reader waiting."""

    def expired(*_):
        raise TimeoutError(f"no answer within {DEADLINE} seconds")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(DEADLINE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
