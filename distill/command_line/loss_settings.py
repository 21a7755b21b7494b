"""`LossSettings`: the flags that say what a student learns."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from distill.errors import InputError
from distill.losses.schedules import Ramp, WarmedRamp
from distill.refusals import flag

if TYPE_CHECKING:
    from distill.losses.distillation_loss import DistillationLoss
    from distill.losses.objective import Objective
    from distill.losses.soft_losses import SoftLoss


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """What a student learns from labels and from its teacher."""

    loss: str = "hinton"
    """Distillation loss: "hinton", "microexpnet", "standardised", "dkd", "dist", "nkd", "ttm", "wttm" or "mse"; or
    MODULE:FUNCTION, your own function of student_logits and teacher_logits, or a class of distill.Objective."""
    loss_weights: tuple[float, float] | None = None
    """Weights of the label loss and of the distillation loss, in place of --lambda; by default the usual ones of the
    loss."""
    loss_options: dict[str, float] = field(default_factory=dict)
    """The loss' own parameters, such as "alpha 1 beta 8" of dkd; by default the usual ones."""
    temperature: float | None = None
    """T, which softens both the teacher and the student in the distillation loss; by default the usual one of
    the loss, such as 4."""
    temperature_schedule: Ramp = Ramp()
    """Where the temperature goes in the course of the run."""
    lambda_: Annotated[float | None, arg(name="lambda")] = None
    """Weight of the distillation loss, 0..1; that of the label loss is 1 - lambda. By default the
    usual one of the loss, such as 0.9, with a teacher, and 0 without."""
    lambda_schedule: WarmedRamp = WarmedRamp()
    """Where lambda, or the explicit weight of the distillation loss, goes in the course of the run."""
    usual_warmup: bool = False
    """The warm-up of lambda that the loss is usually given: 20 epochs of dkd."""

    feature_loss: str | None = None
    """A loss on features of the teacher, in addition: "hint", "attention", "relational", "similarity" or
    "contrastive"."""
    feature_layers: tuple[str, ...] = ()
    """What it compares: STUDENT_LAYER=TEACHER_FEATURE, as the feature is called in the store, or a layer of an online
    teacher, such as conv2d_3=conv5@7; several add up."""
    feature_weight: float | None = None
    """What it is multiplied by; by default the usual weight of the loss."""
    feature_options: dict[str, float] = field(default_factory=dict)
    """Its own parameters, such as "distance 1 angle 2" of relational; by default the usual ones."""

    def loss_flags_given(self) -> list[str]:
        """Return the flags among these that are not at their defaults."""
        default = LossSettings()
        names = [name for name in default.__dataclass_fields__ if getattr(self, name) != getattr(default, name)]
        return [f"--{flag(name)}" for name in names]

    def objective(self, *, epochs: int, taught: bool) -> "Objective":
        """Return what these flags describe.

        Args:
            epochs: of the run.
            taught: whether there is a teacher; without one labels alone are learned from.

        Raises:
            InputError: an unknown loss, or flags that do not go together or that nothing would use.
        """
        from distill.python_function import recognise

        own = _own_objective(self.loss, self.loss_options) if recognise(self.loss) else None
        if own is not None:
            self._refuse_all_but_loss()
            return self._with_features(own)
        return self._with_features(self._of_logits(self._distillation_loss(taught), epochs))

    def _with_features(self, objective: "Objective") -> "Objective":
        """Return an objective with the loss on features added, if there is one."""
        from distill.losses.feature_objective import FeatureObjective

        if self.feature_loss is None:
            if given := [name for name in self.loss_flags_given() if name.startswith("--feature-")]:
                raise InputError(f"nothing uses {', '.join(given)}: give --feature-loss, or omit it")
            return objective
        return FeatureObjective(
            objective,
            self.feature_loss,
            pairs=feature_pairs(self.feature_layers),
            weight=self.feature_weight,
            options=self.feature_options,
        )

    def _distillation_loss(self, taught: bool) -> "DistillationLoss":
        from distill.losses.distillation_loss import DistillationLoss

        loss = DistillationLoss(
            self.loss,
            soft=soft_loss(self.loss),
            temperature=self.temperature,
            weights=self.loss_weights,
            options=self.loss_options,
            lambda_=self.lambda_,
        )
        if taught or self.loss_weights is not None or (self.lambda_ is not None and loss.uses_teacher):
            return loss
        if given := [name for name in self.loss_flags_given() if name != "--lambda"]:  # 0, which is so anyway
            raise InputError(f"without a teacher's logits nothing uses {', '.join(given)}: give --logits, or omit it")
        return DistillationLoss(lambda_=0.0)

    def _of_logits(self, loss: "DistillationLoss", epochs: int) -> "Objective":
        from distill.losses.objective import DistillationObjective

        soft_weight = self.lambda_schedule
        if self.usual_warmup:
            if not loss.soft.warmup_epochs:
                raise InputError(f'the loss "{loss.name}" has no usual warm-up: omit --usual-warmup')
            if soft_weight.warmup_epochs:
                raise InputError("--usual-warmup and --lambda-schedule.warmup-epochs are two warm-ups: give one")
            soft_weight = replace(soft_weight, warmup_epochs=min(loss.soft.warmup_epochs, epochs))
        return DistillationObjective(
            loss=loss, temperature=self.temperature_schedule, soft_weight=soft_weight, epochs=epochs
        )

    def _refuse_all_but_loss(self) -> None:
        given = [name for name in self.loss_flags_given() if not name.startswith("--feature-")]
        ignored = [name for name in given if name not in ("--loss", "--loss-options")]
        if ignored:
            raise InputError(f"the objective {self.loss} says itself how it is weighed: omit {', '.join(ignored)}")


