"""List the networks and what each costs: `python -m distill.list_networks`."""

import json
import math
import os
import time
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path

from distill.command_line.stage import run_stage
from distill.errors import InputError
from distill.refusals import check_at_least, check_known

FORMATS = ("table", "json")
_PATIENCE = 5  # seconds before a bar is shown


@dataclass(frozen=True, kw_only=True)
class ListNetworksSettings:
    """List every teacher and student: input, classes, parameters, bytes, multiply-adds, images per second."""

    networks: tuple[str, ...] = ()
    """Names of those to list; by default all."""
    image_size: int | None = None
    """Height and width of their input; by default the published ones."""
    classes: int | None = None
    """How many logits they have; by default the published number."""
    measure: bool = True
    """Measure images per second, in inference mode and in one compiled call per batch."""
    batch_size: int = 32
    """Images in a call."""
    seconds: float = 0.5
    """How long to repeat the calls of each network; the fastest one counts."""
    format: str = "table"
    """"table", or "json": an array with one object per network."""
    json: str | None = None
    """File to save the architecture in, for keras.models.model_from_json; takes one name in --networks."""

    def __post_init__(self):
        check_known(self.format, FORMATS, what="format")
        check_at_least(1, image_size=self.image_size, classes=self.classes, batch_size=self.batch_size)
        if not 0 < self.seconds < math.inf:
            raise InputError(f"seconds must be above 0, received {self.seconds}")
        if self.json is not None and len(self.networks) != 1:
            raise InputError(
                f"--json {self.json} holds the architecture of one network, received {len(self.networks)} names: "
                "name one with --networks"
            )
        if self.json is not None and Path(self.json).is_dir():
            raise InputError(f"{self.json} is a folder: name a file for the architecture")


@dataclass(frozen=True)
class Row:
    """A line of the table: one network."""

    kind: str
    """"teacher" or "student"."""
    name: str
    input_shape: tuple[int, int, int]
    """Height, width, channels."""
    classes: int
    parameters: int
    weight_bytes: int
    multiply_adds: int
    images_per_second: float
    """0 where it was not measured."""


def list_networks(settings: ListNetworksSettings) -> None:
    """Print the networks that `settings` name, and save the architecture of one where `settings` say so.

    Raises:
        InputError: an unknown name; or, after the others are printed, networks that cannot be built in this way.
    """
    import keras

    from distill.progress import progress_bar

    rows, failures = [], []
    bar = progress_bar(_chosen(settings), desc="networks", unit="network", leave=False, delay=_PATIENCE)
    for kind, table, name in bar:
        try:
            rows.append(_row(kind, table, name, settings))
        except InputError as error:
            failures.append(str(error) if name in str(error) else f"{name}: {error}")
        keras.backend.clear_session()  # the next network may need all the memory
    if rows:
        _print(rows, settings)
    if failures:
        raise InputError("; ".join(failures))


def _chosen(settings: ListNetworksSettings) -> list[tuple]:
    """Kind, table and name of every network to list."""
    from students import STUDENTS
    from teachers import TEACHERS

    for name in settings.networks:
        check_known(name, sorted({**TEACHERS, **STUDENTS}), what="network")
    return [
        (kind, table, name)
        for kind, table in (("teacher", TEACHERS), ("student", STUDENTS))
        for name in table
        if name in (settings.networks or table)
    ]


def _row(kind: str, table, name: str, settings: ListNetworksSettings) -> Row:
    from distill.files.whole_files import atomic_file
    from distill.reports.network_costs import network_costs
    from distill.runs.networks import build_network

    classes = settings.classes or _published_classes(table[name])
    model = build_network(table, name, classes=classes, image_size=settings.image_size)
    row = Row(
        kind,
        name,
        input_shape=model.input_shape[1:],
        classes=model.output_shape[-1],
        **asdict(network_costs(model)),
        images_per_second=_images_per_second(model, settings) if settings.measure else 0,
    )
    if settings.json is not None:
        with atomic_file(settings.json) as unfinished:
            unfinished.write_text(model.to_json(), encoding="utf-8")
    return row


def _published_classes(builder) -> int:
    return signature(builder).parameters["classes"].default


def _images_per_second(model, settings: ListNetworksSettings) -> float:
    import numpy as np
    import tensorflow as tf

    shape = (settings.batch_size, *model.input_shape[1:])
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, shape), tf.float32)
    logits = tf.function(lambda images: model(images, training=False), autograph=False)
    logits(images).numpy()  # the first call compiles
    best, end = math.inf, time.perf_counter() + settings.seconds
    while math.isinf(best) or time.perf_counter() < end:
        started = time.perf_counter()
        logits(images).numpy()
        best = min(best, time.perf_counter() - started)
    return round(settings.batch_size / best, 1)


def _print(rows: list[Row], settings: ListNetworksSettings) -> None:
    if settings.format == "json":
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    print(_circumstances(settings), _table(rows, settings), *_trained(settings), sep="\n\n")
    if settings.json is not None:
        print(f"\narchitecture: {settings.json}")


def _table(rows: list[Row], settings: ListNetworksSettings) -> str:
    from distill.reports.metrics import aligned_text

    titles = ("kind", "name", "input", "classes", "parameters", "bytes", "multiply-adds", "images/s")
    cells = [
        (
            row.kind,
            row.name,
            "x".join(map(str, row.input_shape)),
            *(f"{number:,}" for number in (row.classes, row.parameters, row.weight_bytes, row.multiply_adds)),
            f"{row.images_per_second:,.0f}" if settings.measure else "-",
        )
        for row in rows
    ]
    return aligned_text([titles, *cells], left=2)


def _trained(settings: ListNetworksSettings) -> list[str]:
    """Return what there is to say of trained networks in this package, where all networks are listed."""
    from distill.prediction.exported_model import open_exported, trained_students
    from distill.reports.metrics import aligned_text
    from distill.runs.run_directory import read_summary
    from distill.runs.run_record import read_record
    from distill.runs.trained_networks import trained_networks

    lines = [["trained", "network", "input", "validation, in training"]]
    for name, folder in trained_networks().items():
        if record := read_record(folder):
            side = "x".join(map(str, record.network.input_shape))
            lines.append([name, record.network.name, side, f"{read_summary(folder)['validation_accuracy']:.1%}"])
    if settings.networks:
        return []
    students = [["trained student", "file", "bytes", "classes"]]
    for name in trained_students():
        export = open_exported(name)
        size, classes = export.path.stat().st_size, len(export.description.class_names)
        students.append([name, export.path.name, f"{size:,}", f"{classes}"])
    return [
        f"{aligned_text(lines, left=2)}\n\nthese come trained, as --teacher NAME and --model NAME",
        f"{aligned_text(students, left=2)}\n\nthese come trained and exported, as --model NAME",
    ]


def _circumstances(settings: ListNetworksSettings) -> str:
    """What the numbers, above all the speed, hold for."""
    import keras
    import tensorflow as tf

    gpus = len(tf.config.list_physical_devices("GPU"))
    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()
    machine = f"{gpus} GPU" if gpus else f"{threads} CPU threads"
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}, {keras.config.dtype_policy().name}"
    how = f"; images/s: the fastest call in {settings.seconds:g} s, {settings.batch_size} images each"
    return f"{machine}, {versions}{how if settings.measure else ''}"


def main() -> None:
    run_stage(list_networks, ListNetworksSettings, begins_anew=True)


if __name__ == "__main__":
    main()
