"""Evaluate a network: `python -m distill.evaluate --model RUN --data D`."""

from dataclasses import dataclass
from pathlib import Path

from distill.data.data_settings import DataSettings, print_notes
from distill.data.dataset import Dataset, with_splits
from distill.data.open_dataset import open_dataset
from distill.errors import InputError
from distill.stage import run_stage


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """Measure accuracy, macro-F1, per-class figures and the confusion matrix of a network."""

    model: str
    """The directory of a run, or a .keras file."""
    data: str
    """A data set: a path whose layout is recognised, or "synthetic"."""
    out: str | None = None
    """Directory for evaluation.json and confusion.png; by default RUN/evaluation-SPLIT, or one beside the file."""
    split: str = "validation"
    """"train", "validation" or "test"."""
    splits: str | None = None
    """"official" or "random", as in training; by default those of the run (or its fold), else "official"."""
    split_seed: int | None = None
    """Of the random split, as in training; by default that of the run, else 0."""


def evaluate(settings: EvaluateSettings) -> None:
    """Print the evaluation that `settings` describe, and save it."""
    from distill.files import write_json
    from distill.networks import check_class_names, load_network, recorded_views
    from distill.reports.metrics import confusion_text, per_class_table
    from distill.reports.plots import confusion_picture
    from distill.scoring.evaluation import evaluate_model
    from distill.versions import versions

    out = _output(settings)
    part = _open(settings).split(settings.split)
    check_class_names(settings.model, part.class_names)
    model = load_network(settings.model)
    metrics = evaluate_model(model, part, view_spec=recorded_views(settings.model))
    print(f"{model.name}, {model.count_params():,} parameters")
    print(f"on {len(part):,} {settings.split} images of {part.name}")
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


def _open(settings: EvaluateSettings) -> Dataset:
    """Open the data with the splits of the network's training: others would test it on what it learned from."""
    from distill.networks import recorded_run, recorded_splits

    dataset = open_dataset(settings.data)
    print_notes(dataset)
    of_fold = recorded_splits(settings.model, dataset)
    if of_fold is None:
        trained = (recorded_run(settings.model) or {}).get("settings", {})
        policy = settings.splits or trained.get("splits", DataSettings.splits)
        seed = trained.get("split_seed", 0) if settings.split_seed is None else settings.split_seed
        return with_splits(dataset, policy=policy, seed=seed)
    if (settings.splits, settings.split_seed) != (None, None):
        raise InputError(f"{settings.model} was trained in a fold, which makes its own splits: leave --splits out")
    return of_fold


def _output(settings: EvaluateSettings) -> Path:
    model = Path(settings.model)
    if settings.out is not None:
        out = Path(settings.out)
    elif model.is_dir():
        out = model / f"evaluation-{settings.split}"
    else:
        out = model.with_name(f"{model.stem}-evaluation-{settings.split}")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: name a folder for the evaluation")
    return out


def main() -> None:
    run_stage(evaluate, EvaluateSettings)


if __name__ == "__main__":
    main()
