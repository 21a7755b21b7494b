"""Settings that earlier versions wrote, as those of today."""

from collections.abc import Mapping
from typing import Any

_OPTIONS = ("keep_prob", "pixel_scale")  # of students, until 0.1
_RENAMED = {  # of 0.1, and of 0.2 before its release
    "beside": "extra_data",
    "beside_logits": "extra_logits",
    "gives": "output_type",
    "other_views": "other_view_logits",
    "teacher_mean": "ensemble_mean",
    "teacher_weights": "ensemble_weights",
}


def upgraded_settings(settings: Any) -> Any:
    """Return the settings of a run or a comparison of any version, as this version would write them.

    What is not settings is returned as it is, for others to refuse.
    """
    if not isinstance(settings, Mapping):
        return settings
    settings = _renamed(settings)
    if isinstance(settings.get("online"), Mapping):
        settings["online"] = _renamed(settings["online"])
    if "pixel_scale" not in settings or "student_options" in settings:
        return settings
    options = {name: settings[name] for name in _OPTIONS if settings.get(name) is not None}
    unused = _OPTIONS if _is_taught(settings) or settings.get("lambda_") is not None else (*_OPTIONS, "loss")
    kept = {name: value for name, value in settings.items() if name not in unused}
    return {**kept, "student_options": options, "policy": "float32"}


def _renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {_RENAMED.get(name, name): value for name, value in settings.items()}


def _is_taught(settings: Mapping[str, Any]) -> bool:
    """Whether a training has a teacher; without one, 0.1 named its default loss all the same."""
    online = settings.get("online")
    return bool(settings.get("logits")) or (isinstance(online, Mapping) and online.get("teacher") is not None)
