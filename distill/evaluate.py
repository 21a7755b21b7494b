"""Evaluate networks: `python -m distill.evaluate --model RUN [RUN ...] --data D`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.command_line.average_settings import AverageSettings
from distill.command_line.class_orders import print_store_notes
from distill.command_line.data_settings import DataSetting
from distill.command_line.stage import run_stage
from distill.errors import InputError
from distill.files.home import expanded
from distill.refusals import check_at_least, check_within
from distill.runs.trained_networks import trained_path
from distill.runtimes.foreign_network import ForeignNetwork

if TYPE_CHECKING:
    from distill.data.dataset import Dataset
    from distill.evaluation.evaluated_models import EvaluatedModel
    from distill.evaluation.evaluation_report import TeacherPredictions


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(AverageSettings, ForeignNetwork, DataSetting):
    """Measure how well networks recognise the classes, how sure they are, what they cost, and what they mistake.

    A page to read (report.html), evaluation.json and pictures are written.
    """

    model: tuple[str, ...]
    """One or several, side by side: the directory of a run, the name of a trained network or student that comes
    with this package, an exported .tflite or .onnx file, the folder of an
    export (its recommended file); or an external network, which --input, --output-type and --classes describe: a
    .keras, .h5, .tflite or .onnx file, the folder of a SavedModel, or MODULE:FUNCTION."""
    out: str | None = None
    """Folder for report.html, evaluation.json and confusion matrices; by default RUN/evaluation-SPLIT, or one next
    to the file or export; of several models evaluation-SPLIT here."""
    split: str = "validation"
    """"train", "validation" or "test"."""
    splits: str | None = None
    """"official" or "random", as in training; by default those of the run (or its fold), else "official"."""
    split_seed: int | None = None
    """Of the random split, as in training; by default that of the run, else 0."""
    logits: tuple[str, ...] = ()
    """Stores of teachers that distill.teacher_logits wrote: how far the models agree with each. Classes are found by
    their names."""
    mistakes: int = 24
    """How many of the most confident mistakes of each model are shown; 0 for none."""
    seconds: float = 1.0
    """How long the call for one image is repeated to measure the speed of each model; 0 leaves it out."""

    def __post_init__(self):
        if not self.model:
            raise InputError("--model names no model: give at least one")
        check_at_least(0, mistakes=self.mistakes)
        check_within(0, 600, seconds=self.seconds)


def evaluate(settings: EvaluateSettings) -> None:
    """Print the evaluation that `settings` describe, and save it."""
    from distill.evaluation.evaluated_models import open_evaluated
    from distill.reports.evaluation_text import comparison_text
    from distill.runs.recorded_data import check_unseen, open_as_trained

    out = _output(settings)
    settings = replace(settings, model=tuple(map(trained_path, settings.model)))
    dataset = open_as_trained(
        settings.data,
        settings.model,
        splits=settings.splits,
        split_seed=settings.split_seed,
        class_names=settings.data_classes,
    )
    part = dataset.split(settings.split)
    for each in settings.model:
        check_unseen(each, part, split=settings.split)
    opened = open_evaluated(settings.model, part.class_names, foreign=settings)
    models = [replace(each, model=settings.averaging(each.model)) for each in opened]
    report = _report(settings, models, dataset, part)
    if len(models) > 1:
        print(comparison_text(report["models"]), end="\n\n")
    _save(report, part, out)
    print(f"saved in {out}: report.html is the page to read")


def _report(
    settings: EvaluateSettings, models: "list[EvaluatedModel]", dataset: "Dataset", part: "Dataset"
) -> dict[str, Any]:
    """Return what `evaluation.json` holds; each model is printed as soon as it is known."""
    from datetime import datetime

    from distill.evaluation.evaluate_model import evaluation_logits, in_data_order
    from distill.evaluation.evaluation_report import copied_from_training, report_on
    from distill.reports.evaluation_text import model_text
    from distill.versions import machine, versions

    teachers = _teachers(settings, part)
    copies = copied_from_training(dataset, settings.split)
    data = {"name": part.name, "split": settings.split, "fingerprint": part.fingerprint}
    found = []
    for model in models:
        given = evaluation_logits(model.model, part, view_spec=model.view_spec)
        logits = in_data_order(given, model.model, part)
        figures = report_on(logits, part, teachers=teachers, copies=copies, mistakes=settings.mistakes)
        found.append({**model.describe(), **model.check(given, part), **model.speed(settings.seconds), **figures})
        print(model_text(found[-1], data), end="\n\n")
    return {
        "data": data,
        "models": found,
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "machine": machine(),
        "versions": versions(),
    }


def _teachers(settings: EvaluateSettings, part: "Dataset") -> "list[TeacherPredictions]":
    from distill.evaluation.evaluation_report import teacher_predictions
    from distill.logit_store import open_logits

    stores = [open_logits(path) for path in settings.logits]
    print_store_notes(*stores)
    return [teacher_predictions(store, part) for store in stores]


def _save(report: dict[str, Any], part: "Dataset", out: Path) -> None:
    from distill.files.whole_files import write_bytes, write_json
    from distill.reports.evaluation_page import evaluation_page
    from distill.reports.metrics import EvaluationMetrics
    from distill.reports.plots import confusion_picture

    several = len(report["models"]) > 1
    for found in report["models"]:
        picture = f"confusion-{found['name']}.png" if several else "confusion.png"
        title = f"{found['name']}: accuracy {found['accuracy']:.1%}"
        confusion_picture(EvaluationMetrics.from_dict(found), out / picture, title=title)
    write_bytes(out / "report.html", evaluation_page(report, part).encode())
    write_json(out / "evaluation.json", report)


def _output(settings: EvaluateSettings) -> Path:
    from distill.runs.networks import recorded_run

    model, name = expanded(settings.model[0]), f"evaluation-{settings.split}"
    if settings.out is not None:
        out = Path(settings.out)
    elif len(settings.model) > 1:
        out = Path(name)
    elif model.is_dir() and recorded_run(model) is not None:  # nothing is written into any other folder
        out = model / name
    else:
        model = model if model.name not in ("", "..") else model.resolve()  # "." and ".." are no names to build on
        out = model.parent / f"{model.stem.replace(':', '.')}-{name}"
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: name a folder for the evaluation")
    return out


def main() -> None:
    run_stage(evaluate, EvaluateSettings, begins_anew=True)


if __name__ == "__main__":
    main()
