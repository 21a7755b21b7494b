"""Views: deterministic augmentation, the same for the teacher that scores and the student that learns.

View 0 of a sample is the untouched image, unless the specification is a set of crops: then view v is crop v
of every sample. View v > 0 is drawn from the raw bits of a keyed hash of (seed, sample id, v), so it never
depends on the order of the data, on the machine, or on a library's random distributions. What may be done to an
image are the rows of `distill.data.operations`. Parameters are relative to the image; `distill.data.rendering`
turns them into pixels at any size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

import numpy as np

from distill.data.crops import CROPS
from distill.data.operations import BUILT_IN, OPERATIONS, number, uniform_draws
from distill.data.outside_operations import (
    EXTRA_FLAG,
    EXTRA_SOURCES,
    Extra,
    check_sources,
    checked_extra,
    outside_names,
    plain_name,
    source_of,
)
from distill.data.view_columns import PARAMETERS, columns_with, neutral_parameters
from distill.errors import InputError
from distill.python_numbers import with_python_numbers

__all__ = ["CROPS", "IDENTITY", "NEUTRAL", "PARAMETERS", "ViewSpec"]

IDENTITY = neutral_parameters(PARAMETERS)
"""The parameters of the untouched image."""

# An algorithm's name changes whenever the same settings would give other views.
_ALGORITHM = "blake2b-1"
_CROPS_ALGORITHM = "crops-1"
_OF_MIXING = {"mixup": number(0, 1), "cutmix": number(0, 1)}
_SETTINGS = {name: setting for row in BUILT_IN for name, setting in OPERATIONS[row].settings.items()} | _OF_MIXING
NEUTRAL = {name: setting.neutral for name, setting in _SETTINGS.items()} | {"seed": 0}
"""What a description means that lacks one of these settings."""
# Every description names these. A later setting is named only where it is not neutral, so that the same views have
# the same description in every version.
_ALWAYS_NAMED = ("flip", "rotation", "zoom", "shift", "brightness", "contrast", "erase", "seed")


@dataclass(frozen=True)
class ViewSpec:
    """How far views may depart from the image. All zero (and zoom 1..1) leaves every view untouched.

    With `crops` nothing is drawn at random: every other setting but `seed`, which then changes nothing, must
    be left at its default.

    Raises:
        InputError: a setting out of range, unknown crops or operations, or crops together with a setting that they
            would ignore.
    """

    flip: bool = True
    """Mirror half of the views left to right."""
    rotation: float = 10.0
    """Largest rotation either way, degrees."""
    zoom: tuple[float, float] = (0.9, 1.1)
    """Smallest and largest zoom factor."""
    zoom_draw: str = "log"
    """How zoom factors z are drawn: evenly on a log scale ("log"), or evenly in 1/z ("inverse", as Keras does)."""
    shift: float = 0.06
    """Largest shift either way, fraction of the side."""
    brightness: float = 0.1
    """Largest brightness change either way, fraction of the full range."""
    contrast: float = 0.2
    """Largest relative contrast change: factors lie in 1/(1+c)..1+c."""
    erase: float = 0.0
    """Largest side of the rectangle erased in half of the views, fraction of the image's side."""
    mixup: float = 0.0
    """Share of the views, 0..1, that are blended with another image of the data, whose label counts by its share."""
    cutmix: float = 0.0
    """Share of the views, 0..1, in which a rectangle shows another image, whose label counts by its area."""
    seed: int = 0
    """Which views are drawn."""
    crops: str = ""
    """Instead of random views, a set of crops: "microexpnet_original", the eight that its authors' code cuts;
    "microexpnet", those with the last one transposed, as in stores of version 0.1."""
    extra: Annotated[Extra, EXTRA_FLAG] = field(default_factory=dict, hash=False)
    """Operations from outside: MODULE:ROW, a setting of it and its value, as often as needed. The module is a
    program. Stores know the row by its name."""

    def __post_init__(self):
        with_python_numbers(self)
        object.__setattr__(self, "extra", checked_extra(self.extra))
        if self.crops != "":
            self._check_crops()
        if type(self.seed) is not int or not -(2**63) <= self.seed < 2**63:  # it is part of a key of 64 bytes
            raise InputError(f"view seed must be a whole number of 64 bits, received {self.seed!r:.80}")
        for name, setting in _SETTINGS.items():
            if not setting.fits(getattr(self, name)):
                raise InputError(f"view {name} must {setting.expected}, received {getattr(self, name)}")
        if self.mixup + self.cutmix > 1:
            raise InputError(
                f"view mixup and cutmix are shares of the views and must sum to 1 at most, received {self.mixup} and "
                f"{self.cutmix}"
            )

    def __setstate__(self, state: dict) -> None:
        """Take over what was pickled; where another process opens it, the operations from outside are new."""
        self.__dict__.update(state)
        checked_extra({name: own for name, own in self.extra.items() if ":" in name})

    def _check_crops(self) -> None:
        if not isinstance(self.crops, str) or self.crops not in CROPS:
            raise InputError(f'unknown view crops "{self.crops}": known are {", ".join(CROPS)}')
        ignored = [
            f"{each.name}={getattr(self, each.name)}"
            for each in fields(self)
            if each.name not in ("crops", "seed", "extra") and getattr(self, each.name) != each.default
        ]
        ignored += [f"extra={self.extra}"] if self.extra else []
        if ignored:
            raise InputError(
                f'the view crops "{self.crops}" are fixed and would ignore {", ".join(ignored)}: '
                "omit these, or the crops"
            )

    @property
    def mixes(self) -> bool:
        """Whether some views show two images."""
        return self.mixup + self.cutmix > 0

    @property
    def crop_count(self) -> int:
        """Number of crops, whose views are 0 to this number - 1; 0 where views are drawn at random."""
        return len(CROPS[self.crops].offsets) if self.crops else 0

    @property
    def evaluation_views(self) -> tuple[int, ...]:
        """The views a network is evaluated on: the untouched image (view 0), or all crops."""
        return tuple(range(self.crop_count or 1))

    @property
    def columns(self) -> tuple[str, ...]:
        """What the columns of `parameters` are: `PARAMETERS`, then those of `extra`."""
        return columns_with(outside_names(self.extra))

    def to_dict(self) -> dict:
        """Return a JSON-able description that says exactly which views are drawn."""
        if self.crops:
            return {"algorithm": _CROPS_ALGORITHM, "crops": self.crops}
        settings = {each.name: getattr(self, each.name) for each in fields(self) if each.name in _ALWAYS_NAMED}
        later = {name: getattr(self, name) for name in _SETTINGS if name not in _ALWAYS_NAMED}
        settings |= {name: value for name, value in later.items() if value != NEUTRAL[name]}
        if self.extra:
            settings["extra"] = {plain_name(name): dict(own) for name, own in self.extra.items()}
            settings[EXTRA_SOURCES] = {name: own for name in outside_names(self.extra) if (own := source_of(name))}
        return {"algorithm": _ALGORITHM, **settings, "zoom": list(self.zoom)}

    @classmethod
    def from_dict(cls, description: Mapping) -> "ViewSpec":
        """Rebuild a specification from `to_dict`, now or in an earlier version; what it lacks is neutral.

        Raises:
            InputError: it was written by an algorithm that this version does not draw, or holds an
                unknown setting, unknown crops, or an operation that is not registered here, or whose source is
                another one now.
        """
        settings = dict(description)
        sources = settings.pop(EXTRA_SOURCES, {})
        algorithm = settings.pop("algorithm", None)
        if algorithm == _CROPS_ALGORITHM and settings.keys() == {"crops"} and settings["crops"]:
            return cls(**settings)
        unknown = settings.keys() - {each.name for each in fields(cls) if each.name != "crops"}
        if algorithm != _ALGORITHM or unknown:
            raise InputError(
                f'views drawn by "{algorithm}" with settings {sorted(unknown or settings)} cannot be redrawn here: '
                f'this version draws "{_ALGORITHM}" and "{_CROPS_ALGORITHM}"; cache the logits again'
            )
        extra = settings.get("extra", {})
        if not isinstance(extra, Mapping) or any(":" in name for name in extra):  # a file's word is never imported
            raise InputError(f"views name the operations {extra}: expected plain names with settings")
        settings = NEUTRAL | settings
        check_sources(sources, extra)
        return cls(**{**settings, "zoom": _as_tuple(settings["zoom"])})

    @classmethod
    def for_evaluation(cls, description: Mapping) -> "ViewSpec":
        """Return what `to_dict` said of the views that a network is evaluated on, whatever else is drawn.

        These are the crops, or the untouched image, so that evaluating needs no operation from outside.

        Raises:
            InputError: as `from_dict`, but for the operations.
        """
        return cls.from_dict(
            {name: value for name, value in description.items() if name not in ("extra", EXTRA_SOURCES)}
        )

    def parameters(self, ids: Sequence[str] | np.ndarray, views: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the parameters of view `views[i]` of sample `ids[i]`: float32 [n, len(self.columns)].

        Raises:
            InputError: with crops, a view that is none of them.
        """
        if self.crops:
            return self._crop_parameters(views)
        drawn = self._drawn(ids, views)
        drawn[np.asarray(views) == 0] = neutral_parameters(self.columns)
        return drawn

    def _crop_parameters(self, views: Sequence[int] | np.ndarray) -> np.ndarray:
        crops = np.asarray(views, int)
        outside = crops[(crops < 0) | (crops >= self.crop_count)]
        if outside.size:
            raise InputError(
                f'view {outside[0]} is requested, the crops "{self.crops}" are {self.crop_count}: '
                f"request at most {self.crop_count} views, 0 to {self.crop_count - 1}"
            )
        return CROPS[self.crops].parameters()[crops]

    def _drawn(self, ids: Sequence[str] | np.ndarray, views: Sequence[int] | np.ndarray) -> np.ndarray:
        shared = uniform_draws(self.seed, ids, views)
        columns: dict[str, np.ndarray] = {}
        for name, place in BUILT_IN.items():
            row = OPERATIONS[name]
            settings = {setting: getattr(self, setting) for setting in row.settings}
            columns |= row.draw(settings, shared[:, place : place + row.draws])
        for name, given in self.extra.items():
            name, row = plain_name(name), OPERATIONS[plain_name(name)]
            settings = {setting: given.get(setting, each.neutral) for setting, each in row.settings.items()}
            drawn = row.draw(settings, uniform_draws(self.seed, ids, views, draws=row.draws, of=name))
            columns |= _checked_draw(name, drawn, images=len(ids))
        return np.stack([columns[name] for name in self.columns], axis=1).astype(np.float32)


def _checked_draw(name: str, drawn: Mapping[str, np.ndarray], *, images: int) -> dict[str, np.ndarray]:
    """Return what a row from outside has drawn, by columns."""
    expected = dict.fromkeys(OPERATIONS[name].parameters, (images,))
    received = {parameter: np.shape(values) for parameter, values in drawn.items()}
    if received != expected:
        raise InputError(f'the view operation "{name}" draws {received}: expected {expected}, by its parameters')
    return {f"{name}.{parameter}": values for parameter, values in drawn.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
