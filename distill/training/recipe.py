"""`Recipe`: how a network is trained, whatever it is taught by. `RECIPES` holds the published ones and our own."""

import math
from dataclasses import dataclass, field, fields

from distill.data.views import ViewSpec
from distill.errors import InputError

SCHEDULES = ("cosine", "constant", "steps")
VIEW_ORDERS = ("next", "random")


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
    lr: float = 1e-3
    """Peak learning rate."""
    schedule: str = "cosine"
    """Learning rate over the run. "cosine": up over the first twentieth, then down to 0; "constant"; "steps"."""
    lr_steps: tuple[tuple[int, float], ...] = ()
    """Of the schedule "steps": after so many epochs, what factor of the peak learning rate holds."""
    lr_decay: float = 0.0
    """Divides the learning rate by 1 + decay times the steps done, at the start of every epoch."""
    plateau: Plateau = field(default_factory=Plateau)
    """Lowers a "constant" or "steps" learning rate where the validation loss stands still."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW); 0 is plain Adam."""
    label_smoothing: float = 0.0
    """Share of every label that is spread evenly over all classes, 0 to below 1."""
    batch_size: int = 64
    """Images in a step."""
    view: ViewSpec = field(default_factory=ViewSpec)
    """How views are drawn, where no cached logits prescribe it."""
    view_order: str = "next"
    """Of a fixed number of views: every image goes through them in turn ("next"), or takes any of them ("random")."""
    seed: int = 0
    """Of the initial weights, the order of images and views, and the dropout."""

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name.replace('_', '-')} must be at least 1, received {getattr(self, name)}")
        for name, limit in (("seed", 2**32), ("weight_decay", math.inf), ("lr_decay", math.inf)):
            value = getattr(self, name)
            if not 0 <= value < limit:
                raise InputError(f"{name.replace('_', '-')} must be 0 or more, and below {limit}, received {value}")
        if not 0 < self.lr < math.inf:
            raise InputError(f"lr must be above 0, received {self.lr}")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label-smoothing must lie in 0..1, below 1, received {self.label_smoothing}")
        if self.view_order not in VIEW_ORDERS:
            raise InputError(f'unknown view-order "{self.view_order}": choose one of {", ".join(VIEW_ORDERS)}')
        self._check_schedule()

    def _check_schedule(self) -> None:
        if self.schedule not in SCHEDULES:
            raise InputError(f'unknown schedule "{self.schedule}": choose one of {", ".join(SCHEDULES)}')
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
        if self.schedule == "cosine" and (self.plateau.factor < 1 or self.lr_decay > 0):
            raise InputError("a cosine schedule ends at 0: give --schedule constant with a plateau or lr-decay")


def _plain_views(**changes) -> ViewSpec:
    """Untouched images, but for `changes`."""
    untouched = {"rotation": 0.0, "zoom": (1.0, 1.0), "shift": 0.0, "brightness": 0.0, "contrast": 0.0}
    return ViewSpec(**{**untouched, **changes})


# FaceNet drew two zoom factors of 1 / 0.7..1.3, one per axis; here one factor holds for both.
_FACENET_VIEWS = _plain_views(zoom=(1 / 1.3, 1 / 0.7), shift=0.1)

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
    # Its second way. Its callbacks overwrote each other: the steps won over the plateau. Here both count.
    "facenet_steps": Recipe(
        epochs=100,
        lr=1e-3,
        schedule="steps",
        lr_steps=((5, 0.3), (30, 0.1), (60, 0.05), (90, 0.01)),
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
    # Our own, not yet compared with the others (benchmarks/recipes.sh): strong views and smoothed labels.
    "strong": Recipe(
        epochs=22,
        lr=2e-3,
        weight_decay=0.02,
        label_smoothing=0.1,
        batch_size=128,
        view=ViewSpec(rotation=15.0, zoom=(0.8, 1.1), shift=0.1, brightness=0.15, contrast=0.3, erase=0.4),
    ),
}
