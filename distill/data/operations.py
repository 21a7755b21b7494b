"""Operations: what a view may do to an image. `OPERATIONS` is a table of rows, open to rows from outside.

A row says which settings it has, which parameters it draws from them for a view, and how these change an image.
Keras is imported where pixels change and not before, so that the help of commands answers at once.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np

from distill.errors import InputError
from distill.source_code import source_sha256

MID_GREY = 127.5
STAGES = ("geometry", "shift", "colour", "rendered")

_SHARED_DRAWS = 12  # of one hash for all built-in rows; each keeps its place among them for ever
_MOST_DRAWS = 16  # numbers that one BLAKE2b gives

Settings = Mapping[str, Any]
Drawn = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Setting:
    """A number, or something else, by which a specification says how far an operation may go."""

    neutral: Any
    """Leaves every image alone. It is also what a specification means that does not name the setting."""
    expected: str
    """What a value must do, for messages: "lie in 0..180"."""
    fits: Callable[[Any], bool]


def number(lowest: float, highest: float, *, neutral: float = 0.0) -> Setting:
    """Return a setting that is a number from `lowest` to `highest`, both included."""

    def fits(value: Any) -> bool:
        return _is_number(value) and lowest <= value <= highest

    return Setting(neutral, f"lie in {lowest:g}..{highest:g}", fits)


def _are_numbers(values: Any) -> bool:
    return isinstance(values, Sequence) and all(map(_is_number, values))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def choice(*names: str) -> Setting:
    """Return a setting that is one of `names`; the first one is neutral."""
    return Setting(names[0], f"be one of {', '.join(names)}", lambda value: value in names)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A row: one way to change an image. Calling it changes pixels, or whatever its stage works on.

    `apply` takes `parameters`, a dictionary of its parameters, each float32 [B]; its other arguments and its result
    depend on the stage, see `STAGES`; all of them are tensors of the backend of Keras, in code that can be compiled
    (XLA, `jax.jit`):

    - "geometry": `(x, y, parameters)` -> (x, y). Where in the image lies what a view shows at (x, y)? In pixels of
      the image from its centre, linear in both, each a number or [B]. All of them are one bilinear interpolation.
    - "shift": `(parameters)` -> how far the view moves to the right and down, fractions of its width and height, [B].
    - "colour": `(pixels, parameters)` -> pixels, float32 [B, h, w, 1 or 3] of the image before it is interpolated;
      clipped to 0..255 after all of that stage.
    - "rendered": `(pixels, parameters)` -> pixels, float32 [B, H, W, 1 or 3] in 0..255, at the size that the network
      takes; 1 channel where the images are grey. What it returns is clipped, and an image whose parameters are
      neutral is left alone whatever `apply` makes of it.

    Raises:
        ValueError: an unknown stage, or more draws than a hash gives.
    """

    settings: Mapping[str, Setting]
    """The settings of a specification, by name."""
    parameters: Mapping[str, float]
    """Names of what is drawn for each view -> the value that leaves an image alone."""
    draws: int
    """How many random numbers a view takes, 1 to 16."""
    draw: Callable[[Settings, np.ndarray], Drawn]
    """From the settings and float64 [n, draws], evenly distributed in (0, 1), to each parameter [n]. At the neutral
    settings every parameter must be neutral."""
    apply: Callable[..., Any]
    stage: str = "rendered"
    switch: str | None = None
    """The parameter that alone decides whether an image is left alone; by default all of them together do."""
    place: int | None = None
    """Of a built-in row: its first draw among those that the built-in rows share. One from outside has its own."""

    def __post_init__(self):
        if self.stage not in STAGES:
            raise ValueError(f"stage must be one of {STAGES}. Received: {self.stage!r}")
        if not 1 <= self.draws <= _MOST_DRAWS:
            raise ValueError(f"draws must be 1 to {_MOST_DRAWS}. Received: {self.draws}")

        if dotted := [name for name in self.parameters if "." in name]:
            raise ValueError(f"parameters must have names without a dot. Received: {dotted[0]!r}")

    def __call__(self, *args: Any) -> Any:
        return self.apply(*args)

    @cached_property
    def source_sha256(self) -> str | None:
        """Of the file in which `apply` is written, as it was first asked for; None where there is none."""
        try:
            return source_sha256(self.apply)
        except InputError:
            return None

    def active(self, parameters: Mapping[str, Any]) -> Any:
        """Return which images of a batch are not left alone: bool [B]."""
        from keras import ops

        deciding = (self.switch,) if self.switch else tuple(self.parameters)
        changed = [parameters[name] != self.parameters[name] for name in deciding]
        return ops.any(ops.stack(changed), axis=0)


def _symmetric(uniform: np.ndarray) -> np.ndarray:
    return 2 * uniform - 1


def _draw_zoom(settings: Settings, uniform: np.ndarray) -> Drawn:
    smallest, largest = settings["zoom"]
    if settings["zoom_draw"] == "inverse":
        return {"zoom": 1 / (1 / smallest + uniform[:, 0] * (1 / largest - 1 / smallest))}
    return {"zoom": np.exp(math.log(smallest) + uniform[:, 0] * math.log(largest / smallest))}


def _draw_erase(settings: Settings, uniform: np.ndarray) -> Drawn:
    size = settings["erase"] * uniform[:, 3:5] * (uniform[:, 0:1] < 0.5)
    return {
        "erase_left": uniform[:, 1] * (1 - size[:, 0]),
        "erase_top": uniform[:, 2] * (1 - size[:, 1]),
        "erase_width": size[:, 0],
        "erase_height": size[:, 1],
    }


