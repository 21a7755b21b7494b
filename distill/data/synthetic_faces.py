"""`synthetic_faces`: grey faces drawn from facial action units, the dataset that needs no download.

Everything random comes from the raw bits of a counter-based generator keyed by (seed, index);
`distill.data.face_drawing` paints.
"""

import numpy as np

from distill.data.dataset import ArrayImages, Dataset
from distill.data.expressions import CLASS_ORDERS
from distill.data.face_drawing import paint_faces
from distill.errors import InputError

# FACS numbers: inner_brow 1, outer_brow 2, brow_lower 4, lid_raise 5, cheek 6, lid_tight 7, nose_wrinkle 9,
# upper_lip 10, corner_pull 12, dimple 14 (on one side), corner_drop 15, lip_stretch 20, lip_press 24,
# lips_part 25, jaw_drop 26.
ACTION_UNITS = {
    "neutral": {},
    "angry": {"brow_lower": 1.0, "lid_raise": 0.4, "lid_tight": 0.7, "lip_press": 1.0, "corner_drop": 0.2},
    "contempt": {"dimple": 1.0, "lid_tight": 0.2},
    "disgust": {"nose_wrinkle": 1.0, "upper_lip": 1.0, "brow_lower": 0.4, "cheek": 0.5, "corner_drop": 0.4},
    "fear": {"inner_brow": 0.9, "outer_brow": 0.5, "brow_lower": 0.4, "lid_raise": 0.9, "lip_stretch": 1.0,
             "lips_part": 0.7, "jaw_drop": 0.2},
    "happy": {"cheek": 0.9, "corner_pull": 1.0, "lips_part": 0.6},
    "sad": {"inner_brow": 1.0, "brow_lower": 0.4, "corner_drop": 1.0, "lid_tight": 0.3},
    "surprise": {"inner_brow": 0.9, "outer_brow": 1.0, "lid_raise": 0.8, "jaw_drop": 1.0, "lips_part": 0.4},
}  # fmt: skip
"""Expression -> intensity 0..1 of the muscles that show it: EMFACS prototypes over the action units of
Ekman & Friesen, "Facial Action Coding System" (1978), as far as a drawing can show them."""

_UNITS = tuple(sorted({unit for units in ACTION_UNITS.values() for unit in units}))

# What else varies, uniform in (low, high). Lengths are in half picture widths from the middle of the face,
# downwards positive; tones run from 0 (black) to 1 (white).
_PERSON = {
    "face_width": (0.58, 0.70), "face_height": (0.80, 0.92), "jaw_taper": (0.05, 0.30), "skin": (0.42, 0.88),
    "hair": (0.03, 0.55), "hairline": (-0.68, -0.48), "parting": (-0.4, 0.4), "hair_width": (0.03, 0.22),
    "hair_length": (-0.3, 1.3), "bald": (0.0, 1.0), "eye_x": (0.27, 0.33), "eye_y": (-0.18, -0.10),
    "eye_width": (0.14, 0.18), "eye_open": (0.050, 0.075), "eye_slant": (-0.18, 0.18), "iris": (0.05, 0.35),
    "gaze": (-0.035, 0.035), "brow_y": (-0.22, -0.17), "brow_half": (0.018, 0.042), "brow_tone": (0.25, 0.6),
    "brow_slope": (-0.02, 0.04), "nose_length": (0.27, 0.35), "nose_width": (0.09, 0.14), "folds": (0.0, 0.2),
    "mouth_y": (0.40, 0.48), "mouth_width": (0.20, 0.27), "mouth_rest": (-0.025, 0.005), "side": (-1.0, 1.0),
    "lip": (0.035, 0.065), "lip_tone": (0.60, 0.88), "beard": (-1.0, 0.6), "moustache": (-1.5, 1.0),
    "glasses": (0.0, 1.0), "rim": (0.03, 0.40),
}  # fmt: skip
_POSE = {
    "roll": (-0.09, 0.09), "shift_x": (-0.07, 0.07), "shift_y": (-0.06, 0.06), "zoom": (-0.10, 0.10),
    "yaw": (-0.20, 0.20), "skew": (-0.04, 0.04),
}  # fmt: skip
_LIGHT = {
    "light_x": (-0.35, 0.35),
    "light_y": (-0.2, 0.2),
    "contrast": (-0.25, 0.25),
    "brightness": (-0.1, 0.1),
}
_SENSOR = {"blur": (0.0, 0.16), "grain": (0.0, 0.035)}
_OTHER = {
    "backdrop": (0.05, 0.95), "backdrop_x": (-0.3, 0.3), "cover": (0.0, 1.0), "cover_x": (-0.9, 0.9),
    "cover_y": (-0.7, 1.0), "cover_size": (0.16, 0.34), "cover_turn": (-0.6, 0.6), "cover_tone": (0.05, 0.95),
    "hand": (0.0, 1.0), "strength": (0.0, 1.0), "blend": (-1.0, 1.0), "blend_with": (0.0, 1.0),
    "mislabel": (0.0, 1.0), "mislabel_as": (0.0, 1.0), **{f"vary_{unit}": (0.0, 1.0) for unit in _UNITS},
}  # fmt: skip
_RANGES = _PERSON | _POSE | _LIGHT | _SENSOR | _OTHER

