"""`evaluation_page`: what an evaluation found as one HTML file that needs nothing but itself."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from distill.data.dataset import Dataset
from distill.reports.plots_evaluation import (
    RELIABILITY,
    SCATTER,
    bytes_text,
    reliability_marks,
    scatter_marks,
)

TEMPLATE = "evaluation.html"
_LARGEST_FACE = 160  # pixels: larger ones are scaled down, or many of them would make a huge page


def evaluation_page(report: Mapping[str, Any], dataset: Dataset) -> str:
    """Return the page.

    Args:
        report: what `evaluation.json` holds. Every text in it is escaped.
        dataset: the images of the evaluation, for the faces that were mistaken.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "zip": lambda one, other: list(zip(one, other, strict=True)),
        "thousands": lambda value: f"{value:,.0f}",
        "bytes": bytes_text,
        "file_name": lambda path: Path(path).name,
        "reliability_marks": reliability_marks,
        "scatter_marks": scatter_marks,
    }
    environment.globals |= {"reliability_frame": RELIABILITY, "scatter_frame": SCATTER}
    return environment.get_template(TEMPLATE).render(**report, faces=_faces(report, dataset))


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _faces(report: Mapping[str, Any], dataset: Dataset) -> dict[str, str]:
    """Return the pictures of all mistakes, as data URLs: {id: url}."""
    wanted = {mistake["id"] for model in report["models"] for mistake in model["mistakes"]}
    rows = np.flatnonzero(np.isin(dataset.ids, sorted(wanted))) if wanted else np.empty(0, int)
    return {str(dataset.ids[row]): _data_url(dataset.read([row])[0]) for row in rows}


def _data_url(pixels: np.ndarray) -> str:
    """Return uint8 [H, W, 1 or 3] as the URL of a PNG picture."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((_LARGEST_FACE, _LARGEST_FACE))
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
