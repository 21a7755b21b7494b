"""How to install what a feature needs beyond the core, for the messages that say so."""

from importlib.metadata import PackageNotFoundError, distribution

_DEVICE, _WHOLE = "distill-faces-device", "distill-faces"


def install_command(extra: str) -> str:
    """Return the command that installs an extra of the distribution that is here.

    That of a device has this package without what trains; the other one would be installed over it.
    """
    try:
        distribution(_DEVICE)
    except PackageNotFoundError:
        return f'pip install "{_WHOLE}[{extra}]"'
    return f'pip install "{_DEVICE}[{extra}]"'
