"""How much less time a comparison takes with two local workers of one thread each than in sequence, on one thread.

    python benchmarks/comparison_in_a_cluster.py [OUT]

Both give the same table. The time is that of the command's own part: Ray starts before it, workers within it.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

GRID = ("--losses", "hinton", "--temperatures", "4", "--lambdas", "0.5", "0.9", "--seeds", "2", "--epochs", "12")


def command(name: str, *flags: str) -> float:
    """Run a command of this project; return its seconds."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", f"distill.{name}", *flags], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def main(out: Path) -> None:
    logits = str(out / "logits.h5")
    command("teacher_logits", "--data", "synthetic", "--teacher", "fer2013_resnet10", "--views", "1", "--out", logits)
    compared = ("--data", "synthetic", "--logits", logits, "--students", "microexpnet", *GRID, "--cpus-per-run", "1")
    alone = command("compare", *compared, "--out", str(out / "alone"))
    shared = command("compare", *compared, "--out", str(out / "shared"), "--ray")
    same = (out / "alone" / "cells.csv").read_bytes() == (out / "shared" / "cells.csv").read_bytes()
    print(f"in sequence {alone:.0f} s, with two workers {shared:.0f} s: {alone / shared:.2f} times as fast; ", end="")
    print("the same table" if same else "OTHER TABLES")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
