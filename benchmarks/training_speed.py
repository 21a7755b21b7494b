"""Images/s of distilling from cached logits, beside what a Keras user would do instead, in one run.

    python benchmarks/training_speed.py [--rounds 3]

The same student (MicroExpNet, 84x84), batch size and number of images for all:

- cached: this project's step, with cached logits, views rendered on the fly;
- cached, one view: the same without augmentation;
- fit: `keras.Model.fit` on labels alone, float images in memory at the student's size, no augmentation;
- Distiller: `keras.distillation.Distiller` with FaceNet online, at its correct setting, a `KLDivergence()`
  instance. It wants one input shape for both, so the teacher is put behind a Resizing layer.

Weights and images are random: only time is measured. Rounds take turns, so that a busy machine slows all alike;
the median over rounds is printed, and ratios to `fit`.
"""

import argparse
import os
import platform
import time
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from distill.data.dataset import ArrayImages, Dataset
from distill.data.expressions import CLASS_ORDERS
from distill.data.views import ViewSpec
from distill.training.batches import ViewBatches
from distill.training.distillation_loss import DistillationLoss
from distill.training.trainer import compiled_step, rendered_epoch
from students import MicroExpNet
from teachers import FaceNet

BATCH, CLASSES, VIEWS = 64, 7, 4


def random_faces(count: int) -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset(
        name="random",
        ids=np.array([f"face{i}" for i in range(count)]),
        labels=rng.integers(0, CLASSES, count),
        class_names=CLASS_ORDERS["fer2013"],
        images=ArrayImages(rng.integers(0, 256, (count, 48, 48, 1), dtype=np.uint8)),
        splits=np.full(count, "train"),
    )


class Cached:
    """This project's way: views of cached logits."""

    def __init__(self, dataset: Dataset, views: int):
        logits = np.random.default_rng(0).normal(size=(len(dataset), views, CLASSES)).astype(np.float32)
        self.batches = ViewBatches(
            dataset,
            image_shape=(84, 84, 1),
            view_spec=ViewSpec(),
            teacher_logits=logits,
            views=views,
            batch_size=BATCH,
        )
        student, optimizer = MicroExpNet(classes=CLASSES), keras.optimizers.Adam(1e-4)
        optimizer.build(student.trainable_variables)
        self.step = compiled_step(student, optimizer, DistillationLoss())
        self.epoch = 0

    def __call__(self) -> int:
        for batch in rendered_epoch(self.batches, self.epoch):
            self.step(batch)
        self.epoch += 1
        return len(self.batches.dataset)


class Fit:
    """Labels alone through `keras.Model.fit`, at its best: float images of the right size in memory."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images, self.labels = images, labels
        self.model = MicroExpNet(classes=CLASSES)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(keras.optimizers.Adam(1e-4), loss)

    def __call__(self) -> int:
        self.model.fit(self.images, self.labels, batch_size=BATCH, verbose=0)
        return len(self.images)


class OnlineDistiller(Fit):
    """`keras.distillation.Distiller`: the teacher runs in every step."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        super().__init__(images, labels)
        inputs = keras.Input((84, 84, 1))
        teacher = keras.Model(inputs, FaceNet(classes=CLASSES)(keras.layers.Resizing(48, 48)(inputs)))
        kl_divergence = keras.distillation.LogitsDistillation(temperature=8.0, loss=keras.losses.KLDivergence())
        self.model = keras.distillation.Distiller(
            teacher, MicroExpNet(classes=CLASSES), distillation_losses=kl_divergence, student_loss_weight=0.5
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(keras.optimizers.Adam(1e-4), loss)


def images_per_second(epoch) -> float:
    started = time.perf_counter()
    count = epoch()
    return count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=6400, help="per round; the Distiller takes a twentieth")
    args = parser.parse_args()

    faces = random_faces(args.images)
    images = np.random.default_rng(0).uniform(0, 255, (args.images, 84, 84, 1)).astype(np.float32)
    few = max(BATCH, args.images // 20 // BATCH * BATCH)
    ways = {
        "fit, labels alone": Fit(images, faces.labels),
        "cached logits, 4 views": Cached(faces, VIEWS),
        "cached logits, 1 view": Cached(faces, 1),
        "Distiller, FaceNet online": OnlineDistiller(images[:few], faces.labels[:few]),
    }
    for way in ways.values():
        way()  # compiles
    speeds = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, way in ways.items():
            speeds[name].append(images_per_second(way))

    print(f"MicroExpNet 84x84, batch {BATCH}; median of {args.rounds} rounds of {args.images} images")
    print(f"{os.cpu_count()} cores, {platform.machine()}, keras {keras.version()}, numpy {np.__version__}\n")
    base = median(speeds["fit, labels alone"])
    for name, values in speeds.items():
        print(f"{name:28}{median(values):9.0f} images/s {median(values) / base:8.2f} x fit")


if __name__ == "__main__":
    main()
