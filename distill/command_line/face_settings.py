"""`FaceSettings`: the flags that say how faces are found in photos."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FaceSettings:
    """How faces are found."""

    face_detector: str | None = None
    """"blazeface" (default): faces from the front, or turned or tilted a little, by a network that comes with this
    package. "haar": faces from the front, through OpenCV. "none": the whole photo is one face."""
    min_face_score: float | None = None
    """Of "blazeface": how sure it must be that something is a face, 0..1; by default 0.6. Higher values give fewer
    false faces, and miss more."""
