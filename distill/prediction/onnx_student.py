"""Students in ONNX files, on the CPU through onnxruntime.

The description is the last of the file's properties, and holds a checksum of all bytes before it.
"""

import hashlib
from pathlib import Path

import numpy as np

from distill.errors import InputError
from distill.extras import install_command
from distill.prediction.description import ModelDescription, read_described

SUFFIX = ".onnx"
PROPERTY = "distill_faces"

_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2  # field numbers of ModelProto and StringStringEntryProto
_CHUNK = 256


class ONNXStudent:
    """Runs one network.

    Raises:
        InputError: onnxruntime is not installed, or the file is damaged.
    """

    def __init__(self, content: bytes, *, threads: int = 1, source: str = "the model"):
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(f"{source} needs onnxruntime: {install_command('onnx')}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # onnxruntime's own kinds, of which none is public
            line = next(iter(str(error).splitlines()), type(error).__name__)
            raise InputError(f"{source} is not an ONNX file that can be run: {line:.200}") from error
        self._input = self._session.get_inputs()[0]
        self.properties: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    def takes(self, input_shape: tuple[int, ...]) -> bool:
        """Whether it takes one image of this shape, in float32: files of other programs need not."""
        shape = self._input.shape
        fits = len(shape) == 1 + len(input_shape) and all(
            side == expected or not isinstance(side, int)  # an open side has a name, or None
            for side, expected in zip(shape, (1, *input_shape), strict=True)
        )
        return fits and self._input.type == "tensor(float)"

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return float32 [B, C] of float32 pixels [B, h, w, c]."""
        chunks = [pixels[start : start + _CHUNK] for start in range(0, len(pixels), _CHUNK)]
        return np.concatenate([self._session.run(None, {self._input.name: chunk})[0] for chunk in chunks])


def open_file(path: Path, *, threads: int = 1) -> tuple[ONNXStudent, ModelDescription]:
    """Open an exported student.

    Raises:
        InputError: onnxruntime is not installed; the file is damaged, or was not exported by this project.
    """
    content = path.read_bytes()
    student = ONNXStudent(content, threads=threads, source=str(path))
    text = student.properties.get(PROPERTY)
    if text is None:
        raise InputError(
            f"{path} was not exported here, so its classes and pixels are not known: use python -m distill.export"
        )
    description, sha256 = read_described(text, source=str(path))
    if hashlib.sha256(content.removesuffix(property_bytes(text))).hexdigest() != sha256:
        raise InputError(f"{path} is damaged: the network in it is not the one that was exported; copy it anew")
    return student, description


def property_bytes(text: str) -> bytes:
    """Return the bytes that, behind those of an ONNX file, add the property `PROPERTY` to it.

    Messages of Protocol Buffers that stand one behind the other are read as one.
    """
    return _field(_METADATA_PROPS, _field(_KEY, PROPERTY.encode()) + _field(_VALUE, text.encode()))


def _field(number: int, content: bytes) -> bytes:
    """One field of a message: its number and kind (2, bytes that a length precedes), length and content."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])
