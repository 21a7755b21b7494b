"""The run directory: everything that a training run leaves behind, enough to repeat it and to go on.

`run_files.FILES` says which files there are. settings.json is written before training, the others after epochs; the
presence of summary.json says that the run is complete.
"""

import csv
import io
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
from filelock import FileLock, Timeout

from distill.errors import InputError
from distill.files.busy_files import is_there, reading
from distill.files.documents import MAX_BYTES, Count, parsed, read_json
from distill.files.home import expanded
from distill.files.regular_files import read_regular
from distill.files.whole_files import atomic_file, write_csv, write_json
from distill.refusals import reason
from distill.runs.best_epoch import averaged_is_better, best_accuracy, best_epoch, chosen_by, kept_column, quality
from distill.runs.checkpoints import LAST, PREVIOUS, load_checkpoint, save_checkpoint
from distill.runs.events import event_writer
from distill.runs.run_files import README, write_readme
from distill.runs.run_record import SETTINGS, RunRecord, read_record
from distill.runs.scope import clone, scope_of
from distill.runs.training_images import TRAINING_IMAGES, TrainingImages
from distill.runtimes import keras_file
from distill.runtimes.weights import set_weights
from distill.versions import versions

METRICS, CURVES, SUMMARY = "metrics.csv", "curves.png", "summary.json"
BEST = "best.keras"
LOCK = ".writer.lock"
_FIRST_PICTURE = 10  # seconds after its start; a run that is done by then draws one, at its end
_UNTRAINED = ".untrained-"
_WHAT = "summary of a finished run"
_ALWAYS = ("epoch", "train_loss", "validation_loss", "validation_accuracy", "seconds")  # columns, in every version


