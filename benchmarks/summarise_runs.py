"""Mean and deviation over runs that differ in their seed alone.

    python benchmarks/summarise_runs.py RUN [RUN ...]

Runs are grouped by their settings without the seed. The accuracy is that of the best epoch on the validation
split, which also chose the epoch; of a run with folds it is the mean over its folds' test images.
"""

import hashlib
import json
import sys
from pathlib import Path
from statistics import mean, stdev


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def kind(record: dict, split: str) -> str:
    """What a run is, without its seed."""
    network = record["network"]
    settings = {name: value for name, value in record["recipe"].items() if name != "seed"}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:6]
    learned = f"{network['name']} ({network['parameters']:,} parameters) learned {record['objective']['formula']}"
    return f"{learned}, settings {digest}\n  {split}"


def result(folder: Path) -> tuple[str, float, float]:
    """Kind, accuracy in percent, and seconds of training."""
    if not (folder / "folds.json").exists():
        summary = read(folder / "summary.json")
        return kind(read(folder / "settings.json"), "validation"), summary["validation_accuracy"], summary["seconds"]
    report = read(folder / "folds.json")
    runs = [folder / f"fold-{row['fold']}" for row in report["folds"]]
    seconds = sum(read(run / "summary.json")["seconds"] for run in runs)
    return kind(read(runs[0] / "settings.json"), f"test, mean of {len(runs)} folds"), report["mean"], seconds


def main() -> None:
    groups: dict[str, list[tuple[float, float]]] = {}
    for folder in map(Path, sys.argv[1:]):
        name, accuracy, seconds = result(folder)
        groups.setdefault(name, []).append((100 * accuracy, seconds))
    for name, runs in groups.items():
        accuracies = [accuracy for accuracy, _ in runs]
        spread = f" ± {stdev(accuracies):.2f}" if len(runs) > 1 else ""
        each = ", ".join(f"{accuracy:.2f}" for accuracy in accuracies)
        seconds = mean(seconds for _, seconds in runs)
        print(f"{name} {mean(accuracies):.2f}{spread} % ({each}), {seconds:,.0f} s a run")


if __name__ == "__main__":
    main()
