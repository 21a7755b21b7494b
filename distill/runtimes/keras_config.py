"""What the description in a Keras file may name: layers that compute, and nothing that runs code or reads files.

Keras' safe mode does the same, but not in every release that this project runs on: before 3.9 a file could name
any Python function (CVE-2025-1550), before 3.11.3 it held for no .h5 file (CVE-2025-9905).
"""

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras

from distill.errors import InputError
from distill.files.busy_files import cannot_read_now
from distill.files.hdf5_probe import check_ends
from distill.refusals import reason
from distill.runtimes.keras2 import NO_ACTIVATIONS, translate
from distill.runtimes.keras2_nodes import Untranslatable

_MAX_BYTES = 1 << 26  # of a description; that of a network of a thousand layers has 1 MB
_PACKAGES = (
    "keras.layers",
    "keras.models",
    "keras.activations",
    "keras.initializers",
    "keras.regularizers",
    "keras.constraints",
    "keras.dtype_policies",
    "keras.losses",  # of a part that was trained on its own
    "keras.metrics",
    "keras.optimizers",
    *(f"keras.src.{room}" for room in ("layers", "models", "ops", "initializers", "dtype_policies", "applications")),
)
_ROOMS = (keras.layers, keras.initializers, keras.regularizers, keras.constraints)
_CLASSES_OF_KERAS = ("Model", "Functional", "Sequential", "DTypePolicy", "Variable")
_CONSTANTS = ("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__tuple__")
_FORBIDDEN = {
    "Lambda": "Python code",
    "__lambda__": "Python code",
    "TorchModuleWrapper": "a pickled network",
    "JaxLayer": "Python code",
    "FlaxLayer": "Python code",
    "TFSMLayer": "the path of another network",
    "StringLookup": "the path of a vocabulary",
    "IntegerLookup": "the path of a vocabulary",
    "TextVectorization": "the path of a vocabulary",
}
_MEND = "rebuild it of plain layers, or give a function that runs it, module:function"
_MEND_OLD = "rebuild it of plain layers, or let tf_keras run it in a function, module:function (see docs/caching.md)"


class Description(NamedTuple):
    """What a file says of a network."""

    stated: dict
    """As it stands there, without the settings of its training."""
    translated: dict
    """As Keras 3 reads it."""
    old: bool
    """Whether Keras 1 or 2 wrote it."""


def check_keras_file(path: Path) -> Description:
    """Check the description of the network in a `.keras`, `.h5`, `.hdf5` or `.json` file, before Keras acts on it.

    Raises:
        InputError: the file is damaged or holds no network, or the network names a layer that runs code, reads
            files, or is neither one of Keras nor registered with it; or one of Keras 2 that cannot be translated.
    """
    stated, version = _read_config(path)
    old = not version.startswith("3")
    mend = _MEND_OLD if old else _MEND
    for each in objects(stated):
        names = str(each.get("class_name")), str(each.get("registered_name"))
        forbidden = next((name for name in names if name in _FORBIDDEN), None)
        if forbidden is not None:
            raise InputError(
                f"{path} has a layer {forbidden}{_called(each)}, which may hold {_FORBIDDEN[forbidden]}: {mend}"
            )
    try:
        translated = translate(stated, old=old)
    except Untranslatable as error:
        raise InputError(f"{path} {error}: {mend}") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is not a Keras model that can be loaded: its description is incomplete ({reason(error)})"
        ) from error
    for each in objects(translated):
        if not _is_known(each):
            name = each.get("config") if each["class_name"] == "function" else each["class_name"]
            place = f" of {each['module']!r:.80}" if each.get("module") else ""
            raise InputError(
                f"{path} holds {name!r:.80}{place}{_called(each)}, which is not a layer that Keras knows: {mend}"
            )
    return Description(stated, translated, old)


def _called(described: dict) -> str:
    """Return the name of a layer, where it has one, for a message."""
    config = described.get("config")
    name = described.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return f' ("{name}")' if isinstance(name, str) else ""