def feature_pairs(texts: Sequence[str]) -> dict[str, str]:
    """Return the student's layer -> the teacher's feature that each STUDENT_LAYER=TEACHER_FEATURE names.

    Raises:
        InputError: one that does not look so, or two of the same layer.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        layer, _, feature = text.partition("=")
        if not (layer and feature):
            raise InputError(f"--feature-layers are pairs, STUDENT_LAYER=TEACHER_FEATURE, received {text}")
        if layer in pairs:
            raise InputError(
                f"--feature-layers gives {layer} two features, {pairs[layer]} and {feature}: name a layer of the "
                "student once"
            )
        pairs[layer] = feature
    return pairs


def soft_loss(name: str) -> "SoftLoss":
    """Return the row of a loss: of `SOFT_LOSSES`, or of a function of one's own, MODULE:FUNCTION.

    Raises:
        InputError: an unknown name, or no function of student_logits and teacher_logits.
    """
    from distill.losses.soft_losses import SoftLoss, loss_named
    from distill.python_function import load_function, recognise

    return SoftLoss.of(load_function(name)) if recognise(name) else loss_named(name)


def _own_objective(source: str, options: dict[str, float]) -> "Objective | None":
    """Return an objective of one's own: of its class, of a function that makes one, or a function of a batch.

    None where `source` is a function of logits.
    """
    import inspect

    from distill.losses.objective import as_objective, is_batch_function
    from distill.python_function import call_function, load_function

    what = load_function(source)
    if inspect.isclass(what) or _makes_objective(what):
        return as_objective(call_function(source, **options))
    if is_batch_function(what):
        if options:
            raise InputError(f"{source} takes student_outputs, batch and progress alone: omit --loss-options")
        return as_objective(what)
    return None


def _makes_objective(function: Any) -> bool:
    """Whether all parameters of a function have defaults, so that it is called for an objective."""
    import inspect

    parameters = inspect.signature(function).parameters.values()
    return all(each.default is not each.empty or each.kind is each.VAR_KEYWORD for each in parameters)
