"""What an accuracy is worth, in words: its interval, and what always giving the most frequent class would reach."""

from distill.reports.metrics import CONFIDENCE, EvaluationMetrics, RecordedAccuracy


def worth_lines(metrics: EvaluationMetrics | RecordedAccuracy) -> list[str]:
    """Return what stands below an accuracy: its interval, the baseline, and a verdict where it is no better."""
    low, high = metrics.accuracy_interval
    name, share = metrics.most_frequent
    classes = int((metrics.support > 0).sum())
    lines = [
        f"{CONFIDENCE:.0%} confidence interval: {low:.1%} to {high:.1%} (Wilson, {metrics.count:,} images)",
        f'always predicting "{name}" would give {share:.1%}, and a balanced accuracy of {1 / classes:.1%}',
    ]
    said = verdict(metrics)
    return lines if said is None else [*lines, f"warning: {said}"]


def verdict(metrics: EvaluationMetrics | RecordedAccuracy) -> str | None:
    """Return in words that a network is not better than always predicting the most frequent class; None where it is.

    It is better where the whole interval of its accuracy lies above.
    """
    name, share = metrics.most_frequent
    constant = f'always predicting "{name}" ({share:.1%})'
    if metrics.accuracy <= share:
        said = f"the accuracy of {metrics.accuracy:.1%} is no better than {constant}"
    elif metrics.accuracy_interval[0] <= share:
        too_few = f"{metrics.count:,} images are too few to tell"
        said = f"the accuracy of {metrics.accuracy:.1%} may be no better than {constant}: {too_few}"
    else:
        return None
    balanced = metrics.balanced_accuracy
    return said if balanced is None else f"{said}; the balanced accuracy is {balanced:.1%}"
