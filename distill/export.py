"""Export a student for devices: `python -m distill.export --model RUN --data D`."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.callable_module import let_module_be_called
from distill.command_line.data_settings import DataClasses
from distill.command_line.stage import run_stage
from distill.errors import GateError, InputError
from distill.files.home import expanded
from distill.refusals import check_at_least, check_within
from distill.runs.trained_networks import trained_path
from distill.runtimes.foreign_network import ForeignNetwork

if TYPE_CHECKING:
    import keras

    from distill.data.dataset import Dataset
    from distill.exporting.export_student import ExportResult


@dataclass(frozen=True, kw_only=True)
class ExportSettings(ForeignNetwork, DataClasses):
    """Write LiteRT (float32, float16, int8), ONNX and SavedModel files of a student, each compared with it.

    Every file takes raw pixels 0..255 and gives probabilities; names of classes, input size and preprocessing travel
    in it. A table, a recommendation and a model card are written to the same folder.
    """

    model: str
    """The directory of a run or its .keras file; a trained network that comes with this package, by its name; or an
    external .keras or .h5 file, a graph of layers, which --input, --output-type and --classes describe. What is
    exported takes pixels 0..255 and has the classes of the data."""
    data: str
    """A dataset of real images, as in training (MODULE:FUNCTION runs code with your permissions). Some
    of its training images set the ranges of int8, and every file is compared with the student on --split."""
    out: str | None = None
    """Folder for the files, exports.json and the card (README.md); by default RUN/export, or one next to the
    file."""
    formats: tuple[str, ...] = ()
    """"litert-float32", "litert-float16", "litert-int8", "onnx", "saved-model"; by default all that can be."""
    split: str = "validation"
    """Which images the files are compared on: "validation", "test" or "train"."""
    splits: str | None = None
    """"official" or "random", as in training; by default those of the run, else "official"."""
    split_seed: int | None = None
    """Of the random split, as in training; by default that of the run, else 0."""
    images: int = 4000
    """The most images of --split that files and student are compared on."""
    calibration: int = 300
    """Training images that set the ranges of int8."""
    seconds: float = 1.0
    """How long the call for one image is repeated, for each file."""
    max_bytes: int | None = None
    """A bound: exit code 1 where an exported file is larger."""
    min_agreement: float | None = None
    """A bound: exit code 1 where an exported file predicts another class than the student too often; 0..1."""

    def __post_init__(self):
        check_at_least(1, images=self.images, calibration=self.calibration)
        check_within(0, 600, seconds=self.seconds)
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise InputError(f"min-agreement must be a share in 0..1, such as .99, received {self.min_agreement}")


def export(settings: ExportSettings) -> None:
    """Write the files that `settings` name, print how they compare, and check the bounds.

    Raises:
        GateError: a file misses a bound. All files are there nevertheless.
    """
    from distill.exporting.comparing import missed_bounds, table
    from distill.exporting.export_student import export_student
    from distill.reports.verdict import worth_lines
    from distill.runs.networks import recorded_run, recorded_views
    from distill.runs.recorded_data import check_unseen, open_as_trained

    _one_thread()
    out = _output(settings)
    settings = replace(settings, model=trained_path(settings.model))
    dataset = open_as_trained(
        settings.data,
        [settings.model],
        splits=settings.splits,
        split_seed=settings.split_seed,
        class_names=settings.data_classes,
    )
    check_unseen(settings.model, dataset.split(settings.split), split=settings.split)
    student, class_order = _student(settings, dataset)
    result = export_student(
        student,
        dataset,
        out,
        formats=settings.formats,
        split=settings.split,
        view_spec=recorded_views(settings.model),
        record=recorded_run(settings.model),
        class_order=class_order,
        images=settings.images,
        calibration=settings.calibration,
        seconds=settings.seconds,
    )
    print(table(result.rows), "\n".join(worth_lines(result.metrics)), *result.notes, sep="\n\n")
    print("\n".join(["", *result.advice, f"\nsaved in {out}, with the card README.md"]))
    missed = missed_bounds(result.rows, max_bytes=settings.max_bytes, min_agreement=settings.min_agreement)
    if missed:
        raise GateError("; ".join(missed))


def export_network(student: "keras.Model", dataset: "Dataset", out: str | Path, **options: Any) -> "ExportResult":
    """Write a student's files into the folder `out`, each compared with it: `distill.export(student, dataset, out)`.

    Arguments, values and errors are those of `distill.exporting.export_student.export_student`.
    """
    from distill.exporting.export_student import export_student

    return export_student(student, dataset, out, **options)


def _student(settings: ExportSettings, dataset: "Dataset") -> "tuple[keras.Model, str]":
    """Return the network to export, with the classes of `dataset`, and how their order is known."""
    from distill.command_line.class_orders import print_network_check
    from distill.evaluation.open_network import open_network
    from distill.runtimes.foreign_network import in_order_of

    opened = open_network(settings.model, dataset.class_names, name_of_classes=dataset.name, foreign=settings)
    if opened.trained is not None:
        return opened.trained, opened.model.class_order
    student = in_order_of(opened.model, dataset.class_names)
    print_network_check(opened.model, dataset.split(settings.split))
    return student, opened.model.class_order


def _one_thread() -> None:
    """Let TensorFlow compute on one thread, as the other runtimes do here, so that their speeds compare."""
    import tensorflow as tf

    with suppress(RuntimeError):  # it has computed before, in a process that does more than this
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def _output(settings: ExportSettings) -> Path:
    model = expanded(settings.model)
    if settings.out is not None:
        return Path(settings.out)
    return model / "export" if model.is_dir() else model.with_name(f"{model.stem}-export")


def main() -> None:
    run_stage(export, ExportSettings, begins_anew=True)


if __name__ == "__main__":
    main()
else:
    let_module_be_called(__name__, export_network)
