"""CK+ file names, `S005_001_00000009.png`: who is in the image, and folds that keep people apart."""

import re
from collections.abc import Iterable

import numpy as np

_NAME = re.compile(r"(S\d{3})_\d{3}_\d{8}\.\w+")


def ckplus_subjects(names: Iterable[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return the subject of each file name, str [N], and notes; None unless every name is a CK+ name."""
    subjects, others, first_other = [], 0, ""
    for name in names:
        match = _NAME.fullmatch(name)
        if match:
            subjects.append(match[1])
        else:
            others, first_other = others + 1, first_other or name
    if not subjects:
        return None, ()
    if not others:
        return np.array(subjects), ()
    return None, (
        f"{others} of {others + len(subjects)} file names are not those of CK+, such as {first_other}: who is in an "
        "image is not known, so that splits and folds may part the images of one person",
    )


def subject_folds(subjects: np.ndarray, folds: int = 10) -> np.ndarray:
    """Number the fold of each image, int64 [N]: sorted subjects are dealt out in turn.

    Neighbouring frames of one subject are nearly the same image, so a subject is never in two folds.
    """
    return np.unique(subjects, return_inverse=True)[1].astype(np.int64) % folds
