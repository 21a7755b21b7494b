"""Images/s of distilling from cached logits, next to what one would do instead, and what each part of it brings.

    python benchmarks/training_speed.py [--rounds 3] [--images 6400] > speed.md

Prints Markdown: a table of training speeds; hours of whole runs, the caching pass included; how soon commands start.
A variant is one line of `VARIANTS`. In every round each of them runs in a process of its own, which trains an epoch
unmeasured and then `EPOCHS` on the clock: threads and determinism can be set only once in a process, and taking turns
lets a busy machine slow all alike. The student is the same (MicroExpNet, 84x84, batch 64 but where another is named);
weights, images and logits are random, only time is measured. What is compared:

- this project: its own epoch, uint8 faces of 48x48 rendered on the fly, in the views of their cached logits;
- Keras `fit`: float32 images in memory at the student's size, no augmentation, labels alone;
- `keras.distillation.Distiller`: the same images, with FaceNet online, and at its correct setting, a `KLDivergence()`
  instance. It wants one input shape for both, so the teacher is put behind a Resizing layer;
- a plain loop of PyTorch, where that is installed (`pytorch_loop.py`).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib import metadata, util
from itertools import count
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the commands have it, for all variants alike

import keras
import numpy as np
import tensorflow as tf
from store_at_scale import made_writer
from tqdm import tqdm

from distill.data.dataset import ArrayImages, Dataset
from distill.data.expressions import CLASS_ORDERS
from distill.data.rendering import render
from distill.data.views import ViewSpec
from distill.logit_store import Feature
from distill.losses.distillation_loss import DistillationLoss
from distill.losses.feature_objective import FeatureObjective
from distill.losses.objective import FEATURES, Objective, as_objective
from distill.reports.network_costs import multiply_adds
from distill.scoring.caching import as_image_model, inference_model
from distill.scoring.scorer import Scorer
from distill.training import trainer
from distill.training.batches import CachedOutputs, ViewBatches
from distill.training.ensemble import CachedTeachers
from distill.training.student_outputs import build_objective, trained_variables
from distill.versions import versions
from students import MicroExpNet
from teachers import FaceNet

BATCH, VIEWS, EPOCHS, LR = 64, 4, 3, 1e-4
CLASS_NAMES = CLASS_ORDERS["fer2013"]
CLASSES = len(CLASS_NAMES)
WITH_LOGITS = as_objective(DistillationLoss("microexpnet"))
LABELS_ALONE = as_objective(DistillationLoss(lambda_=0))
FEATURE = f"{FEATURES}pool"
WITH_HINT = FeatureObjective(WITH_LOGITS, "hint", pairs={"dense": FEATURE.removeprefix(FEATURES)})
SIDE = 2048  # of the matrices whose product says what the machine can do
RUN_IMAGES, RUN_EPOCHS = 28_709, (1, 5, 20, 60)  # FER2013's training split
COMMANDS = (
    *("train_teacher", "teacher_logits", "train_student", "evaluate", "compare"),
    *("cache", "list_networks", "import_checkpoint", "describe_data", "quickstart"),
)

Train = Callable[[int], int]
"""Trains so many epochs; returns how many images it went through."""


def new_student() -> keras.Model:
    return MicroExpNet(classes=CLASSES, pixel_scale=1 / 16, keep_prob=0.8)


def random_faces(images: int) -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset(
        name="random",
        ids=np.array([f"face{i}" for i in range(images)]),
        labels=rng.integers(0, CLASSES, images),
        class_names=CLASS_NAMES,
        images=ArrayImages(rng.integers(0, 256, (images, 48, 48, 1), dtype=np.uint8)),
        splits=np.full(images, "train"),
    )


def ours(
    images: int,
    *,
    before: Callable[[], object] = lambda: None,
    objective: Objective = WITH_LOGITS,
    views: int = VIEWS,
    batch_size: int = BATCH,
) -> Train:
    """This project's way; `before` sets something of the process."""
    before()
    keras.utils.set_random_seed(0)  # determinism wants one
    logits = np.random.default_rng(0).normal(size=(images, views, CLASSES)).astype(np.float32)
    student, optimizer = new_student(), keras.optimizers.Adam(LR)
    faces = random_faces(images)
    if FEATURE in objective.teacher_outputs:
        teacher = stored_outputs(faces, logits, objective)
    else:
        teacher = CachedOutputs(logits=logits) if objective.teacher_outputs else None
    batches = ViewBatches(
        faces,
        image_shape=student.input_shape[1:],
        view_spec=ViewSpec(),
        teacher=teacher,
        views=views,
        batch_size=batch_size,
    )
    build_objective(objective, student, batches)
    optimizer.build(trained_variables(student, objective))
    steps = trainer.CompiledSteps(student, optimizer, objective)
    numbers, bar, callback_list = count(), tqdm(disable=True), keras.callbacks.CallbackList()

    def train(epochs: int) -> int:
        for _ in range(epochs):
            trainer._train_epoch(steps, objective, batches, 1, next(numbers), bar, callback_list)
        return epochs * images

    return train


