"""LiteRT's own metadata, which Android's libraries and other tools read: names of classes, and how pixels are scaled.

The numbers below are the places of fields in the schema of LiteRT's metadata, version 1.1 ("M001"),
https://github.com/tensorflow/tflite-support/blob/master/tensorflow_lite_support/metadata/metadata_schema.fbs
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from distill.exporting.graph import INPUT, OUTPUT
from distill.prediction.description import ModelDescription, recognises_expressions, with_checksum
from distill.prediction.litert_file import DESCRIPTION, LABELS

METADATA = "TFLITE_METADATA"
_IDENTIFIER, _PARSER_VERSION = b"M001", "1.0.0"
_IMAGE_PROPERTIES, _NORMALIZATION = 2, 1  # members of the unions ContentProperties and ProcessUnitOptions
_DESCRIPTIONS, _AXIS_LABELS = 1, 2  # kinds of associated file
_COLOR_SPACES = {3: 1, 1: 2}  # channels -> RGB, GRAYSCALE
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of everything in an archive, so that the same student gives the same bytes


def described_file(flatbuffer: bytes, description: ModelDescription) -> bytes:
    """Return the content of a `.tflite` file: the network, LiteRT's metadata in it, and the archive behind it."""
    network = _with_metadata(flatbuffer, _metadata(description))
    text = with_checksum(description, hashlib.sha256(network).hexdigest())
    content = io.BytesIO(network)
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS, _EPOCH), "".join(f"{name}\n" for name in description.class_names))
        archive.writestr(zipfile.ZipInfo(DESCRIPTION, _EPOCH), text)
    return content.getvalue()


def _with_metadata(flatbuffer: bytes, metadata: bytes) -> bytes:
    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(metadata, np.uint8)
    entry.name, entry.buffer = METADATA, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors if tensor.name):
        tensor.name = tensor.name.split(b";")[0]  # of the operations that were made one, the last
    builder = _SharingBuilder(len(flatbuffer))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class _SharingBuilder(flatbuffers.Builder):
    """Writes equal arrays and texts once.

    The converter writes a zero point, eight bytes of zeros, for each channel of each tensor: a fifth of a small int8
    file of depthwise convolutions.
    """

    def __init__(self, size: int):
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802
        array = x.dtype.str, x.tobytes()
        if array not in self._written:
            self._written[array] = super().CreateNumpyVector(x)
        return self._written[array]

    def CreateString(self, s: str | bytes, encoding: str = "utf-8", errors: str = "strict") -> int:  # noqa: N802
        text = "text", s if isinstance(s, bytes) else s.encode(encoding, errors)
        if text not in self._written:
            self._written[text] = super().CreateString(s, encoding, errors)
        return self._written[text]


def _metadata(description: ModelDescription) -> bytes:
    height, width, channels = description.input_shape
    shown = "a face" if recognises_expressions(description.class_names) else "an image"
    writer = _Writer()
    size = writer.table(2, numbers={0: width, 1: height})
    image = writer.table(2, kinds={0: _COLOR_SPACES[channels]}, refers={1: size})
    content = writer.table(3, kinds={0: _IMAGE_PROPERTIES}, refers={1: image})
    as_they_are = writer.table(2, refers={0: writer.floats(0.0), 1: writer.floats(1.0)})  # mean, deviation
    scaling = writer.table(2, kinds={0: _NORMALIZATION}, refers={1: as_they_are})
    pixels = {
        0: writer.text(INPUT),
        1: writer.text(f"{shown}, {height}x{width}, pixels 0..255"),
        3: content,
        4: writer.tables(scaling),
        5: writer.range(0.0, 255.0),
    }
    labels = writer.associated_file(LABELS, "names of the classes, in order", _AXIS_LABELS)
    probabilities = {
        0: writer.text(OUTPUT),
        1: writer.text("of each class"),
        5: writer.range(0.0, 1.0),
        6: writer.tables(labels),
    }
    tensors = {
        side: writer.tables(writer.table(7, refers=fields)) for side, fields in ((2, pixels), (3, probabilities))
    }
    graph = writer.table(10, refers=tensors)
    described = writer.associated_file(DESCRIPTION, "what is to be known of this file, as JSON", _DESCRIPTIONS)
    model = {
        0: writer.text(description.name),
        1: writer.text(f"Recognises {', '.join(description.class_names)} in {shown}."),
        2: writer.text(description.version),
        3: writer.tables(graph),
        6: writer.tables(described),
        7: writer.text(_PARSER_VERSION),
    }
    return writer.finished(writer.table(8, refers=model))


class _Writer:
    """Writes tables of a flatbuffer by the places of their fields; what a table refers to is written before it."""

    def __init__(self):
        self._builder = flatbuffers.Builder(1024)

    def table(
        self,
        places: int,
        *,
        refers: Mapping[int, int] | None = None,
        numbers: Mapping[int, int] | None = None,
        kinds: Mapping[int, int] | None = None,
    ) -> int:
        """Write a table of so many places: offsets of what was written before, unsigned numbers, kinds (a byte)."""
        self._builder.StartObject(places)
        for place, offset in (refers or {}).items():
            self._builder.PrependUOffsetTRelativeSlot(place, offset, 0)
        for place, number in (numbers or {}).items():
            self._builder.PrependUint32Slot(place, number, 0)
        for place, kind in (kinds or {}).items():
            self._builder.PrependInt8Slot(place, kind, 0)
        return self._builder.EndObject()

    def text(self, text: str) -> int:
        return self._builder.CreateString(text)

    def floats(self, *values: float) -> int:
        return self._builder.CreateNumpyVector(np.array(values, np.float32))

    def tables(self, *offsets: int) -> int:
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return self._builder.EndVector()

    def range(self, low: float, high: float) -> int:
        return self.table(2, refers={0: self.floats(high), 1: self.floats(low)})

    def associated_file(self, name: str, description: str, kind: int) -> int:
        return self.table(5, refers={0: self.text(name), 1: self.text(description)}, kinds={2: kind})

    def finished(self, offset: int) -> bytes:
        self._builder.Finish(offset, file_identifier=_IDENTIFIER)
        return bytes(self._builder.Output())