def _read_config(path: Path) -> tuple[dict, str]:
    """Return the description that a file holds, without the settings of its training, and the release of Keras."""
    try:
        text, version = _READERS.get(path.suffix, _hdf5_config)(path)
        if len(text) > _MAX_BYTES:
            raise InputError(f"{path} describes its network in {len(text):,} bytes, more than any network needs")
        config = json.loads(text, object_hook=_without_addresses)
        if isinstance(config, str):  # written by json.dump, which made a text of the text
            config = json.loads(config, object_hook=_without_addresses)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, RecursionError) as error:
        unknown = InputError(f"{path} is not a Keras model that can be loaded: {reason(error)}")
        raise cannot_read_now(error, path) or unknown from error
    if not isinstance(config, dict) or "class_name" not in config:
        raise InputError(f"{path} is not a Keras model that can be loaded: it describes no network")
    version = str(version or config.get("keras_version") or "")
    return {key: value for key, value in config.items() if key not in _NOT_OF_THE_NETWORK}, version


def _without_addresses(described: dict) -> dict:
    """Leave out where in memory a shared object lay: that changes whenever the same network is saved."""
    return {key: value for key, value in described.items() if key != "shared_object_id"}


def _zipped_config(path: Path) -> tuple[bytes, str | None]:
    with zipfile.ZipFile(path) as archive:
        with archive.open("config.json") as file:
            text = file.read(_MAX_BYTES + 1)
        if "metadata.json" not in archive.namelist():
            return text, None
        with archive.open("metadata.json") as file:
            metadata = json.loads(file.read(_MAX_BYTES))
            return text, metadata.get("keras_version") if isinstance(metadata, dict) else None


def _hdf5_config(path: Path) -> tuple[bytes | str, str | None]:
    import h5py

    check_ends(path)
    with h5py.File(path, "r") as file:
        text, version = (file.attrs.get(name) for name in ("model_config", "keras_version"))
    if text is None:
        raise InputError(
            f"{path} holds weights without their network: give the network's name as --teacher, the file as "
            "--weights; of an external network the .json file that describes it as --teacher"
        )
    return text, version.decode() if isinstance(version, bytes) else version


def _json_config(path: Path) -> tuple[str, None]:
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"{path} has {path.stat().st_size:,} bytes, more than the description of any network needs")
    return path.read_text(encoding="utf-8"), None


_READERS: dict[str, Callable[[Path], tuple[bytes | str, str | None]]] = {
    ".keras": _zipped_config,
    ".json": _json_config,
}
_NOT_OF_THE_NETWORK = ("compile_config", "keras_version", "backend")


def objects(config: Any) -> Iterator[dict]:
    """Yield every object that Keras would build, however deep it lies."""
    waiting = [config]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if "class_name" in each:
                yield each
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)


def _is_known(described: dict) -> bool:
    """Whether an object is one of Keras that does no more than compute, or one that somebody registered."""
    name, module, registered = (described.get(key) for key in ("class_name", "module", "registered_name"))
    if not isinstance(name, str) or not name.isidentifier():  # "layers.Lambda" of the module "keras" is one, too
        return False
    if name == "function":
        return _is_known_function(described.get("config"), module)
    if name in _CONSTANTS or _is_registered(registered):
        return True
    if module is None:  # files older than Keras 3 name no module, and mean a class of Keras
        return name in _CLASSES_OF_KERAS or any(hasattr(room, name) for room in _ROOMS)
    if module == "keras":
        return name in _CLASSES_OF_KERAS
    return isinstance(module, str) and any(module == room or module.startswith(f"{room}.") for room in _PACKAGES)


def _is_known_function(name: Any, module: Any) -> bool:
    if _is_registered(name):
        return True
    activation = isinstance(name, str) and name not in NO_ACTIVATIONS and hasattr(keras.activations, name)
    return activation and module in (None, "builtins", "keras.activations")


def _is_registered(name: Any) -> bool:
    return isinstance(name, str) and keras.saving.get_registered_object(name) is not None