def _rotate(x, y, parameters):
    from keras import ops

    cos, sin = ops.cos(parameters["angle"]), ops.sin(parameters["angle"])
    return cos * x - sin * y, sin * x + cos * y


def _erase(pixels, parameters):
    from keras import ops

    def inside(side: int, start, extent):
        centres = (np.arange(side, dtype=np.float32) + 0.5) / side
        return (start[:, None] <= centres) & (centres < (start + extent)[:, None])

    rows = inside(pixels.shape[1], parameters["erase_top"], parameters["erase_height"])
    columns = inside(pixels.shape[2], parameters["erase_left"], parameters["erase_width"])
    return ops.where(rows[:, :, None, None] & columns[:, None, :, None], MID_GREY, pixels)


def _per_image(values):
    return values[:, None, None, None]


OPERATIONS: dict[str, Operation] = {
    "flip": Operation(
        settings={"flip": Setting(False, "be true or false", lambda value: value in (True, False))},
        parameters={"mirror": 1},  # -1 mirrored left to right
        place=0,
        draws=1,
        draw=lambda settings, uniform: {"mirror": np.where((uniform[:, 0] < 0.5) & settings["flip"], -1, 1)},
        stage="geometry",
        apply=lambda x, y, parameters: (parameters["mirror"] * x, y),
    ),
    "zoom": Operation(
        settings={
            "zoom": Setting(
                (1.0, 1.0),
                "be a smallest and a largest factor above 0",
                lambda value: _are_numbers(value) and len(value) == 2 and 0 < value[0] <= value[1] < math.inf,
            ),
            "zoom_draw": choice("log", "inverse"),
        },
        parameters={"zoom": 1},  # above 1 enlarges the image
        place=2,
        draws=1,
        draw=_draw_zoom,
        stage="geometry",
        apply=lambda x, y, parameters: (x / parameters["zoom"], y / parameters["zoom"]),
    ),
    "rotation": Operation(
        settings={"rotation": number(0, 180)},
        parameters={"angle": 0},  # counter-clockwise, radians
        place=1,
        draws=1,
        draw=lambda settings, uniform: {"angle": math.radians(settings["rotation"]) * _symmetric(uniform[:, 0])},
        stage="geometry",
        apply=_rotate,
    ),
    "shift": Operation(
        settings={"shift": number(0, 1)},
        parameters={"shift_x": 0, "shift_y": 0},  # to the right and down, fractions of width and height
        place=3,
        draws=2,
        draw=lambda settings, uniform: {
            "shift_x": settings["shift"] * _symmetric(uniform[:, 0]),
            "shift_y": settings["shift"] * _symmetric(uniform[:, 1]),
        },
        stage="shift",
        apply=lambda parameters: (parameters["shift_x"], parameters["shift_y"]),
    ),
    "contrast": Operation(
        settings={"contrast": number(0, 10)},
        parameters={"contrast": 1},  # factor about mid-grey
        place=6,
        draws=1,
        draw=lambda settings, uniform: {"contrast": (1 + settings["contrast"]) ** _symmetric(uniform[:, 0])},
        stage="colour",
        apply=lambda pixels, parameters: (pixels - MID_GREY) * _per_image(parameters["contrast"]) + MID_GREY,
    ),
    "brightness": Operation(
        settings={"brightness": number(0, 1)},
        parameters={"brightness": 0},  # added, fraction of the full range
        place=5,
        draws=1,
        draw=lambda settings, uniform: {"brightness": settings["brightness"] * _symmetric(uniform[:, 0])},
        stage="colour",
        apply=lambda pixels, parameters: pixels + _per_image(255 * parameters["brightness"]),
    ),
    "erase": Operation(
        settings={"erase": number(0, 1)},
        # A rectangle painted mid-grey, fractions of the view's width and height.
        parameters={"erase_left": 0, "erase_top": 0, "erase_width": 0, "erase_height": 0},
        place=7,
        draws=5,
        draw=_draw_erase,
        apply=_erase,
        switch="erase_width",
    ),
}
"""Name of an operation -> its row, the built-in ones in the order in which a view is made. A row from outside is
added under a name of its own, and acts after the built-in ones of its stage, in the order of names."""

BUILT_IN = {name: row.place for name, row in OPERATIONS.items() if row.place is not None}
"""Name of each row of this project -> its place."""


def uniform_draws(
    seed: int,
    ids: Sequence[str] | np.ndarray,
    views: Sequence[int] | np.ndarray,
    *,
    draws: int = _SHARED_DRAWS,
    of: str | None = None,
) -> np.ndarray:
    """Return float64 [n, draws] in (0, 1): 32 bits each of BLAKE2b(key=seed, sample id, view and operation).

    Args:
        of: the operation from outside that draws; None: the numbers that the built-in ones share.
    """
    key, suffix = f"distill view {seed}".encode(), "" if of is None else f"\0{of}"
    bits = b"".join(
        hashlib.blake2b(f"{sample_id}\0{view}{suffix}".encode(), key=key, digest_size=4 * draws).digest()
        for sample_id, view in zip(ids, views, strict=True)
    )
    return (np.frombuffer(bits, "<u4").reshape(-1, draws) + 0.5) / 2**32