_SPLITS = np.array(["train", "validation", "test", "train", "train", "train", "train"] * 3)[:20]
"""Splits of 20 rounds through the classes: 70 % train, 15 % validation, 15 % test."""
_BLOCK = 32  # images painted at once: few enough that their grids stay in the processor's cache
_NUMBERS = 128  # raw 64-bit numbers before those of the pixels; more than there are ranges


def synthetic_faces(
    count: int = 4000,
    *,
    classes: int = 7,
    size: int = 48,
    seed: int = 0,
    label_noise: float = 0.1,
    faintest: float = 0.8,
    blend: float = 0.1,
    pose: float = 0.3,
    light: float = 0.3,
    occlusion: float = 0.05,
    grain: float = 0.3,
) -> Dataset:
    """Draw a dataset of faces.

    Image, label and split of a face depend on its index, `seed` and the options, not on `count`. Classes take
    turns, so that all are equally frequent in every split.

    Args:
        count: number of faces: at least three of each class, at most 99,999.
        classes: 7, in the order of FER2013, or 8, in the order of MicroExpNet (with contempt).
        size: height and width in pixels, 16..512.
        seed: another seed gives other faces; 0..2**64-1.
        label_noise: share of the training labels that are wrong, 0..1; other splits are labelled rightly.
        faintest: intensity of the weakest expressions, 0..1; the strongest have 1.
        blend: share of another expression mixed into half of the faces, at most, 0..1.
        pose: scale of roll, yaw, shift and zoom, 0..3; 0 is frontal.
        light: scale of the differences of light and contrast, 0..3; 0 is even light.
        occlusion: share of the faces with a hand or a block before them, 0..1.
        grain: scale of blur and noise, 0..3; 0 is sharp.

    Returns:
        Images uint8 [count, size, size, 1] in memory; ids "train/00000" of split and index.

    Raises:
        InputError: an option out of its range.
    """
    if classes not in (7, 8):
        raise InputError(f"synthetic faces have 7 or 8 classes, received {classes}")
    _check(3 * classes, 99_999, count=count)
    _check(16, 512, size=size)
    _check(0, 2**64 - 1, seed=seed)
    _check(0, 1, label_noise=label_noise, faintest=faintest, blend=blend, occlusion=occlusion)
    _check(0, 3, pose=pose, light=light, grain=grain)
    names = CLASS_ORDERS["fer2013" if classes == 7 else "microexpnet"]
    index = np.arange(count)
    splits = _SPLITS[index // classes % len(_SPLITS)]
    labels = index % classes
    images = np.empty((count, size, size, 1), np.uint8)
    for start in range(0, count, _BLOCK):
        block = slice(start, start + _BLOCK)
        bits = _raw_bits(seed, index[block], _NUMBERS + -(-size * size // 4))
        drawn = _in_ranges(bits, pose=pose, light=light, grain=grain)
        drawn |= _muscles(drawn, labels[block], names, faintest=faintest, blend=blend)
        images[block, ..., 0] = paint_faces(drawn, bits[:, _NUMBERS:], size, occlusion)
        wrong = (drawn["mislabel"] < label_noise) & (splits[block] == "train")
        labels[block] += wrong * (1 + (drawn["mislabel_as"] * (classes - 1)).astype(np.int64))
    return Dataset(
        name="synthetic",
        ids=np.array([f"{split}/{row:05d}" for row, split in enumerate(splits)]),
        labels=labels % classes,
        class_names=names,
        images=ArrayImages(images),
        splits=splits,
        notes=(f"{label_noise:.0%} of the training labels are wrong on purpose",) if label_noise else (),
    )


def _check(low: float, high: float, **options: float) -> None:
    for name, value in options.items():
        if not low <= value <= high:
            raise InputError(f"synthetic faces: {name} must be {low} to {high}, received {value}")


def _raw_bits(seed: int, index: np.ndarray, numbers: int) -> np.ndarray:
    keys = [np.array([seed, row], np.uint64) for row in index]
    return np.stack([np.random.Philox(key=key).random_raw(numbers) for key in keys])


def _in_ranges(bits: np.ndarray, *, pose: float, light: float, grain: float) -> dict[str, np.ndarray]:
    """Return a value in its range for every parameter of every face, float64 [B]."""
    uniform = (bits[:, : len(_RANGES)] >> np.uint64(11)) * 2.0**-53
    drawn = {
        name: low + (high - low) * column
        for (name, (low, high)), column in zip(_RANGES.items(), uniform.T, strict=True)
    }
    for table, scale in ((_POSE, pose), (_LIGHT, light), (_SENSOR, grain)):
        drawn |= {name: scale * drawn[name] for name in table}
    return drawn


def _muscles(
    drawn: dict[str, np.ndarray], shown: np.ndarray, names: tuple[str, ...], *, faintest: float, blend: float
) -> dict[str, np.ndarray]:
    """Return the intensity of every action unit, 0..1.2, float64 [B]."""
    other = (drawn["blend_with"] * len(names)).astype(np.int64)
    strength = faintest + (1 - faintest) * drawn["strength"]
    share = blend * np.maximum(drawn["blend"], 0) * strength
    units = {}
    for unit in _UNITS:
        prototype = np.array([ACTION_UNITS[name].get(unit, 0.0) for name in names])
        vary = drawn[f"vary_{unit}"]
        meant = (strength * prototype[shown] + share * prototype[other]) * (0.6 + 0.7 * vary)
        stray = 0.12 * np.maximum(2 * vary - 1, 0)  # faces are never quite still
        units[unit] = np.minimum(meant + stray, 1.2)
    return units
