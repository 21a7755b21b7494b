"""What the description in a Keras file may name: layers that compute, and nothing that runs code or reads files.

Keras' safe mode does the same, but not in every release that this project runs on: before 3.9 a file could name
any Python function (CVE-2025-1550), before 3.11.3 it held for no .h5 file (CVE-2025-9905).
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from distill.busy_files import cannot_read_now
from distill.errors import InputError
from distill.runtimes.reasons import reason

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
_NO_ACTIVATIONS = ("get", "serialize", "deserialize")
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


def check_keras_file(path: Path) -> dict:
    """Check the description of the network in a `.keras`, `.h5` or `.hdf5` file, before Keras acts on it.

    Returns:
        The description, without the settings of its training.

    Raises:
        InputError: the file is damaged or holds no network, or the network names a layer that runs code, reads
            files, or is neither one of Keras nor registered with it.
    """
    config = _read_config(path)
    for each in _objects(config):
        names = str(each.get("class_name")), str(each.get("registered_name"))
        forbidden = next((name for name in names if name in _FORBIDDEN), None)
        if forbidden is not None:
            raise InputError(f"{path} has a layer {forbidden}, which may hold {_FORBIDDEN[forbidden]}: {_MEND}")
        if not _is_known(each):
            name = each.get("config") if names[0] == "function" else names[0]
            place = f" of {each['module']!r:.80}" if each.get("module") else ""
            raise InputError(f"{path} holds {name!r:.80}{place}, which is no layer that Keras knows: {_MEND}")
    return config


def _read_config(path: Path) -> dict:
    """Return the description that a file holds, without the settings of its training."""
    try:
        text = _zipped_config(path) if path.suffix == ".keras" else _hdf5_config(path)
        if len(text) > _MAX_BYTES:
            raise InputError(f"{path} describes its network in {len(text):,} bytes, more than any network needs")
        config = json.loads(text, object_hook=_without_addresses)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, RecursionError) as error:
        unknown = InputError(f"{path} is no Keras model that can be loaded: {reason(error)}")
        raise cannot_read_now(error, path) or unknown from error
    if not isinstance(config, dict):
        raise InputError(f"{path} is no Keras model that can be loaded: it describes no network")
    return {key: value for key, value in config.items() if key != "compile_config"}


def _without_addresses(described: dict) -> dict:
    """Leave out where in memory a shared object lay: that changes whenever the same network is saved."""
    return {key: value for key, value in described.items() if key != "shared_object_id"}


def _zipped_config(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
        return file.read(_MAX_BYTES + 1)


def _hdf5_config(path: Path) -> bytes | str:
    import h5py

    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config")
    if text is None:
        raise InputError(
            f"{path} holds weights without their network: give the network's name as --teacher, the file as --weights"
        )
    return text


def _objects(config: Any) -> Iterator[dict]:
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
    activation = isinstance(name, str) and name not in _NO_ACTIVATIONS and hasattr(keras.activations, name)
    return activation and module in (None, "builtins", "keras.activations")


def _is_registered(name: Any) -> bool:
    return isinstance(name, str) and keras.saving.get_registered_object(name) is not None
