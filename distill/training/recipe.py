"""`Recipe`: how a network is trained, whatever it is taught by."""

from dataclasses import dataclass, field

from distill.data.views import ViewSpec
from distill.errors import InputError

SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained."""

    epochs: int = 20
    """Passes over the training images."""
    lr: float = 1e-3
    """Peak learning rate."""
    schedule: str = "cosine"
    """Learning rate over the run. "cosine": up over the first twentieth, then down to 0; "constant"."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW); 0 is plain Adam."""
    batch_size: int = 64
    """Images in a step."""
    view: ViewSpec = field(default_factory=ViewSpec)
    """How views are drawn, where no cached logits prescribe it."""
    seed: int = 0
    """Of the initial weights, the order of images and the dropout."""

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name.replace('_', '-')} must be at least 1, received {getattr(self, name)}")
        if self.seed < 0:
            raise InputError(f"seed must not be negative, received {self.seed}")
        if not self.lr > 0:
            raise InputError(f"lr must be above 0, received {self.lr}")
        if self.weight_decay < 0:
            raise InputError(f"weight-decay must not be negative, received {self.weight_decay}")
        if self.schedule not in SCHEDULES:
            raise InputError(f'unknown schedule "{self.schedule}": choose one of {", ".join(SCHEDULES)}')