def stored_outputs(faces: Dataset, logits: np.ndarray, objective: Objective) -> CachedOutputs:
    """Logits and 512 float16 features of each view, read from a file, batch by batch, as in a run."""
    path = Path(tempfile.mkdtemp()) / "logits.h5"
    feature = Feature(FEATURE.removeprefix(FEATURES), (512,), "float16")
    writer = made_writer(path, faces, logits.shape[1], 512, (feature,))
    rng = np.random.default_rng(0)
    for part in writer.missing():
        values = rng.normal(size=(part.stop - part.start, logits.shape[1], *feature.shape)).astype(np.float32)
        writer.write(part, logits[part], {feature.name: values})
    return CachedTeachers.of(writer.finish()).outputs(faces, objective.teacher_outputs, temperature=None)


def one_step_per_call() -> None:
    trainer._STEPS_PER_CALL = 1


def render_without_xla() -> None:
    trainer.compiled_render = lambda shape, columns: tf.function(
        partial(render, image_shape=shape, columns=columns), autograph=False
    )


def set_threads(*, intra: int, inter: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(intra)
    tf.config.threading.set_inter_op_parallelism_threads(inter)


def fit(images: int, **options) -> Train:
    """`keras.Model.fit` at its best: float images of the right size in memory."""
    return _fitting(new_student(), images, **options)


def distiller(images: int) -> Train:
    """`keras.distillation.Distiller`: the teacher runs in every step, and sees few images."""
    inputs = keras.Input((84, 84, 1))
    teacher = keras.Model(inputs, FaceNet(classes=CLASSES)(keras.layers.Resizing(48, 48)(inputs)))
    kl_divergence = keras.distillation.LogitsDistillation(temperature=8.0, loss=keras.losses.KLDivergence())
    losses = {"distillation_losses": kl_divergence, "student_loss_weight": 0.5}
    return _fitting(keras.distillation.Distiller(teacher, new_student(), **losses), few(images))


def _fitting(model: keras.Model, images: int, **options) -> Train:
    rng = np.random.default_rng(0)
    pixels, labels = 255 * rng.random((images, 84, 84, 1), np.float32), rng.integers(0, CLASSES, images)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(LR), cross_entropy, **options)

    def train(epochs: int) -> int:
        model.fit(pixels, labels, batch_size=BATCH, epochs=epochs, verbose=0)
        return epochs * images

    return train


def scoring(images: int) -> Train:
    """The caching pass, of few images: it counts views."""
    faces, views = random_faces(few(images)), range(VIEWS)
    teacher = inference_model(as_image_model(FaceNet(classes=CLASSES), CLASS_NAMES))
    scorer = Scorer(teacher, faces, view_spec=ViewSpec())
    return lambda epochs: sum(scorer.score(np.arange(len(faces)), views)[..., 0].size for _ in range(epochs))


