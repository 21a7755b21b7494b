"""CK+ file names, `S005_001_00000009.png`: who is in the image, and folds that keep people apart."""

import re
from collections.abc import Iterable

import numpy as np

_NAME = re.compile(r"(S\d{3})_\d{3}_\d{8}\.\w+")


def ckplus_subjects(names: Iterable[str]) -> np.ndarray | None:
    """Return the subject of each file name, str [N]; None unless every name is a CK+ name."""
    matches = [_NAME.fullmatch(name) for name in names]
    subjects = [match[1] for match in matches if match]
    return np.array(subjects) if subjects and len(subjects) == len(matches) else None


def subject_folds(subjects: np.ndarray, folds: int = 10) -> np.ndarray:
    """Number the fold of each image, int64 [N]: sorted subjects are dealt out in turn.

    Neighbouring frames of one subject are nearly the same image, so a subject is never in two folds.
    """
    return np.unique(subjects, return_inverse=True)[1].astype(np.int64) % folds
