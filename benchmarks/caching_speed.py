"""Views scored per second: this project's caching against Keras `predict` of the same teacher, in one run.

    python benchmarks/caching_speed.py --data fer2013.csv --teacher fer_cnn --weights RUN
    python benchmarks/caching_speed.py --data fer2013.csv --teacher facenet

`predict` is at its best: it is given float32 pixels that are rendered already, in memory, and may use the same batch.
The caching side reads the images, renders eight views of each, and scores them; both sides run in float32 and in
bfloat16. The rounds of all alternate, and medians are compared. Without --weights the teacher is untrained.

How far a side could still get says the last column: its multiply-adds a second as a share of those of the machine's
own matrix product of the same type, which the rounds measure, too.
"""

import argparse
import time
from statistics import median

import keras
import numpy as np
import tensorflow as tf

from distill.data.open_dataset import open_dataset
from distill.data.rendering import render_numpy
from distill.data.views import ViewSpec
from distill.reports.network_costs import multiply_adds
from distill.runs.networks import build_network
from distill.scoring.folding import fold_batch_norm
from distill.scoring.scorer import Scorer
from distill.versions import versions
from teachers import TEACHERS

VIEWS = 8
POLICIES = ("float32", "mixed_bfloat16")
SIDE = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", default="fer_cnn", choices=TEACHERS)
    parser.add_argument("--weights")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()

    dataset = open_dataset(args.data).split("validation")
    dataset = dataset.subset(np.arange(min(args.images, len(dataset))))
    teachers = {policy: build(args, dataset, policy) for policy in POLICIES}
    sides = {}
    for policy, teacher in teachers.items():
        sides[f"predict, {policy}"] = predicting(teacher, dataset, args.batch_size)
    for policy, teacher in teachers.items():
        sides[f"caching, {policy}"] = caching(teacher, dataset, args.batch_size)
    logits = {name: score() for name, score in sides.items()}  # compiles, too
    seconds = {name: [] for name in sides}
    products = {policy: [] for policy in POLICIES}
    for _ in range(args.rounds):
        for policy, values in products.items():
            values.append(product_speed(policy))
        for name, score in sides.items():
            started = time.perf_counter()
            score()
            seconds[name].append(time.perf_counter() - started)
    macs = multiply_adds(teachers[POLICIES[0]])
    report(args, dataset, logits, seconds, {policy: median(each) / macs for policy, each in products.items()})


def product_speed(policy: str) -> float:
    """Return multiply-adds per second of a product of square matrices, that of the fastest of ten."""
    matrix = tf.cast(tf.random.uniform((SIDE, SIDE)), keras.DTypePolicy(policy).compute_dtype)
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        tf.matmul(matrix, matrix).numpy()
        seconds.append(time.perf_counter() - started)
    return SIDE**3 / min(seconds)


def build(args: argparse.Namespace, dataset, policy: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_network(TEACHERS, args.teacher, classes=dataset.num_classes, weights=args.weights, policy=policy)


def predicting(teacher: keras.Model, dataset, batch_size: int):
    ids, views = np.repeat(dataset.ids, VIEWS), np.tile(np.arange(VIEWS), len(dataset))
    images = np.repeat(dataset.read(np.arange(len(dataset))), VIEWS, axis=0)
    pixels = render_numpy(images, ViewSpec().parameters(ids, views), image_shape=teacher.input_shape[1:])
    return lambda: teacher.predict(pixels, batch_size=batch_size, verbose=0)


def caching(teacher: keras.Model, dataset, batch_size: int):
    scorer = Scorer(fold_batch_norm(teacher), dataset, view_spec=ViewSpec(), batch_size=batch_size)
    return lambda: scorer.score(np.arange(len(dataset)), range(VIEWS)).reshape(len(dataset) * VIEWS, -1)


def report(args: argparse.Namespace, dataset, logits: dict, seconds: dict, bounds: dict) -> None:
    """Print the table; `bounds` are views/s at the speed of the matrix product, by policy."""
    reference, *_ = logits
    print(f"{args.teacher}, {len(dataset)} images x {VIEWS} views, batch {args.batch_size}, {args.rounds} rounds")
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    print("\n| | views/s | against `predict` in float32 | largest difference | same class | of the matrix product |")
    print("|---|---|---|---|---|---|")
    for name, times in seconds.items():
        speed = len(dataset) * VIEWS / median(times)
        ratio = median(np.array(seconds[reference]) / np.array(times))
        difference = np.abs(logits[name] - logits[reference]).max()
        agreement = (logits[name].argmax(1) == logits[reference].argmax(1)).mean()
        print(f"| {name} | {speed:,.0f} | {ratio:.2f} x | {difference:.2g} | {agreement:.2%} |", end=" ")
        print(f"{speed / bounds[name.split(', ')[1]]:.0%} |")
    print(f"\nthe largest logit is {np.abs(logits[reference]).max():.3g}")


if __name__ == "__main__":
    main()
