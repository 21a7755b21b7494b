"""Views: deterministic augmentation, the same for the teacher that scores and the student that learns.

View 0 of a sample is the untouched image, unless the specification is a set of crops: then view v is crop v
of every sample. View v > 0 is drawn from the raw bits of a keyed hash of (seed, sample id, v), so it never
depends on the order of the data, on the machine, or on a library's random distributions. Parameters are
relative to the image; `distill.data.rendering` turns them into pixels at any size.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from distill.errors import InputError

PARAMETERS = (
    "mirror",  # -1 mirrored left to right, 1 not
    "angle",  # counter-clockwise, radians
    "zoom",  # 1 keeps the size, above 1 enlarges the image
    "shift_x",  # to the right, fraction of the width
    "shift_y",  # downwards, fraction of the height
    "brightness",  # added, fraction of the full range
    "contrast",  # factor about mid-grey
    "erase_left",  # rectangle painted mid-grey, fractions of the view's width and height
    "erase_top",
    "erase_width",
    "erase_height",
)
IDENTITY = np.array([1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0], np.float32)

# An algorithm's name changes whenever the same settings would give other views.
_ALGORITHM = "blake2b-1"
_CROPS_ALGORITHM = "crops-1"
_DRAWS = 12


@dataclass(frozen=True)
class Crops:
    """Square windows of equal size, cut out of the image after it is scaled to a square."""

    side: int
    """Of the scaled image, pixels."""
    window: int
    """Side of every crop, pixels."""
    offsets: tuple[tuple[int, int], ...]
    """Of each crop in turn, how far its top left corner lies to the right and down, pixels."""

    def parameters(self) -> np.ndarray:
        """Return the parameters of every crop: float32 [len(offsets), len(PARAMETERS)]."""
        rows = np.tile(IDENTITY, (len(self.offsets), 1))
        middle = (self.side - self.window) / 2  # the offset at which a crop needs no shift
        rows[:, PARAMETERS.index("zoom")] = self.side / self.window
        for axis, name in enumerate(("shift_x", "shift_y")):
            rows[:, PARAMETERS.index(name)] = (middle - np.array(self.offsets)[:, axis]) / self.window
        return rows


CROPS = {
    # Çuğu et al., "MicroExpNet", 2017, https://arxiv.org/abs/1711.07011: no crop is mirrored.
    "microexpnet": Crops(
        side=256,
        window=224,
        offsets=((0, 0), (5, 0), (32, 0), (0, 5), (0, 32), (5, 5), (32, 32), (5, 32)),
    ),
}


@dataclass(frozen=True)
class ViewSpec:
    """How far views may depart from the image. All zero (and zoom 1..1) leaves every view untouched.

    With `crops` nothing is drawn at random: every other setting but `seed`, which then changes nothing, must
    be left at its default.

    Raises:
        InputError: a setting out of range, unknown crops, or crops together with a setting they would ignore.
    """

    flip: bool = True
    """Mirror half of the views left to right."""
    rotation: float = 10.0
    """Largest rotation either way, degrees."""
    zoom: tuple[float, float] = (0.9, 1.1)
    """Smallest and largest zoom factor, drawn evenly on a log scale."""
    shift: float = 0.06
    """Largest shift either way, fraction of the side."""
    brightness: float = 0.1
    """Largest brightness change either way, fraction of the full range."""
    contrast: float = 0.2
    """Largest relative contrast change: factors lie in 1/(1+c)..1+c."""
    erase: float = 0.0
    """Largest side of the rectangle erased in half of the views, fraction of the image's side."""
    seed: int = 0
    """Which views are drawn."""
    crops: str = ""
    """Instead of random views, a set of crops: "microexpnet" (the eight of its paper)."""

    def __post_init__(self):
        if self.crops:
            self._check_crops()
        limits = {"rotation": 180, "shift": 1, "brightness": 1, "contrast": 10, "erase": 1}
        for name, limit in limits.items():
            if not 0 <= getattr(self, name) <= limit:
                raise InputError(f"view {name} must lie in 0..{limit}, received {getattr(self, name)}")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise InputError(f"view zoom must be a smallest and a largest factor above 0, received {self.zoom}")

    def _check_crops(self) -> None:
        if self.crops not in CROPS:
            raise InputError(f'unknown view crops "{self.crops}": known are {", ".join(CROPS)}')
        ignored = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)
            if field.name not in ("crops", "seed") and getattr(self, field.name) != field.default
        ]
        if ignored:
            raise InputError(
                f'the view crops "{self.crops}" are fixed and would ignore {", ".join(ignored)}: '
                "leave these out, or the crops"
            )

    @property
    def crop_count(self) -> int:
        """Number of crops, whose views are 0 to this number - 1; 0 where views are drawn at random."""
        return len(CROPS[self.crops].offsets) if self.crops else 0

    @property
    def evaluation_views(self) -> tuple[int, ...]:
        """The views a network is judged on: the untouched image (view 0), or all crops."""
        return tuple(range(self.crop_count or 1))

    def to_dict(self) -> dict:
        """Return a JSON-able description that says exactly which views are drawn."""
        if self.crops:
            return {"algorithm": _CROPS_ALGORITHM, "crops": self.crops}
        settings = asdict(self)
        del settings["crops"]
        return {"algorithm": _ALGORITHM, **settings, "zoom": list(self.zoom)}

    @classmethod
    def from_dict(cls, description: Mapping) -> "ViewSpec":
        """Rebuild a specification from `to_dict`.

        Raises:
            InputError: it was written by an algorithm that this version does not draw, or holds an
                unknown setting or unknown crops.
        """
        settings = dict(description)
        algorithm = settings.pop("algorithm", None)
        if algorithm == _CROPS_ALGORITHM and settings.keys() == {"crops"} and settings["crops"]:
            return cls(**settings)
        unknown = settings.keys() - {field.name for field in fields(cls) if field.name != "crops"}
        if algorithm != _ALGORITHM or unknown:
            raise InputError(
                f'views drawn by "{algorithm}" with settings {sorted(settings)} cannot be redrawn here: '
                f'this version draws "{_ALGORITHM}" and "{_CROPS_ALGORITHM}"; cache the logits again'
            )
        return cls(**{**settings, "zoom": tuple(settings["zoom"])})

    def parameters(self, ids: Sequence[str], views: Sequence[int]) -> np.ndarray:
        """Return the parameters of view `views[i]` of sample `ids[i]`: float32 [n, len(PARAMETERS)].

        Raises:
            InputError: with crops, a view that is none of them.
        """
        if self.crops:
            return self._crop_parameters(views)
        drawn = self._from_uniform(_uniform(self.seed, ids, views))
        drawn[np.asarray(views) == 0] = IDENTITY
        return drawn

    def _crop_parameters(self, views: Sequence[int]) -> np.ndarray:
        views = np.asarray(views, int)
        outside = views[(views < 0) | (views >= self.crop_count)]
        if outside.size:
            raise InputError(
                f'view {outside[0]} is asked for, the crops "{self.crops}" are {self.crop_count}: '
                f"ask for at most {self.crop_count} views, 0 to {self.crop_count - 1}"
            )
        return CROPS[self.crops].parameters()[views]

    def _from_uniform(self, uniform: np.ndarray) -> np.ndarray:
        symmetric = 2 * uniform - 1
        log_zoom = math.log(self.zoom[0]) + uniform[:, 2] * math.log(self.zoom[1] / self.zoom[0])
        erase_size = self.erase * uniform[:, 10:12] * (uniform[:, 7:8] < 0.5)
        columns = {
            "mirror": np.where((uniform[:, 0] < 0.5) & self.flip, -1, 1),
            "angle": math.radians(self.rotation) * symmetric[:, 1],
            "zoom": np.exp(log_zoom),
            "shift_x": self.shift * symmetric[:, 3],
            "shift_y": self.shift * symmetric[:, 4],
            "brightness": self.brightness * symmetric[:, 5],
            "contrast": (1 + self.contrast) ** symmetric[:, 6],
            "erase_left": uniform[:, 8] * (1 - erase_size[:, 0]),
            "erase_top": uniform[:, 9] * (1 - erase_size[:, 1]),
            "erase_width": erase_size[:, 0],
            "erase_height": erase_size[:, 1],
        }
        return np.stack([columns[name] for name in PARAMETERS], axis=1).astype(np.float32)


def _uniform(seed: int, ids: Sequence[str], views: Sequence[int]) -> np.ndarray:
    """float64 [n, _DRAWS] in (0, 1): 32 bits each of BLAKE2b(key=seed, sample id and view)."""
    key = f"distill view {seed}".encode()
    rows = zip(ids, views, strict=True)
    bits = b"".join(
        hashlib.blake2b(f"{sample_id}\0{view}".encode(), key=key, digest_size=4 * _DRAWS).digest()
        for sample_id, view in rows
    )
    return (np.frombuffer(bits, "<u4").reshape(-1, _DRAWS) + 0.5) / 2**32
