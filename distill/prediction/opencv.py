"""OpenCV, where it is installed: it finds faces, and reads and writes videos."""

from types import ModuleType

from distill.errors import InputError
from distill.extras import install_command


def opencv(purpose: str, *, without: str = "") -> ModuleType:
    """Return the module `cv2`, which keeps its warnings to itself.

    Args:
        purpose: what needs it, the start of the message.
        without: what the user can do without it, the end of the message.

    Raises:
        InputError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        hint = f"; {without}" if without else ""
        raise InputError(f"{purpose} needs OpenCV: {install_command('faces')}{hint}") from error
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2
