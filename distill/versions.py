"""What a result depends on besides its settings."""

import platform
from importlib import import_module, metadata

import keras

from distill import __version__


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    backend = keras.config.backend()
    packages = ("keras", "numpy", "h5py", "pillow")
    installed = {package: metadata.version(package) for package in packages}
    return {
        "distill": __version__,
        "python": platform.python_version(),
        backend: import_module(backend).__version__,  # of whichever distribution: tensorflow, tensorflow-cpu
        **installed,
    }
