"""README.txt in a run directory: what each file there is for, for whoever finds the folder a year later."""

from pathlib import Path

from distill import __version__
from distill.files.whole_files import atomic_file

README = "README.txt"
FILES = {
    "settings.json": "the record: recipe, data, views, objective, network, teacher, and the command",
    "training_images.npy": "which images were learned from, so that none of them is evaluated on",
    "metrics.csv": "a row an epoch; tensorboard --logdir shows the same figures from the files events.*",
    "curves.png": "learning curves",
    "best.keras": "the network of the best epoch: evaluate, export and distill.load_network take this folder for it",
    "last.keras": "network and optimizer after the last finished epoch, from which an interrupted run resumes",
    "previous.keras": "the same of the epoch before, in case last.keras is damaged",
    "summary.json": "what came out; it is there when the run is complete",
}
"""Name -> what it is for."""
_GOES_ON = {
    "train_student": "python -m distill.train_student --resume",
    "train_teacher": "python -m distill.train_teacher --resume",
}


def write_readme(folder: Path, command: str | None) -> None:
    """Write README.txt into a run directory, where there is none.

    Args:
        command: the name of the command that began the run; None: the library was called.
    """
    if (folder / README).exists():
        return
    again = _GOES_ON.get(command or "")
    how = f"{again} with this folder resumes" if again else "the same call resumes"
    width = max(map(len, FILES)) + 2
    lines = [
        f"A training run of distill-faces {__version__}.",
        "",
        *(f"{name:{width}}{purpose}" for name, purpose in FILES.items()),
        "",
        f"After an interruption, {how}. Deleting last.keras and previous.keras of a complete run",
        "saves space; evaluating and exporting need best.keras, settings.json and training_images.npy.",
    ]
    with atomic_file(folder / README) as unfinished:
        unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")
