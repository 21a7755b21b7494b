"""The header of a logit store: which teacher scored which images, and how."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from distill.data.class_order import NOT_RECORDED, most_certain
from distill.data.view_differences import view_differences_text
from distill.errors import InputError
from distill.files.documents import ClassNames, Count, ViewDescription, parsed
from distill.logit_store.feature import Feature
from distill.python_numbers import with_python_numbers

LOGITS_DTYPES = ("float32", "float16")
_MAX_FEATURES = 100
_WHAT = "header of logits"
UNKNOWN = "unknown"
"""Fingerprint and policy of imported logits."""


@dataclass(frozen=True, kw_only=True)
class LogitHeader:
    """Everything that decides the values of stored logits, apart from the samples' own columns.

    Raises:
        InputError: fewer than one view, a `logits_dtype` that the format does not have, or a class twice.
    """

    format_versions: ClassVar[tuple[int, ...]] = (1, 2)
    """The second one has features; a store without any is of the first."""

    class_names: ClassNames
    """In the order of the logits."""
    views: Annotated[int, Meta(lt=2**31)]
    """Number of views of each sample, counting the untouched image."""
    view_spec: Mapping[str, Any]
    """JSON-able: how the views are drawn, their "seed" among it."""
    teacher_name: str
    teacher_sha256: str
    """Of the teacher's weights, and of the rest of an external one (see `ImageModel.sha256`)."""
    teacher_input_shape: tuple[Count, Count, Count]
    """Height, width, channels."""
    numeric_policy: str
    """The precision that the teacher computed in: "float32", "mixed_bfloat16"; or `UNKNOWN`."""
    dataset_fingerprint: str
    """`Dataset.fingerprint` of the samples, or `UNKNOWN`."""
    dataset_name: str = field(metadata={"identity": False})
    """Where the samples came from, for messages."""
    logits_dtype: str = "float32"
    """"float32" or "float16", in the file; in memory they are float32."""
    logits_from: str = "logits"
    """How the teacher gave them: "logits", "before softmax" (its softmax was taken off), "log probabilities"."""
    input_format: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able: how pixels were brought to an external teacher, and "flip_average" and "shift_average" where the
    logits are a mean over copies of a view, see `ImageModel`; else empty for the project's own networks."""
    teacher_training: Mapping[str, str] = field(default_factory=dict, metadata={"identity": False})
    """`Dataset.fingerprint` of the "train" and the "validation" split that the teacher learned from; or empty."""
    class_order: str = field(default=NOT_RECORDED, metadata={"identity": False})
    """How the order of `class_names` is known: "given", "known", "assumed" (from the data), or `NOT_RECORDED`."""
    versions: Mapping[str, str] = field(default_factory=dict, metadata={"identity": False})
    """Libraries that computed the logits, for the record."""
    features: tuple[Feature, ...] = field(default=(), metadata={"identity": False})
    """What else of the teacher is stored, for each view."""

    def __post_init__(self):
        with_python_numbers(self)
        if self.logits_dtype not in LOGITS_DTYPES:
            raise InputError(f"logits_dtype must be float32 or float16, received {self.logits_dtype}")
        if self.views < 1:
            raise InputError(f"views must be 1 (the untouched image) or more, received {self.views}")
        if len(set(self.class_names)) < len(self.class_names):
            raise InputError(f"class_names must be a name each, and each once, received {self.class_names!r:.300}")
        named = ", ".join(each.name for each in self.features)
        if len({each.name for each in self.features}) < len(self.features):
            raise InputError(f"features must be a name each, and each once, received {named}")
        if len(self.features) > _MAX_FEATURES:
            raise InputError(f"a store holds up to {_MAX_FEATURES} features, received {len(self.features)}")
        # The name of a file need not be UTF-8, and a store takes nothing else.
        for name in ("teacher_name", "dataset_name"):
            object.__setattr__(self, name, getattr(self, name).encode(errors="backslashreplace").decode())
        # What was read from a file equals what was written: JSON knows lists, not tuples.
        for name in ("class_names", "teacher_input_shape", "features"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("view_spec", "input_format", "teacher_training", "versions"):
            object.__setattr__(self, name, json.loads(json.dumps(dict(getattr(self, name)))))

    @property
    def format_version(self) -> int:
        """Of the file: what has no features is written as it always was."""
        return 2 if self.features else 1

    def to_dict(self) -> dict:
        """Return the fields as JSON-able values, without `features` where there are none."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        features = [asdict(each) for each in values.pop("features")]
        return {**values, "features": features} if features else values

    @classmethod
    def from_dict(cls, values: Any, *, source: str | Path = "it") -> "LogitHeader":
        """Rebuild a header from what `to_dict` returned, now or in an earlier version; other names are ignored.

        Args:
            source: where the values stand, for the message.

        Raises:
            InputError: something is missing, or of another type.
        """
        header = parsed(values, cls, source=source, what=_WHAT)
        parsed(values, _Within, source=source, what=_WHAT)
        return header


@dataclass
class _Within:
    """What is relied on within parts of a header that are open to more."""

    view_spec: ViewDescription


def identity_fields() -> tuple[str, ...]:
    """Return the names of the fields in which two stores must agree to hold the same logits."""
    return tuple(f.name for f in fields(LogitHeader) if f.metadata.get("identity", True))


def differences(stored: LogitHeader, expected: LogitHeader, *, but: Collection[str] = ()) -> list[str]:
    """Return one text per identity field, except those named by `but`, whose stored and expected value differ."""
    return _differences(stored, expected, [name for name in identity_fields() if name not in but])


def feature_differences(stored: LogitHeader, expected: LogitHeader) -> list[str]:
    """Return a text where they name other features, or in another order, shape or dtype."""
    if stored.features == expected.features:
        return []
    found, wanted = (", ".join(map(str, each.features)) or "none" for each in (stored, expected))
    return [f"features: stored {found}, expected {wanted}"]


def has_all_of(header: LogitHeader, stored: LogitHeader) -> bool:
    """Whether a store of `header` has all that one of `stored` has: what it has in addition is views or features."""
    more_views = stored.views <= header.views
    return more_views and {*stored.features} <= {*header.features} and not differences(stored, header, but=("views",))


def has_more_than(header: LogitHeader, stored: LogitHeader) -> bool:
    """Whether a store of `header` has all that one of `stored` has, and further views or features."""
    same = stored.views == header.views and {*stored.features} == {*header.features}
    return not same and has_all_of(header, stored)


def training_differences(stored: LogitHeader, expected: LogitHeader) -> list[str]:
    """Return a text where both say what the teacher learned from, and say otherwise."""
    known = stored.teacher_training and expected.teacher_training
    return _differences(stored, expected, ["teacher_training"]) if known else []


def with_what_is_known(header: LogitHeader, *others: LogitHeader) -> LogitHeader:
    """Return `header` with what one of `others`, of the same identity, knows in addition.

    That is what its teacher learned from, and how the order of its classes is known.
    """
    known = (each.teacher_training for each in (header, *others) if each.teacher_training)
    class_order = most_certain(each.class_order for each in (header, *others))
    return replace(header, teacher_training=next(known, {}), class_order=class_order)


def _differences(stored: LogitHeader, expected: LogitHeader, names: Iterable[str]) -> list[str]:
    pairs = {name: (getattr(stored, name), getattr(expected, name)) for name in names}
    found = []
    for name, (old, new) in pairs.items():
        if name == "view_spec":
            found += [f"{name}.{text}" for text in view_differences_text(old, new, "stored {}, expected {}")]
        elif old != new:
            found.append(
                f"{name}: stored {json.dumps(old, sort_keys=True)}, expected {json.dumps(new, sort_keys=True)}"
            )
    return found
