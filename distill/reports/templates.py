"""How templates are read, and pictures put into pages."""

import base64
import io
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image


def templates(folder: Path, *, autoescape: bool) -> Environment:
    """Return what renders the templates in a folder; a name that is not given is an error, not an empty text."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def picture_url(pixels: np.ndarray, *, largest: int) -> str:
    """Return uint8 [H, W, 1 or 3] as a URL that holds it, a PNG of at most `largest` pixels a side."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((largest, largest))
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
