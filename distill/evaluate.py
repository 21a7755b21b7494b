"""Evaluate a network: `python -m distill.evaluate --model RUN --data D`."""

from dataclasses import dataclass
from pathlib import Path

from distill.data.data_settings import DataSettings
from distill.stage import run_stage


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(DataSettings):
    """Measure accuracy, macro-F1, per-class figures and the confusion matrix of a network."""

    model: str
    """The directory of a run, or a .keras file."""
    out: str | None = None
    """Directory for evaluation.json and confusion.png; RUN/evaluation-SPLIT, or beside the file, by default."""
    split: str = "validation"
    """"train", "validation" or "test"."""


def evaluate(settings: EvaluateSettings) -> None:
    """Print the evaluation that `settings` describe, and save it."""
    from distill.files import write_json
    from distill.networks import load_network
    from distill.reports.metrics import confusion_text, per_class_table
    from distill.reports.plots import confusion_picture
    from distill.training.evaluation import evaluate_model
    from distill.training.run_directory import versions

    dataset = settings.open()
    part = dataset.split(settings.split)
    model = load_network(settings.model)
    _check_class_names(Path(settings.model), part)
    metrics = evaluate_model(model, part)
    out = _output(settings)
    print(
        f"{model.name}, {model.count_params():,} parameters, on {len(part):,} {settings.split} images of {part.name}"
    )
    print(f"accuracy {metrics.accuracy:.4f}   macro-F1 {metrics.macro_f1:.4f}\n")
    print(per_class_table(metrics), confusion_text(metrics), sep="\n\n")
    write_json(
        out / "evaluation.json",
        {
            "model": str(settings.model),
            "data": {"name": part.name, "split": settings.split, "fingerprint": part.fingerprint},
            **metrics.to_dict(),
            "versions": versions(),
        },
    )
    confusion_picture(metrics, out / "confusion.png", title=f"{model.name}: accuracy {metrics.accuracy:.1%}")
    print(f"\nsaved in {out}")


def _output(settings: EvaluateSettings) -> Path:
    if settings.out is not None:
        return Path(settings.out)
    model = Path(settings.model)
    return (model if model.is_dir() else model.parent) / f"evaluation-{settings.split}"


def _check_class_names(model: Path, dataset) -> None:
    """Refuse a network of a run whose classes stood in another order."""
    from distill.errors import InputError
    from distill.training.run_directory import trained_class_names

    trained = trained_class_names(model if model.is_dir() else model.parent)
    if trained not in (None, dataset.class_names):
        raise InputError(
            f"{model} was trained on the classes {', '.join(trained)}; "
            f"{dataset.name} has {', '.join(dataset.class_names)}"
        )


def main() -> None:
    run_stage(evaluate, EvaluateSettings)


if __name__ == "__main__":
    main()
