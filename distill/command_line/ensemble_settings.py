"""`EnsembleSettings`: the flags that say how several cached teachers teach together."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.logit_store import LogitStore
    from distill.training.ensemble import CachedTeachers


@dataclass(frozen=True, kw_only=True)
class EnsembleSettings:
    """How several teachers teach together."""

    ensemble_weights: tuple[float, ...] | None = None
    """Of several teachers: how much each counts, in the order of --logits; by default all the same."""
    ensemble_mean: str | None = None
    """Of several teachers: the mean of their "logits" (default), or of their "probabilities" at the temperature."""
    class_match: str | None = None
    """A teacher's classes are those of the data in the same order ("exact", default), or are found by name among
    its own, in any order ("names"): what else it knows is left out."""

    @property
    def ensemble_settings_given(self) -> list[str]:
        """Names of those that are given."""
        return [name for name in ENSEMBLE_SETTINGS if getattr(self, name) is not None]

    def cached_teachers(self, stores: Sequence["LogitStore"]) -> "CachedTeachers":
        """Return the teachers of `stores`, together.

        Raises:
            InputError: what `CachedTeachers` refuses.
        """
        from distill.training.ensemble import CachedTeachers

        arguments: dict[str, Any] = {
            name.removeprefix("ensemble_"): getattr(self, name) for name in self.ensemble_settings_given
        }
        return CachedTeachers(stores, **arguments)


def ensemble_settings_of(teachers: "CachedTeachers") -> dict[str, Any]:
    """Return the settings with which `EnsembleSettings.cached_teachers` makes the same of the same stores."""
    from distill.training.ensemble import CachedTeachers

    values = {name: getattr(teachers, name.removeprefix("ensemble_")) for name in ENSEMBLE_SETTINGS}
    default = {name: getattr(CachedTeachers, name.removeprefix("ensemble_")) for name in ENSEMBLE_SETTINGS}
    return {name: value for name, value in values.items() if value != default[name]}


ENSEMBLE_SETTINGS = tuple(field.name for field in fields(EnsembleSettings))
"""Names of the settings of `EnsembleSettings`."""
