"""`CompareSettings`, the flags of a comparison, and the cells of the grid that they mean."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from distill.command_line.cluster_settings import ClusterRunSettings
from distill.command_line.data_settings import DataSettings
from distill.command_line.ensemble_settings import EnsembleSettings
from distill.command_line.loss_settings import LossSettings, soft_loss
from distill.command_line.student_settings import StudentSettings
from distill.command_line.student_training import TrainStudentSettings
from distill.errors import InputError
from distill.experiments.comparison import Cell, grid, with_features
from distill.refusals import check_at_least
from distill.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class CompareSettings(ClusterRunSettings, DataSettings, StudentSettings, EnsembleSettings, Recipe):
    """Train students from labels alone and distilled, over a grid and several seeds, and compare them.

    Repeat the command to resume; with a larger grid it trains what is missing.
    """

    out: str
    """Directory for the runs, the tables and the heat map."""
    logits: Annotated[tuple[str, ...], arg(metavar="FILE [FILE ...]")]
    """Stores that distill.teacher_logits wrote, one for each teacher. Labels alone get the same views of all
    images that have a label."""
    students: tuple[str, ...] = (TrainStudentSettings.student,)
    """Names of the networks, or MODULE:FUNCTION, as distill.train_student takes; --student-options are for all."""
    losses: tuple[str, ...] = (TrainStudentSettings.loss,)
    """Losses to compare: names, or MODULE:FUNCTION of your own."""
    temperatures: tuple[float, ...] = (2.0, 4.0, 8.0)
    """T of every loss that has one; the others are trained once for every lambda."""
    lambdas: tuple[float, ...] = (0.5, 0.9)
    """Weights of the soft part, 0..1. Labels alone, which is 0, is always trained, once per student and seed."""
    usual_losses: tuple[str, ...] = ()
    """Names of losses to train in addition to the grid, at the temperature, the weights and the warm-up that they are
    usually given; with an empty --losses, instead of the grid."""
    feature_losses: tuple[str, ...] = ()
    """Names of losses on the teacher's features: each is trained with the labels alone, and added to every cell of
    losses on logits."""
    feature_layers: tuple[str, ...] = ()
    """What they compare: STUDENT_LAYER=TEACHER_FEATURE, as distill.train_student takes; the same for all students."""
    feature_weights: tuple[float, ...] = ()
    """What they are multiplied by, each with each; by default the usual weight of each loss."""
    other_view_logits: Annotated[tuple[str, ...], arg(metavar="FILE [FILE ...]")] = ()
    """Stores of the same teachers in other views, such as mixed pictures, as many and in the same order as --logits,
    or a multiple: every cell is trained in these, too, and labels alone. Their file names name them."""
    labels_epochs: tuple[int, ...] = ()
    """Train from labels alone for these numbers of epochs, too, for example as many as fit into the time spent on the
    teacher. Their learning rate has the schedule of the others: by default that of --epochs."""
    seeds: int = 3
    """Runs of every cell: with --seed and the numbers that follow it."""
    test: bool = False
    """Finally evaluate the selected cell and the labels-only arm on the test split, once; nothing can be added to the
    comparison afterwards."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("logits", "students", "temperatures", "lambdas"):
            if not getattr(self, name):
                raise InputError(f"--{name} is empty: give at least one")
        if not (self.losses or self.usual_losses or self.feature_losses):
            raise InputError("--losses is empty: give at least one, or --usual-losses or --feature-losses")
        if not self.losses and self.lambdas != CompareSettings.lambdas:
            raise InputError("no lambda reaches the grid, of which --losses is empty: omit --lambdas")
        check_at_least(1, seeds=self.seeds)
        for epochs in self.labels_epochs:
            check_at_least(1, labels_epochs=epochs)
        if not self.feature_losses and (self.feature_layers or self.feature_weights):
            raise InputError("nothing uses --feature-layers and --feature-weights: give --feature-losses")
        if len(self.other_view_logits) % len(self.logits):
            raise InputError(
                f"--other-view-logits are as many stores as --logits, {len(self.logits)}, or a multiple: received "
                f"{len(self.other_view_logits)}"
            )
        if not any(self.lambdas):
            raise InputError("--lambdas 0 is labels alone, which is always trained: give one above 0, too")

    @property
    def stores(self) -> dict[str | None, tuple[str, ...]]:
        """Views -> the stores in them, one for each teacher; None: those that come first.

        Raises:
            InputError: two views would have one name.
        """
        number = len(self.logits)
        others = [
            self.other_view_logits[start : start + number] for start in range(0, len(self.other_view_logits), number)
        ]
        named: dict[str | None, tuple[str, ...]] = {None: self.logits}
        for group in others:
            name = Path(group[0]).stem
            if name in named:
                raise InputError(
                    f"two of --other-view-logits are called {name}: rename the file, which names its runs"
                )
            named[name] = group
        return named

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells of the grid, all of losses, temperatures, lambdas, features and views that can be used.

        Raises:
            InputError: a loss that there is not, or what one cannot be given; two cells of one name.
        """
        softening = [name for name in self.losses if soft_loss(name).temperature is not None]
        if not softening and self.temperatures != CompareSettings.temperatures:
            named = " or ".join(self.losses) or "of the grid, which is empty"
            raise InputError(f"no temperature reaches the loss {named}: omit --temperatures")
        temperatures = {name: self.temperatures if name in softening else (None,) for name in self.losses}
        cells = grid(self.students, temperatures, self.lambdas)
        cells = with_features([*cells, *_usual_cells(self)], _weighted_features(self))
        longer = [Cell(student, epochs=epochs) for student in self.students for epochs in self.labels_epochs]
        in_all_views = [replace(cell, views=views) for views in self.stores for cell in (*cells, *longer)]
        for cell in cells:
            self.loss_settings(cell).objective(epochs=self.epochs, taught=cell.is_taught)
        by_name: dict[str, Cell] = {}
        for cell in in_all_views:
            if by_name.setdefault(cell.name, cell) != cell:
                raise InputError(f"two cells of the grid are called {cell.name}: give values that differ by more")
        return tuple(by_name.values())

    def loss_settings(self, cell: Cell) -> LossSettings:
        """Return the flags that teach a cell; one at the usual weights of its loss has the usual warm-up, too."""
        how: dict[str, Any] = {}
        if cell.loss is not None:
            usual = cell.weights is not None and soft_loss(cell.loss).warmup_epochs > 0
            how = {"loss": cell.loss, "usual_warmup": usual, "temperature": cell.temperature}
            how |= {"lambda_": cell.lambda_, "loss_weights": cell.weights}
        elif cell.is_taught:
            how = {"lambda_": 0.0}
        if cell.feature_loss is not None:
            how |= {"feature_loss": cell.feature_loss, "feature_weight": cell.feature_weight}
            how |= {"feature_layers": self.feature_layers}
        return LossSettings(**how)


def _usual_cells(settings: CompareSettings) -> list[Cell]:
    from distill.losses.distillation_loss import DistillationLoss

    losses = {name: DistillationLoss(name, soft=soft_loss(name)) for name in settings.usual_losses}
    return [
        Cell(student, name, loss.temperature, loss.lambda_, loss.weights)
        for student in settings.students
        for name, loss in losses.items()
    ]


def _weighted_features(settings: CompareSettings) -> list[tuple[str, float]]:
    from distill.losses.feature_losses import feature_loss_named

    return [
        (name, weight)
        for name in settings.feature_losses
        for weight in settings.feature_weights or (feature_loss_named(name).weight,)
    ]
