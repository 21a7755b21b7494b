"""`Recipe`: how a network is trained, whatever it is taught by. `RECIPES` holds the published ones and our own."""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.python_numbers import with_python_numbers
from distill.refusals import check_at_least, check_known, flag
from distill.runs.best_epoch import CHOICES

STEPWISE_SCHEDULES = ("cosine", "linear")  # set the learning rate in every step; the others once an epoch
SCHEDULES = ("cosine", "constant", "steps", "linear")
SHORT = 10
"""Epochs up to which a run is short, and its learning rate stays up by default."""
VIEW_ORDERS = ("next", "random")
CLASS_WEIGHTS = ("none", "balanced")


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """Lower the learning rate where the validation loss stands still, as `keras.callbacks.ReduceLROnPlateau` does."""

    factor: float = 1.0
    """What the learning rate is multiplied by; 1 leaves it alone."""
    patience: int = 5
    """Epochs without a better validation loss before that."""
    min_delta: float = 1e-4
    """How much lower a loss must be to count as better."""
    floor: float = 0.0
    """Learning rate below which it is not lowered."""

    def __post_init__(self):
        if not 0 < self.factor <= 1:
            raise InputError(f"plateau factor must be above 0 and at most 1, received {self.factor}")
        if self.patience < 1:
            raise InputError(f"plateau patience must be at least 1, received {self.patience}")
        for name in ("min_delta", "floor"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"plateau {name} must not be negative, received {getattr(self, name)}")
        if self.factor == 1 and any(getattr(self, each.name) != each.default for each in fields(self)):
            raise InputError(
                "a plateau factor of 1 never lowers the learning rate: give --plateau.factor, such as 0.5"
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained."""

    epochs: int = 20
    """Passes over the training images."""
    optimizer: str = "adam"
    """Name of an optimizer of Keras: "adam", "adamw", "sgd", "lion", ... In Python also such an optimizer."""
    momentum: float | None = None
    """Of an optimizer that takes one, such as "sgd"; by default what Keras gives it."""
    lr: float = 1e-3
    """Peak learning rate."""
    schedule: str | None = None
    """Learning rate over the run: "cosine" or "linear", down to 0; "constant"; "steps". By default "constant" in
    runs of up to 10 epochs without a warm-up, which end worse where it falls (docs/training.md), else "cosine"."""
    warmup_epochs: float | None = None
    """Epochs over which the learning rate rises from 0 to its peak: step by step in "cosine" and "linear", by default
    a twentieth of the run; epoch by epoch in "constant" and "steps", by default none."""
    lr_steps: tuple[tuple[int, float], ...] = ()
    """Of the schedule "steps": after so many epochs, what factor of the peak learning rate holds."""
    lr_decay: float = 0.0
    """Divides the learning rate by 1 + decay times the steps done, at the start of every epoch."""
    plateau: Plateau = field(default_factory=Plateau)
    """Lowers a "constant" or "steps" learning rate where the validation loss stands still."""
    weight_decay: float = 0.0
    """Decoupled weight decay, as AdamW's, for any optimizer; biases and norms do not decay."""
    clip_norm: float | None = None
    """Largest norm of all gradients together; larger ones are scaled down to it."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, such as 0.999. Both the weights and their average are
    validated, and the better of them is kept."""
    patience: int | None = None
    """Early stopping: stop after this many epochs without improvement on validation, measured by --choose-by."""
    choose_by: str | None = None
    """What the best epoch is chosen by, on validation: "accuracy" (default), "balanced-accuracy" (default with
    balanced class weights), "macro-f1" or "loss" (cross entropy with the labels)."""
    class_weights: str = "none"
    """"balanced": a label weighs n / (C n_c), so that all classes weigh the same together; "none": each weighs 1."""
    label_smoothing: float = 0.0
    """Share of every label that is spread evenly over all classes, 0 to below 1."""
    batch_size: int = 64
    """Images in a step."""
    view: ViewSpec = field(default_factory=ViewSpec)
    """How views are drawn, where no cached logits prescribe it."""
    view_order: str = "next"
    """Of a fixed number of views: every image goes through them in turn ("next"), or takes any of them ("random")."""
    seed: int = 0
    """Random seed of the initial weights, the order of images and views, and dropout."""

    def __post_init__(self):
        with_python_numbers(self)
        if self.schedule is None:
            stays_up = self.epochs <= SHORT and self.warmup_epochs is None
            object.__setattr__(self, "schedule", "constant" if stays_up else "cosine")
        if not isinstance(self.optimizer, str):
            self._take_optimizer()
        check_at_least(1, epochs=self.epochs, batch_size=self.batch_size, patience=self.patience)
        for name, limit in (("seed", 2**32), ("weight_decay", math.inf), ("lr_decay", math.inf)):
            if not 0 <= (value := getattr(self, name)) < limit:
                raise InputError(f"{flag(name)} must be 0 or more, and below {limit}, received {value}")
        for name, limit in (("lr", math.inf), ("clip_norm", math.inf), ("ema", 1)):
            if (value := getattr(self, name)) is not None and not 0 < value < limit:
                raise InputError(f"{flag(name)} must be above 0, and below {limit}, received {value}")
        for name in ("label_smoothing", "momentum"):
            if (value := getattr(self, name)) is not None and not 0 <= value < 1:
                raise InputError(f"{flag(name)} must lie in 0..1, below 1, received {value}")
        for name, known in (("view_order", VIEW_ORDERS), ("schedule", SCHEDULES), ("class_weights", CLASS_WEIGHTS)):
            check_known(getattr(self, name), known, what=flag(name))
        if self.choose_by is not None:
            check_known(self.choose_by, CHOICES, what="choose-by")
        if self.optimizer.lower() == "adamw" and self.weight_decay == 0:
            raise InputError(
                '"adamw" without weight decay is "adam": give --weight-decay, such as 0.004, or --optimizer adam'
            )
        self._check_schedule()
        self._check_warmup()

    def _take_optimizer(self) -> None:
        """Take name and settings of an optimizer of Keras, which a caller may give in place of a name."""
        for name, value in optimizer_settings(self.optimizer).items():
            default = type(self).__dataclass_fields__[name].default
            if name != "optimizer" and getattr(self, name) not in (default, value):
                raise InputError(f"{name} is {getattr(self, name)}, that of the optimizer {value}: give it once")
            object.__setattr__(self, name, value)

    def _check_schedule(self) -> None:
        if (self.schedule == "steps") != bool(self.lr_steps):
            raise InputError(
                f'schedule "{self.schedule}" with lr-steps {list(self.lr_steps)}: give --schedule steps and '
                "--lr-steps together, such as --lr-steps 10 0.3 20 0.1"
            )
        epochs = [epoch for epoch, _ in self.lr_steps]
        if epochs != sorted(set(epochs)) or any(epoch < 1 or factor <= 0 for epoch, factor in self.lr_steps):
            raise InputError(
                f"lr-steps must be rising epochs from 1 with factors above 0, received {list(self.lr_steps)}"
            )
        if self.schedule in STEPWISE_SCHEDULES and (self.plateau.factor < 1 or self.lr_decay > 0):
            raise InputError(
                f"a {self.schedule} schedule ends at 0: give --schedule constant with a plateau or lr-decay"
            )

    def _check_warmup(self) -> None:
        if self.warmup_epochs is None:
            return
        if not 0 <= self.warmup_epochs < self.epochs:
            raise InputError(
                f"warmup-epochs must be 0 or more, and fewer than the {self.epochs} of the run, received "
                f"{self.warmup_epochs:g}"
            )
        if self.schedule not in STEPWISE_SCHEDULES and 0 < self.warmup_epochs < 1:
            raise InputError(
                f'the schedule "{self.schedule}" warms up by whole epochs: give --warmup-epochs 1 or more, received '
                f"{self.warmup_epochs:g}"
            )


# What Keras' optimizers call what a recipe holds.
_OF_OPTIMIZERS = {
    "learning_rate": "lr",
    "momentum": "momentum",
    "weight_decay": "weight_decay",
    "global_clipnorm": "clip_norm",
}


def optimizer_settings(optimizer: Any) -> dict[str, Any]:
    """Return the fields of a `Recipe` that an optimizer of Keras stands for.

    Raises:
        InputError: it is not an optimizer, or has a setting that a recipe does not know.
    """
    if not hasattr(optimizer, "get_config") or not hasattr(optimizer, "learning_rate"):
        raise InputError(f'an optimizer is a name, such as "adam", or one of Keras, received {optimizer!r}')
    config, usual = optimizer.get_config(), type(optimizer)().get_config()
    if isinstance(config["learning_rate"], dict):
        raise InputError("an optimizer's own schedule is not taken: give the recipe a schedule, and lr")
    settings: dict[str, Any] = {"optimizer": type(optimizer).__name__.lower()}
    averaged = config.pop("use_ema", False)
    if averaged:
        settings["ema"] = config["ema_momentum"]
    for name, value in config.items():
        if name in _OF_OPTIMIZERS:
            value = float(f"{value:.7g}") if isinstance(value, float) else value  # it was kept in float32
            # A recipe has no weight decay unless it is given: that of AdamW and Muon by default is given, too.
            given = name == "learning_rate" or (name == "weight_decay" and value)
            if given or value != usual.get(name):
                settings[_OF_OPTIMIZERS[name]] = value
        elif name not in ("name", "ema_momentum") and value != usual.get(name):
            raise InputError(f"a recipe does not know {name}={value!r} of an optimizer: omit it")
    return settings


def _plain_views(**changes) -> ViewSpec:
    """Untouched images, but for `changes`."""
    untouched = {"rotation": 0.0, "zoom": (1.0, 1.0), "shift": 0.0, "brightness": 0.0, "contrast": 0.0}
    return ViewSpec(**{**untouched, **changes})


# FaceNet drew two zoom factors of 1 / 0.7..1.3, one per axis, evenly in their inverse; here one holds for both.
_FACENET_VIEWS = _plain_views(zoom=(1 / 1.3, 1 / 0.7), zoom_draw="inverse", shift=0.1)

RECIPES = {
    # FaceNet on FER2013, first way: 60.57 % on a random fifth of all images (--splits random).
    "facenet": Recipe(
        epochs=30,
        lr=1e-4,
        schedule="constant",
        lr_decay=1e-6,
        plateau=Plateau(factor=0.5, patience=6),
        view=_FACENET_VIEWS,
    ),
    # Its second way: its notebook lowers the rate where the epoch, counted from 0, is above 5, 30, 60 and 90. Its
    # callbacks overwrote each other: the steps won over the plateau. Here both count.
    "facenet_steps": Recipe(
        epochs=100,
        lr=1e-3,
        schedule="steps",
        lr_steps=((6, 0.3), (31, 0.1), (61, 0.05), (91, 0.01)),
        plateau=Plateau(factor=0.1**0.5, floor=5e-7),
        view=_FACENET_VIEWS,
    ),
    # The FER CNN notebook: 63.5 % on PublicTest and PrivateTest together.
    "fer_cnn": Recipe(
        epochs=15,
        lr=5e-4,
        schedule="constant",
        plateau=Plateau(factor=0.1, patience=2, floor=1e-5),
        view=_plain_views(),
    ),
    # Our own, for long trainings: strong views, smoothed labels. docs/training.md compares them in a short one.
    "strong": Recipe(
        epochs=22,
        optimizer="adamw",
        lr=2e-3,
        weight_decay=0.02,
        label_smoothing=0.1,
        batch_size=128,
        view=ViewSpec(rotation=15.0, zoom=(0.8, 1.1), shift=0.1, brightness=0.15, contrast=0.3, erase=0.4),
    ),
}
