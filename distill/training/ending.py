"""How a training ends: in words."""

from datetime import datetime

from distill.data.dataset import Dataset
from distill.reports.metrics import RecordedAccuracy
from distill.reports.verdict import worth_lines
from distill.runs.run_directory import BEST, SUMMARY, RunDirectory


def ending_text(run: RunDirectory, validation: Dataset) -> str:
    """Return what came out of a finished run, what that is worth, and where it lies.

    Args:
        validation: labelled images, on which the epoch was chosen.
    """
    summary = run.summary
    chosen = summary.get("chosen_by", "accuracy").replace("-", " ")
    reached = RecordedAccuracy(
        validation.class_names,
        validation.class_counts,
        accuracy=summary["validation_accuracy"],
        balanced_accuracy=summary.get("validation_balanced_accuracy"),
    )
    balanced = "" if reached.balanced_accuracy is None else f" (balanced: {reached.balanced_accuracy:.1%})"
    lines = [
        f"validation accuracy {reached.accuracy:.1%}{balanced} in epoch {summary['best_epoch']} of "
        f"{summary['epochs']}, the best by {chosen}",
        *worth_lines(reached),
        f"saved in {run.path}: {BEST} is the network of that epoch",
    ]
    return "\n".join(lines)


def complete_text(run: RunDirectory) -> str:
    """Return that a run was complete before, what of it is there, and how to train anew."""
    summary = run.summary
    finished = datetime.fromtimestamp((run.path / SUMMARY).stat().st_mtime).astimezone()
    return (
        f"{run.path} is already complete, and nothing was trained: {run.record.network.name} after "
        f"{summary['epochs']} epochs, finished on {finished:%Y-%m-%d at %H:%M}. Another folder, or overwrite=True in "
        "Python, trains anew"
    )
