"""`open_exported`: a file that was exported, or the folder of its card, becomes an `ExportedModel`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.errors import InputError
from distill.files.busy_files import reading
from distill.files.documents import read_document
from distill.files.home import expanded
from distill.prediction import litert_file, onnx_student
from distill.prediction.description import ModelDescription

_Opens = Callable[..., tuple[Callable[[np.ndarray], np.ndarray], ModelDescription]]


@dataclass(frozen=True)
class _Runtime:
    open_file: _Opens
    mark: bytes
    """What stands in a file that was exported here, and in what is left of a damaged one."""


_RUNTIMES = {
    litert_file.SUFFIX: _Runtime(litert_file.open_file, litert_file.DESCRIPTION.encode()),
    onnx_student.SUFFIX: _Runtime(onnx_student.open_file, onnx_student.PROPERTY.encode()),
}
"""Suffix -> how such a file is opened."""
SAVED_MODEL_ENDING = "-saved-model"
"""Of the names of SavedModels, which TensorFlow alone opens."""
EXPORTS = "exports.json"
"""In the folder of a card: what lies in it, and which file is recommended."""
_TRAINED = Path(__file__).parent / "trained_students"
DEFAULT_STUDENT = "fer2013_slim_resnet_wide"
"""Name of the trained student that is meant where none is named."""


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """An exported student, whatever runs it: pixels in, probabilities out."""

    path: Path
    description: ModelDescription
    run: Callable[[np.ndarray], np.ndarray]
    """float32 pixels 0..255 [B, h, w, c] -> float32 probabilities [B, C], unchecked."""

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Return float32 [B, C], rows that sum to 1, in the order of `description.class_names`.

        Args:
            pixels: 0..255 [B, height, width, channels] of the shape that `description` names; any real dtype.

        Raises:
            ValueError: another shape.
        """
        shape = self.description.input_shape
        if pixels.ndim != 4 or pixels.shape[1:] != shape:
            raise ValueError(f"Pixels must be [B, {', '.join(map(str, shape))}]. Received: {pixels.shape}")
        if not len(pixels):
            return np.empty((0, len(self.description.class_names)), np.float32)
        return self.run(np.ascontiguousarray(pixels, np.float32))


def trained_students() -> dict[str, Path]:
    """Return the folders of the trained students that come with the package, by their names."""
    return {each.parent.name: each.parent for each in sorted(_TRAINED.glob(f"*/{EXPORTS}"))}


def is_exported(path: str | Path) -> bool:
    """Whether `path` means what `open_exported` opens: an exported file, the folder of such files, or a name.

    A file that exists is read to find out: others write LiteRT and ONNX files, too.
    """
    path = _place(path)
    if path.suffix in _RUNTIMES and path.is_file():
        return _RUNTIMES[path.suffix].mark in path.read_bytes()
    return path.suffix in _RUNTIMES or (path / EXPORTS).is_file()


def open_exported(path: str | Path, *, threads: int = 1) -> ExportedModel:
    """Open an exported student.

    Args:
        path: a `.tflite` or `.onnx` file, or the folder of its card: then the recommended file in it; or the name of
            a student of `trained_students`.
        threads: among how many threads several images are divided.

    Raises:
        InputError: there is no such file; it is of another kind, damaged, cannot be read now, or was not exported by
            this project; what runs it is not installed.
    """
    path = _place(path)
    if path.is_dir():
        path = path / _recommended(path)
    if path.suffix not in _RUNTIMES:
        folder, names = "the folder that python -m distill.export wrote", ", ".join(trained_students())
        what_works = f"expected {' or '.join(_RUNTIMES)}, {folder}, or a student of the package ({names})"
        raise InputError(f"{path} is not an exported student: {what_works}{_hint(path)}")
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    with reading(path):
        run, description = _RUNTIMES[path.suffix].open_file(path, threads=threads)
    _check_fits(run, description, path)
    return ExportedModel(path, description, run)


def _place(source: str | Path) -> Path:
    return trained_students().get(str(source)) or expanded(source)


def _check_fits(run: Callable[[np.ndarray], np.ndarray], description: ModelDescription, path: Path) -> None:
    """Run the network on one grey image, to check that it is the one that is described."""
    classes = len(description.class_names)
    try:
        shape = run(np.full((1, *description.input_shape), 127.5, np.float32)).shape
    except Exception as error:  # each runtime has its own for an image of another shape
        raise InputError(f"{path} does not take the images that it says: export it anew") from error
    if shape != (1, classes):
        raise InputError(f"{path} gives {list(shape)} for an image, and names {classes} classes: export it anew")


def _recommended(folder: Path) -> str:
    """Return the name of the recommended file in the folder of a card."""
    file = folder / EXPORTS
    try:
        name = read_document(file, _Exports, what="list of exports").recommended
    except FileNotFoundError:
        if (folder / "export" / EXPORTS).is_file():
            hint = f"give {folder / 'export'}"
        elif (folder / "settings.json").is_file():  # of a run
            hint = f"python -m distill.export --model {folder} --data DATA exports it"
        else:
            hint = "give a folder that python -m distill.export wrote"
        raise InputError(f"{folder} holds no {EXPORTS}: {hint}") from None
    if name.endswith(SAVED_MODEL_ENDING):
        raise InputError(
            f"{folder} recommends {name}, a SavedModel, which runs in TensorFlow alone: export litert-float32, too"
        )
    if Path(name).name != name or not Path(name).suffix:  # it never leads out of the folder
        raise InputError(f"{file} recommends {name!r}, which is not a file in it: export anew")
    return name


@dataclass(frozen=True)
class _Exports:
    recommended: str


def _hint(path: Path) -> str:
    return "; export it first" if path.suffix in (".keras", ".h5") else ""
