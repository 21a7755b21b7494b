"""Mean and deviation over runs that differ in their seed alone.

    python benchmarks/summarise_runs.py RUN [RUN ...]

Runs are grouped by their settings without the seed. The accuracy is that of the best epoch on the validation
split, which also chose the epoch.
"""

import json
import sys
from pathlib import Path
from statistics import mean, stdev


def kind(record: dict) -> str:
    """What a run is, without its seed."""
    network = record["network"]
    return f"{network['name']} ({network['parameters']:,} parameters) learned {record['loss']['formula']}"


def main() -> None:
    groups: dict[str, list[dict]] = {}
    for folder in map(Path, sys.argv[1:]):
        record = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        groups.setdefault(kind(record), []).append(summary)
    for name, runs in groups.items():
        accuracies = [100 * run["validation_accuracy"] for run in runs]
        spread = f" ± {stdev(accuracies):.2f}" if len(runs) > 1 else ""
        each = ", ".join(f"{accuracy:.2f}" for accuracy in accuracies)
        seconds = mean(run["seconds"] for run in runs)
        print(f"{name}\n  validation {mean(accuracies):.2f}{spread} % ({each}), {seconds:,.0f} s a run")


if __name__ == "__main__":
    main()
