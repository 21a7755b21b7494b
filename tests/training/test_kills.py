"""A training that is killed at random moments, and goes on each time, ends as one that nothing disturbed."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

from distill.runs.run_directory import read_metrics, read_summary

ROOT = Path(__file__).resolve().parents[2]

# Everything that has a state is on: dropout, batch norm, random views, Adam, weight decay, the moving average, a
# warm-up, a plateau, both schedules of the loss, early stopping. TensorFlow is imported once, and the processes are
# forked before it starts its threads.
KILLED_AT_RANDOM = """
import faulthandler, os, random, signal, sys, time
from functools import partial
from pathlib import Path
import keras
import numpy as np
from distill.data.dataset import ArrayImages, Dataset
from distill.data.views import ViewSpec
from distill.training.batches import CachedOutputs, ViewBatches
from distill.losses.distillation_loss import DistillationLoss
from distill.losses.objective import DistillationObjective
from distill.training.optimizer import build_optimizer, epoch_learning_rate
from distill.training.recipe import Plateau, Recipe
from distill.runs.run_directory import RunDirectory
from distill.losses.schedules import Ramp, WarmedRamp
from distill.training.trainer import fit
from tests.training.small_runs import RECORD

faulthandler.dump_traceback_later(240, exit=True)
RunDirectory._draw_curves = lambda self: None  # which would take most of the time
folder, kills = Path(sys.argv[1]), 10
recipe = Recipe(
    epochs=8, schedule="constant", lr=0.02, warmup_epochs=2, plateau=Plateau(factor=0.5, patience=1), ema=0.9,
    weight_decay=0.01, clip_norm=1.0, patience=5, batch_size=8, view_order="random",
)
rng = np.random.default_rng(0)
labels = np.arange(64) % 2
images = (labels * 30 + 110)[:, None, None, None] + rng.integers(-90, 90, (64, 6, 6, 1))
splits = np.array(["train"] * 40 + ["validation"] * 24)
faces = Dataset("faces", np.array([f"face-{row}" for row in range(64)]), labels, ("dark", "bright"),
                ArrayImages(images.astype(np.uint8)), splits)

def train(out):
    keras.utils.set_random_seed(3)
    layers = keras.layers
    student = keras.Sequential([
        keras.Input((6, 6, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(8, activation="relu"),
        layers.BatchNormalization(momentum=0.5), layers.Dropout(0.5), layers.Dense(2),
    ], name="small")
    batches = ViewBatches(
        faces.split("train"), image_shape=(6, 6, 1), view_spec=ViewSpec(), views=3, view_order=recipe.view_order,
        teacher=CachedOutputs(logits=np.random.default_rng(1).normal(size=(40, 3, 2)).astype(np.float32)),
        batch_size=recipe.batch_size,
    )
    loss = DistillationLoss("microexpnet", temperature=4.0, lambda_=0.5)
    objective = DistillationObjective(
        loss=loss, epochs=recipe.epochs, temperature=Ramp(end=1.0, shape="cosine"),
        soft_weight=WarmedRamp(end=0.2, warmup_epochs=3))
    fit(student, batches, faces.split("validation"), objective=objective, epochs=recipe.epochs,
        optimizer=build_optimizer(recipe, steps_per_epoch=len(batches)),
        learning_rate=partial(epoch_learning_rate, recipe, steps_per_epoch=len(batches)), patience=recipe.patience,
        run=RunDirectory(out, RECORD), progress=False)

def epochs_done(out):
    table = out / "metrics.csv"
    return len(table.read_text().splitlines()) - 1 if table.exists() else 0

def forked(out, until=lambda: False):
    # Trains in a process of its own, which is killed as soon as `until`; says whether it was.
    child = os.fork()
    if not child:
        train(out)
        os._exit(0)
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None and not until():
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL

recorded = []  # when the whole run had its next epoch

def never_but_watch():
    if epochs_done(folder / "whole") > len(recorded):
        recorded.append(time.perf_counter())
    return False

begun = time.perf_counter()
forked(folder / "whole", until=never_but_watch)
starts, an_epoch = recorded[0] - begun, (recorded[-1] - recorded[0]) / len(recorded)

def at_random(out):
    # A moment before the next epoch is recorded, or soon after one of the next.
    more = random.randint(0, 2)
    wanted, wait = epochs_done(out) + more, random.uniform(0, 2 * an_epoch if more else starts)
    reached = []

    def until():
        if not reached and epochs_done(out) >= wanted:
            reached.append(time.perf_counter())
        return reached and time.perf_counter() > reached[0] + wait

    return until

random.seed(1)
killed, runs, found = 0, 0, set()
while killed < kills:
    out = folder / f"killed-{runs}"
    killed += forked(out, until=at_random(out))
    found.add(epochs_done(out))
    runs += (out / "summary.json").exists()
if not (out / "summary.json").exists():
    forked(out)
print("killed", killed, "with", len(found), "different numbers of epochs")
"""


def test_killed_at_ten_random_moments_and_resumed_gives_the_uninterrupted_student(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", KILLED_AT_RANDOM, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "killed 10 with" in done.stdout
    assert int(done.stdout.split("with ")[1].split()[0]) > 2  # kills did come in the middle
    whole = state(tmp_path / "whole")
    killed = sorted(tmp_path.glob("killed-*"))
    assert killed
    for run in killed:
        for name, values in state(run).items():
            np.testing.assert_array_equal(values, whole[name], err_msg=f"{run.name}: {name}")


def state(run) -> dict:
    """All that a run comes to, but for what depends on the clock."""
    last, best = (keras.saving.load_model(run / name) for name in ("last.keras", "best.keras"))
    rows, clock = read_metrics(run), {"seconds", "images_per_second", "input_share"}
    return {
        "weights": np.concatenate([weight.ravel() for weight in last.get_weights()]),
        "best weights": np.concatenate([weight.ravel() for weight in best.get_weights()]),
        "optimizer": np.concatenate([np.ravel(variable) for variable in last.optimizer.variables]),
        "metrics": np.array([[value for name, value in row.items() if name not in clock] for row in rows]),
        "best epoch": np.array(read_summary(run)["best_epoch"]),
    }
