"""In what two specifications of views differ, of whatever version each is."""

import json
from collections.abc import Mapping
from typing import Any

from distill.data.operations import OPERATIONS
from distill.data.outside_operations import EXTRA_SOURCES, plain_name
from distill.data.views import NEUTRAL, ViewSpec

_SOURCE = " (source)"


def view_differences(
    first: ViewSpec | Mapping[str, Any], second: ViewSpec | Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Return name -> both values of the settings in which two specifications differ; empty where they draw the same.

    A setting that one of them lacks has its neutral value there, so that specifications of different versions can be
    compared; None stands for a setting of an operation that is not registered here.

    Args:
        first, second: specifications, or what describes them: `to_dict`, or the fields as JSON.
    """
    ours, theirs = _flat(first), _flat(second)
    if ours.get("crops") != theirs.get("crops"):
        return {"crops": (ours.get("crops"), theirs.get("crops"))}
    # Sources are compared where both are known: earlier descriptions do not have them.
    of_one = ours.keys() ^ theirs.keys()
    names = [name for name in {**ours, **theirs} if not (name in of_one and name.endswith(_SOURCE))]
    pairs = {name: (_value_in(ours, name), _value_in(theirs, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def view_differences_text(
    first: ViewSpec | Mapping[str, Any], second: ViewSpec | Mapping[str, Any], text: str
) -> list[str]:
    """Return a text for each setting in which two specifications differ.

    Args:
        text: with places for both values, such as "stored {}, expected {}".
    """
    return [f"{name}: {text.format(*values)}" for name, values in view_differences(first, second).items()]


def _flat(spec: ViewSpec | Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as plain values in one dictionary, those of operations from outside as "blur.sigma"."""
    flat = json.loads(json.dumps(spec.to_dict() if isinstance(spec, ViewSpec) else dict(spec)))
    extra = flat.pop("extra", {})
    flat |= {f"{name}{_SOURCE}": sha256 for name, sha256 in flat.pop(EXTRA_SOURCES, {}).items()}
    flat |= {f"{plain_name(name)}.{key}": value for name, own in extra.items() for key, value in own.items()}
    return {name: value for name, value in flat.items() if (name, value) != ("crops", "")}


def _value_in(flat: Mapping[str, Any], name: str) -> Any:
    if name in flat:
        return flat[name]
    operation, _, setting = name.rpartition(".")
    if not operation:
        neutral = NEUTRAL.get(name)
    else:
        known = OPERATIONS[operation].settings if operation in OPERATIONS else {}
        neutral = known[setting].neutral if setting in known else None
    return json.loads(json.dumps(neutral))