class RunDirectory:
    """Opens a run directory; as a context manager, for writing by one process at a time.

    Args:
        path: new, empty, or a run of the same record, which is then continued.
        record: of the run. Two runs with the same record would give the same student, so an unfinished one may be
            continued.
        training_images: what it learns from.
        neutral_recipe: see `RunRecord.differences`.
        overwrite: remove the run that lies in `path`, of whatever record; other files stay.

    Raises:
        InputError: `path` holds something else, or a run with another record; when entered, also where another
            process writes there.
    """

    def __init__(
        self,
        path: str | Path,
        record: RunRecord,
        *,
        training_images: TrainingImages | None = None,
        neutral_recipe: Mapping[str, Any] = MappingProxyType({}),
        overwrite: bool = False,
    ):
        self.path = Path(path)
        self.record = record
        self.chosen_by = chosen_by(record.recipe)
        """What its best epoch is chosen by, of `best_epoch.CHOICES`."""
        self._training_images = training_images
        self._lock = FileLock(self.path / LOCK, timeout=0)
        self._neutral_recipe = neutral_recipe
        self.writes = True
        """Where several processes train one student together, one of them does; the others keep all in memory."""
        self._overwritten = overwrite and self._remove_run()
        self._check_is_ours()
        self.rows = read_metrics(self.path)
        self.saved_epochs = 0
        self._best_student: keras.Model  # of `restore`, which also writes where events go
        self._own_layers: tuple[keras.layers.Layer, ...] = ()
        self._events: Callable[[Mapping[str, float]], None]
        self._next_picture = time.monotonic() + _FIRST_PICTURE

    def __enter__(self) -> "RunDirectory":
        if not self.writes:
            return self
        self.path.mkdir(parents=True, exist_ok=True)
        self._acquire()
        try:
            self._check_is_ours()  # another process may have begun there meanwhile
        except InputError:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_) -> None:
        if self.writes and self.complete:
            (self.path / LOCK).unlink(missing_ok=True)
        self._lock.release()

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except Timeout:
            raise InputError(
                f"another process trains into {self.path}: wait until it has finished, or name another folder"
            ) from None

    def _remove_run(self) -> bool:
        """Remove the files of a run; its record goes last, so that a kill leaves what can be removed.

        Its README.txt goes, too, which says what the files are and names the command.

        Returns:
            Whether there was one.
        """
        if not is_there(self.path / SETTINGS):
            return False
        self._acquire()
        try:
            names = (SUMMARY, LAST, PREVIOUS, BEST, CURVES, METRICS, TRAINING_IMAGES, README)
            for file in [
                *(self.path / name for name in names),
                *self.path.glob("events.out.tfevents.*"),
                self.path / SETTINGS,
            ]:
                file.unlink(missing_ok=True)
        finally:
            self._lock.release()
        return True

    @property
    def complete(self) -> bool:
        """Whether the run was finished by this or an earlier process."""
        return is_there(self.path / SUMMARY)

    @property
    def summary(self) -> dict:
        """What a finished run came to."""
        return read_summary(self.path)

    def _check_is_ours(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file: name a new folder for the run")
        with reading(self.path):
            children = list(self.path.iterdir()) if is_there(self.path) else []
        # Names that begin with a dot are what a killed process was writing, and the lock.
        if all(child.name.startswith(".") for child in children):
            return
        stored = read_record(self.path)
        if stored is None and self._overwritten:
            return  # what is left was none of the run's
        if stored is None:
            raise InputError(f"{self.path} is not empty and holds no {SETTINGS}: name a new folder for the run")
        changed = stored.differences(self.record, neutral_recipe=self._neutral_recipe)
        if changed:
            raise InputError(
                f"{self.path} holds a run with other settings ({'; '.join(changed)}): "
                "name another folder, or delete it"
            )

    @property
    def identity(self) -> str:
        """What makes this run the run it is, as text."""
        return json.dumps(self.record.identity, sort_keys=True)

    def restore(
        self,
        student: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        *,
        steps_per_epoch: int,
        own_layers: Sequence[keras.layers.Layer] = (),
    ) -> int:
        """Put `student` and `optimizer` back to where an interrupted run stopped; return the epochs done.

        `student` is compiled with `optimizer`, so that both are saved in one file. In a new run nothing
        changes, `settings.json` is written, and 0 is returned. `own_layers` are trained with the student, or hold
        what changes with it, and are kept with it in the checkpoints of this run.
        """
        self._own_layers = tuple(own_layers)
        if self.writes:
            if not (self.path / LAST).exists():
                self._check_can_be_loaded(student)
            self._begin()
        self._best_student = clone(student)  # to be saved without the optimizer's slots
        if not self.writes and is_there(self.path / BEST):
            set_weights(self._best_student, self.best_network().get_weights())
        with scope_of(student):
            trained = [student, *own_layers]
            optimizer.build([variable for part in trained for variable in part.trainable_variables])
        load_checkpoint(self.path, student, own_layers, remove_damaged=self.writes)
        # The checkpoint knows best how far it came: a kill can fall between it and the table.
        done = int(keras.ops.convert_to_numpy(optimizer.iterations)) // steps_per_epoch
        self.rows = read_metrics(self.path)[:done]
        if len(self.rows) < done:
            raise InputError(
                f"{self.path / METRICS} has {len(self.rows)} of the {done} epochs that are done: delete {self.path}, "
                "and train again"
            )
        self.saved_epochs = done
        return done

    def _check_can_be_loaded(self, student: keras.Model) -> None:
        """Refuse a network that only its own code could load again, before hours of training are lost by it."""
        for left in self.path.glob(f"{_UNTRAINED}*"):  # by a killed process
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_UNTRAINED, dir=self.path) as folder:
            file = Path(folder) / "network.keras"
            try:
                student.save(file)
                load_network(file)
            except (InputError, ValueError, TypeError, NotImplementedError) as error:
                what = str(error).replace(f"{file} ", "").splitlines()[0]
                raise InputError(f"{student.name} could not be loaded again after training: it {what}") from error

    def _begin(self) -> None:
        if read_record(self.path) is None:
            replace(self.record, versions={**versions()}).write(self.path)
        write_readme(self.path, None if self.record.command is None else self.record.command.name)
        if self._training_images is not None and TrainingImages.read(self.path) is None:
            self._training_images.write(self.path)
        self._events = event_writer(self.path)

    def record_epoch(
        self, student: keras.Model, row: Mapping[str, float], *, averaged: keras.Model | None = None
    ) -> None:
        """Save the state after an epoch; a kill at any moment leaves the state before or after it.

        Args:
            row: the metrics, with those of `averaged`, the same network with averaged weights, where there is one.
        """
        worth = quality(row, self.chosen_by)
        is_best = all(worth > quality(earlier, self.chosen_by) for earlier in self.rows)
        self.rows.append(dict(row))
        if is_best:
            kept = student
            if averaged is not None and averaged_is_better(row, self.chosen_by):
                kept = averaged
            set_weights(self._best_student, kept.get_weights())
        if self.writes:
            self._save(student, is_best=is_best)
        self.saved_epochs = len(self.rows)

    def _save(self, student: keras.Model, *, is_best: bool) -> None:
        if is_best:
            with atomic_file(self.path / BEST) as unfinished:
                self._best_student.save(unfinished)
        write_csv(self.path / METRICS, self.rows)
        save_checkpoint(self.path, student, self._own_layers)
        self._events(self.rows[-1])
        if time.monotonic() >= self._next_picture:
            started = time.monotonic()
            self._draw_curves()
            # A picture takes as long as an epoch of a small student: no more than a tenth of the run goes there.
            self._next_picture = time.monotonic() + 9 * (time.monotonic() - started)

    def _draw_curves(self) -> None:
        from distill.reports.plots import learning_curves  # slow to import, and not needed before

        best = best_epoch(self.rows, self.chosen_by)
        kept = {f"validation_{each}": best[kept_column(best, each, self.chosen_by)] for each in ("loss", "accuracy")}
        learning_curves(self.rows, self.path / CURVES, best={"epoch": best["epoch"], **kept})

    def finish(self) -> keras.Model:
        """Write the summary, which completes the run, and return the best student."""
        if not self.writes:
            return self._best_student
        self._draw_curves()
        best = best_epoch(self.rows, self.chosen_by)
        student = self.best_network()
        summary = {
            "epochs": len(self.rows),
            "best_epoch": int(best["epoch"]),
            "best_weights": "averaged" if averaged_is_better(best, self.chosen_by) else "raw",
            "chosen_by": self.chosen_by,
            "validation_accuracy": best_accuracy(best, self.chosen_by),
            "validation_balanced_accuracy": best.get(kept_column(best, "balanced_accuracy", self.chosen_by)),
            "seconds": sum(row["seconds"] for row in self.rows),
            "parameters": student.count_params(),
            "best": best,
            "last": self.rows[-1],
        }
        write_json(self.path / SUMMARY, summary)
        return student

    def best_network(self) -> keras.Model:
        """Load the network of the best epoch so far."""
        return load_network(self.path)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return the rows of the `metrics.csv` of the run in the folder `path`, none where there is no such file.

    Raises:
        InputError: it is damaged, or cannot be read now.
    """
    file = path / METRICS
    if not is_there(file):
        return []
    try:
        text = read_regular(file, at_most=MAX_BYTES).decode()
        return [_metrics(row) for row in csv.DictReader(io.StringIO(text), strict=True)]
    except (ValueError, TypeError, KeyError, OverflowError, csv.Error) as error:
        raise InputError(f"{file} is not a table of the metrics of a run ({reason(error)}): train again") from error


def _metrics(row: Mapping[str, str]) -> dict[str, float]:
    # Epochs before an update of this program lack the columns that came with it.
    numbers = {name: float(value) for name, value in row.items() if value}
    for name in _ALWAYS:
        numbers[name]  # noqa: B018 - a KeyError names the column that is missing
    return {**numbers, "epoch": int(numbers["epoch"])}


def read_summary(path: Path) -> dict:
    """Return the `summary.json` of the finished run in the folder `path`.

    Raises:
        InputError: it is damaged, or cannot be read now.
    """
    document = read_json(path / SUMMARY, what=_WHAT)
    parsed(document, _Summary, source=path / SUMMARY, what=_WHAT)
    return document


@dataclass
class _Summary:
    """What others rely on in it."""

    epochs: Count
    best_epoch: Count
    validation_accuracy: float
    validation_balanced_accuracy: float | None = None
    chosen_by: str = "accuracy"


def load_network(path: str | Path) -> keras.Model:
    """Load a Keras file, or the best network of a training run's directory, as it was saved.

    Raises:
        InputError: the file is missing, damaged, cannot be read now, or holds code that safe mode refuses to run.
    """
    path = expanded(path)
    file = path / BEST if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file} does not exist: give a .keras file or the directory of a training run")
    return keras_file.load_network(file)