def few(images: int) -> int:
    return max(BATCH, images // 20 // BATCH * BATCH)


WITHOUT_ONEDNN = "- TensorFlow's kernels, not oneDNN's"
FIT, OURS = "Keras `fit`, labels alone, no augmentation", "this project: cached logits, 4 views"
DISTILLER, SCORING = "`keras.distillation.Distiller`, FaceNet online", "FaceNet scores views"
VARIANTS = {
    FIT: fit,
    "- 16 steps per execution": partial(fit, steps_per_execution=16),
    DISTILLER: distiller,
    OURS: ours,
    "- untouched images (1 view)": partial(ours, views=1),
    "- and 512 features, for a hint": partial(ours, objective=WITH_HINT),
    "- labels alone, 4 views": partial(ours, objective=LABELS_ALONE),
    "- deterministic": partial(ours, before=tf.config.experimental.enable_op_determinism),
    "- mixed_bfloat16": partial(ours, before=partial(keras.config.set_dtype_policy, "mixed_bfloat16")),
    "- batch 256": partial(ours, batch_size=256),
    "- one step per call, not 16": partial(ours, before=one_step_per_call),
    "- rendered by TensorFlow's operation, not XLA": partial(ours, before=render_without_xla),
    WITHOUT_ONEDNN: ours,
    "- threads: 2 within an operation, 1 for several": partial(ours, before=partial(set_threads, intra=2, inter=1)),
    "- threads: 1 within an operation, 2 for several": partial(ours, before=partial(set_threads, intra=1, inter=2)),
    "- threads: 2 within an operation, 2 for several": partial(ours, before=partial(set_threads, intra=2, inter=2)),
}
MEASURED = VARIANTS | {SCORING: scoring}  # the caching pass is run like a variant, but is none
PYTORCH = {  # arguments of pytorch_loop.py; there all threads wait for each other after every operation
    "PyTorch loop, logits in memory, no augmentation": (),
    "- one thread": ("--threads", "1"),
}


def measure(name: str, images: int) -> dict[str, float]:
    """What a child process prints."""
    train = MEASURED[name](images)
    train(1)  # compiles
    started = time.perf_counter()
    seen = train(EPOCHS)
    rate = seen / (time.perf_counter() - started)
    return {"images_per_second": rate} | ({"gflops": matrix_product_gflops()} if name == OURS else {})


def matrix_product_gflops() -> float:
    """Of the fastest of ten products, 10^9 multiplications and additions per second."""
    matrix = tf.random.uniform((SIDE, SIDE))
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        tf.matmul(matrix, matrix).numpy()
        seconds.append(time.perf_counter() - started)
    return 2 * SIDE**3 / min(seconds) / 1e9


def step_multiply_adds(student: keras.Model) -> int:
    """Of one image: forward, and as many again for the gradients of kernels and for those of inputs."""
    # The first layer needs no gradient of its input.
    first = keras.Model(student.input, student.get_layer("conv1").output)
    return 3 * multiply_adds(student) - multiply_adds(first)


def run_child(name: str, images: int) -> dict[str, float]:
    if name in PYTORCH:
        script, how = Path(__file__).with_name("pytorch_loop.py"), PYTORCH[name]
        how = (*how, "--epochs", str(EPOCHS), "--batch-size", str(BATCH))
    else:
        script, how = __file__, ("--only", name)
    command = [sys.executable, script, *how, "--images", str(images)]
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"} if name == WITHOUT_ONEDNN else None
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    if ended.returncode:
        raise SystemExit(f"{name} failed:\n{ended.stderr[-2000:]}")
    return json.loads(ended.stdout.splitlines()[-1])


def start_seconds(command: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", f"distill.{command}", "--help"], check=True, capture_output=True)
    return time.perf_counter() - started


def print_table(head: list[str], rows: Iterable[list[str]]) -> None:
    for cells in (head, ["---"] * len(head), *rows):
        print("|", " | ".join(cells), "|")
    print()


def print_speeds(rates: dict[str, list[float]], medians: dict[str, float], gflops: float) -> None:
    rows = (
        [name, f"{rate:,.0f}", f"{max(rates[name]):,.0f}", f"{rate / medians[FIT]:.2f} x"]
        for name, rate in medians.items()
        if name != SCORING
    )
    print_table(["", "images/s, median", "best", "against `fit`"], rows)
    macs = step_multiply_adds(new_student())
    print(f"Two float32 matrices of {SIDE}x{SIDE} are multiplied at {gflops:,.0f} GFLOP/s. A step takes {macs:,}")
    print("multiply-adds per image; this project, with cached logits and 4 views, does them at", end=" ")
    print(f"{2 * macs * medians[OURS] / gflops / 1e9:.1%} of that speed.\n")


def print_runs(medians: dict[str, float]) -> None:
    online, cached, scored = (RUN_IMAGES / medians[name] / 3600 for name in (DISTILLER, OURS, SCORING))
    hours = {f"{epochs}": (epochs * online, VIEWS * scored + epochs * cached) for epochs in RUN_EPOCHS}
    hours["each further one"] = (online, cached)
    print(f"Hours for {RUN_IMAGES:,} images, computed from these medians: the Distiller, without augmentation; and")
    print(f"this project, with the pass that scores {VIEWS} views of each ({medians[SCORING]:,.0f} views/s).\n")
    rows = ([epochs, f"{old:.3g}", f"{new:.3g}", f"{old / new:.2f} x"] for epochs, (old, new) in hours.items())
    print_table(["epochs", "Distiller", "cached", "as fast"], rows)


def processor() -> str:
    """Its name, where Linux says it."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=6400, help="of an epoch; FaceNet sees a twentieth of them")
    parser.add_argument("--only", choices=MEASURED, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args.images)))
        return

    has_torch = util.find_spec("torch") is not None
    rates = {name: [] for name in (*MEASURED, *(PYTORCH if has_torch else ()))}
    seconds, gflops = {command: [] for command in COMMANDS}, []
    for number in range(args.rounds):
        for name, values in rates.items():
            result = run_child(name, args.images)
            print(f"round {number + 1}, {name}: {result}", file=sys.stderr)
            values.append(result["images_per_second"])
            gflops += [result["gflops"]] if "gflops" in result else []
        for command, values in seconds.items():
            values.append(start_seconds(command))

    medians = {name: median(values) for name, values in rates.items()}
    print(f"MicroExpNet 84x84, batch {BATCH}; rounds: {args.rounds}, of {EPOCHS} epochs of {args.images:,} images\n")
    print_speeds(rates, medians, median(gflops))
    print_runs(medians)
    print_table(["`--help` of", "seconds"], ([name, f"{median(values):.2f}"] for name, values in seconds.items()))
    installed = versions() | ({"torch": metadata.version("torch")} if has_torch else {})
    print(f"{processor()}, {os.cpu_count()} cores, {platform.machine()};", end=" ")
    print(", ".join(f"{name} {version}" for name, version in installed.items()))


if __name__ == "__main__":
    main()
