"""`ModelDescription`: what an exported file says of itself, so that nobody has to guess classes, size or scaling."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

from distill.data.class_order import KNOWN
from distill.data.expressions import SPELLINGS, canonical_name
from distill.errors import InputError
from distill.files.documents import ClassNames, Side, parse_json, parsed

_MAX_BYTES = 1 << 20
_SHA256 = "sha256"
_WHAT = "description of an exported network"
_PIXELS = "float32 [1, height, width, channels], 0..255; scaling is part of the model"
_OF_FACES, _OF_IMAGES = "the face alone, in the square that was cut out about it", "the whole image"
_PREPARATION = "resized (bilinear, antialiased); one channel is grey (ITU-R 601)"
_OUTPUT = "float32 [1, classes], probabilities in the order of class_names"


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """What is to be known of an exported student in order to use it."""

    name: str
    """Of the network, such as "microexpnet"."""
    class_names: Annotated[ClassNames, Meta(min_length=2)]
    """The C classes, in the order of the probabilities."""
    input_shape: tuple[Side, Side, Literal[1, 3]]
    """Height, width and channels (1 grey, 3 RGB) of the pixels 0..255 that it takes."""
    precision: str
    """Of its weights: "float32", "float16" or "int8"."""
    weights_sha256: str
    """Of the Keras network that it was made of."""
    trained_on: str
    """Name of the dataset, "" where it is not known."""
    version: str
    """Of this project, when it was exported."""
    class_order: str = KNOWN
    """How it is known that the classes stand in this order: "known", or of an external network also "given" by
    who exported it, or "assumed"."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values, with what holds for every exported file."""
        preparation = f"{_OF_FACES if recognises_expressions(self.class_names) else _OF_IMAGES}, {_PREPARATION}"
        return {**asdict(self), "pixels": _PIXELS, "preparation": preparation, "output": _OUTPUT}


def recognises_expressions(class_names: Sequence[str]) -> bool:
    """Whether a student of these classes expects a face; of any others an image."""
    return all(canonical_name(name) in SPELLINGS for name in class_names)


def with_checksum(description: ModelDescription, model_sha256: str) -> str:
    """Return the text that travels inside a file: `description`, and the sha256 of the bytes that it describes."""
    return json.dumps({**description.to_dict(), _SHA256: model_sha256}, ensure_ascii=False)


def read_described(text: str | bytes, *, source: str) -> tuple[ModelDescription, str]:
    """Return what `with_checksum` wrote.

    Raises:
        InputError: it is something else; `source` names the file.
    """
    if len(text) > _MAX_BYTES:
        raise InputError(f"{source} describes itself in {len(text):,} bytes, more than it needs: export it anew")
    source = f"what {source} says of itself"
    values = parse_json(text, source=source, what=_WHAT)
    described = parsed(values, ModelDescription, source=source, what=_WHAT)
    return described, parsed(values, _Checksum, source=source, what=_WHAT).sha256


@dataclass
class _Checksum:
    sha256: str
