"""Images/s of a plain PyTorch loop that distils MicroExpNet from logits in memory; prints a JSON line.

    python benchmarks/pytorch_loop.py --images 6400 --epochs 3

`training_speed.py` runs it, as a process of its own because PyTorch and TensorFlow would compete for the cores.
Network, loss, optimizer and batch size are those of this project's trainer; images are float32 at the student's size,
in memory, without augmentation. Weights, images and logits are random.
"""

import argparse
import json
import os
import time

os.environ["KERAS_BACKEND"] = "torch"  # the network is checked against that of Keras, without TensorFlow

import torch
from torch import nn
from torch.nn import functional

from students import MicroExpNet

CLASSES, PIXEL_SCALE, KEEP_PROB = 7, 1 / 16, 0.8
TEMPERATURE, LAMBDA, LR = 8.0, 0.5, 1e-4


def microexpnet() -> nn.Sequential:
    """Takes scaled pixels [B, 1, 84, 84]. Where TensorFlow pads "same" by an odd number, the end gets one more."""
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=8, stride=2, padding=3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.ZeroPad2d((1, 2, 1, 2)),
        nn.Conv2d(16, 32, kernel_size=4, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(6 * 6 * 32, 48),
        nn.ReLU(),
        nn.Dropout(1 - KEEP_PROB),
        nn.Linear(48, CLASSES),
    )


def check_parameters(student: nn.Module) -> None:
    """Stop where the network is not of the size of this project's."""
    ours = MicroExpNet(classes=CLASSES, pixel_scale=PIXEL_SCALE, keep_prob=KEEP_PROB).count_params()
    received = sum(parameter.numel() for parameter in student.parameters())
    if received != ours:
        raise SystemExit(f"the network in PyTorch has {received} parameters, MicroExpNet has {ours}")


def distillation_loss(
    *, student_logits: torch.Tensor, labels: torch.Tensor, teacher_logits: torch.Tensor
) -> torch.Tensor:
    """(1 - lambda)·CE(y, s) + lambda·CE(softmax(t/T), s/T), the mean over the batch."""
    hard = functional.cross_entropy(student_logits, labels)
    teacher_probs = functional.softmax(teacher_logits / TEMPERATURE, dim=-1)
    soft = functional.cross_entropy(student_logits / TEMPERATURE, teacher_probs)
    return (1 - LAMBDA) * hard + LAMBDA * soft


class Training:
    """A student, random faces, and epochs that teach it."""

    def __init__(self, images: int, batch_size: int):
        self.batch_size = batch_size
        self.pixels = 255 * torch.rand(images, 1, 84, 84)
        self.labels = torch.randint(CLASSES, (images,))
        self.teacher_logits = torch.randn(images, CLASSES)
        self.student = microexpnet()
        check_parameters(self.student)
        self.optimizer = torch.optim.Adam(self.student.parameters(), lr=LR)

    def epoch(self) -> None:
        self.student.train()
        for picked in torch.randperm(len(self.pixels)).split(self.batch_size):
            self.optimizer.zero_grad()
            student_logits = self.student(PIXEL_SCALE * self.pixels[picked])
            loss = distillation_loss(
                student_logits=student_logits,
                labels=self.labels[picked],
                teacher_logits=self.teacher_logits[picked],
            )
            loss.backward()
            self.optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6400)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, help="by default those of PyTorch, one for each core")
    args = parser.parse_args()

    if args.threads:
        torch.set_num_threads(args.threads)
    training = Training(args.images, args.batch_size)
    training.epoch()  # the first one is slower
    started = time.perf_counter()
    for _ in range(args.epochs):
        training.epoch()
    print(json.dumps({"images_per_second": args.images * args.epochs / (time.perf_counter() - started)}))


if __name__ == "__main__":
    main()
