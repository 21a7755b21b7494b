"""What a result depends on in addition to its settings."""

import os
import platform
from importlib import import_module, metadata
from pathlib import Path

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


def machine() -> dict[str, str | int]:
    """The processor, for which alone a speed holds."""
    return {"processor": _processor(), "cores": os.cpu_count() or 1}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # Linux has no other place for it
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
