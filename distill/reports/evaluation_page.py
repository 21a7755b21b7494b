"""`evaluation_page`: what an evaluation found as one HTML file that needs nothing but itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.dataset import Dataset
from distill.reports.evaluation_text import evaluated_on
from distill.reports.metrics import EvaluationMetrics
from distill.reports.plots_evaluation import (
    RELIABILITY,
    SCATTER,
    bytes_text,
    reliability_marks,
    scatter_marks,
)
from distill.reports.templates import picture_url, templates
from distill.reports.verdict import verdict

TEMPLATE = "evaluation.html"
_LARGEST_FACE = 160  # pixels: larger ones are scaled down, or many of them would make a huge page


def evaluation_page(report: Mapping[str, Any], dataset: Dataset) -> str:
    """Return the page.

    Args:
        report: what `evaluation.json` holds. Every text in it is escaped.
        dataset: the images of the evaluation, for those that were mistaken.
    """
    environment = templates(Path(__file__).parent, autoescape=True)
    environment.filters |= {
        "percent": _percent,
        "zip": lambda one, other: list(zip(one, other, strict=True)),
        "thousands": lambda value: f"{value:,.0f}",
        "bytes": bytes_text,
        "evaluated_on": evaluated_on,
        "verdict": lambda model: verdict(EvaluationMetrics.from_dict(model)),
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
    one_by_one = ((row, dataset.read(np.array([row]))[0]) for row in rows)
    return {str(dataset.ids[row]): picture_url(face, largest=_LARGEST_FACE) for row, face in one_by_one}
