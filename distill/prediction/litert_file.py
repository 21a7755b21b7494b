"""Students in LiteRT files (`.tflite`), on the CPU.

The file is LiteRT's flatbuffer with a zip archive behind it, as LiteRT's own metadata has it: `unzip` lists the names
of the classes, and the description with a checksum of the flatbuffer.
"""

import hashlib
import io
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from distill.errors import InputError
from distill.prediction.description import ModelDescription, read_described
from distill.quiet import quiet_stderr

SUFFIX = ".tflite"
LABELS, DESCRIPTION = "labels.txt", "description.json"
"""Names in the archive."""

_MAX_BYTES = 1 << 20


class LiteRTFile:
    """Runs one network; of several images each thread takes a share.

    Args:
        flatbuffer: the network.
        threads: interpreters that work side by side. One image is always computed by one thread.

    Raises:
        InputError: the network is damaged, or uses operations that LiteRT lacks.
    """

    def __init__(self, flatbuffer: bytes, *, threads: int = 1, source: str = "the model"):
        self._interpreters = [litert_interpreter(flatbuffer, source) for _ in range(threads)]
        self._input, self._output = (
            details()[0]
            for details in (self._interpreters[0].get_input_details, self._interpreters[0].get_output_details)
        )
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Without the batch."""
        return tuple(map(int, self._input["shape"][1:]))

    def takes(self, input_shape: tuple[int, ...]) -> bool:
        """Whether it takes one image of this shape at a time, in float32: files of other programs need not."""
        return self._input["dtype"] is np.float32 and tuple(self._input["shape"]) == (1, *input_shape)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return float32 [B, C] of float32 pixels [B, h, w, c]."""
        if self._pool is None or len(pixels) == 1:
            return self._run(self._interpreters[0], pixels)
        shares = np.array_split(pixels, len(self._interpreters))
        return np.concatenate(list(self._pool.map(self._run, self._interpreters, shares)))

    def _run(self, interpreter, pixels: np.ndarray) -> np.ndarray:
        outputs = np.empty((len(pixels), *self._output["shape"][1:]), np.float32)
        for row, image in enumerate(pixels):
            interpreter.set_tensor(self._input["index"], image[None])
            interpreter.invoke()
            outputs[row] = interpreter.get_tensor(self._output["index"])[0]
        return outputs


def open_file(path: Path, *, threads: int = 1) -> tuple[LiteRTFile, ModelDescription]:
    """Open an exported student.

    Raises:
        InputError: the file is damaged, or was not exported by this project.
    """
    flatbuffer, description = read(path)
    return LiteRTFile(flatbuffer, threads=threads, source=str(path)), description


def read(path: Path) -> tuple[bytes, ModelDescription]:
    """Return the flatbuffer in a file, and what the file says of it; errors are those of `open_file`."""
    content = path.read_bytes()
    start, text = _archived(content)
    if not text:
        kind = "is damaged, or" if content[4:8] == b"TFL3" else "is not a LiteRT file, or"
        raise InputError(
            f"{path} {kind} was not exported here, so its classes and pixels are not known: "
            "use python -m distill.export"
        )
    description, sha256 = read_described(text, source=str(path))
    if hashlib.sha256(content[:start]).hexdigest() != sha256:
        raise InputError(f"{path} is damaged: the network in it is not the one that was exported; copy it anew")
    return content[:start], description


def description_in(content: bytes) -> str:
    """Return what the content of a file says of its network, unchecked; "" where it was not exported here."""
    return _archived(content)[1].decode(errors="replace")


def _archived(content: bytes) -> tuple[int, bytes]:
    """Return where the archive behind the flatbuffer begins, and the description in it, empty where there is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            start = min(entry.header_offset for entry in archive.infolist())
            with archive.open(DESCRIPTION) as file:
                return start, file.read(_MAX_BYTES)
    except (zipfile.BadZipFile, zlib.error, EOFError, LookupError, ValueError, RuntimeError):
        return len(content), b""


def litert_interpreter(flatbuffer: bytes, source: str, *, threads: int = 1):
    from ai_edge_litert.interpreter import Interpreter

    try:
        with quiet_stderr():  # it greets
            interpreter = Interpreter(model_content=flatbuffer, num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{source} is not a network that LiteRT can run: {error}".splitlines()[0]) from error
    return interpreter
