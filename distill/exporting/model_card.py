"""The card of an exported student, in Markdown: what it learned from, what it is worth, what not to use it for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.data.view_differences import view_differences
from distill.exporting.comparing import COLUMNS, ExportRow, cells
from distill.prediction.description import recognises_expressions
from distill.printable import printable_lines
from distill.reports.metrics import EvaluationMetrics, per_class_cells
from distill.reports.templates import templates
from distill.reports.verdict import worth_lines
from distill.runs.run_record import RunRecord

TEMPLATE = "model_card.md.jinja"
_SETTINGS = ("epochs", "batch_size", "optimizer", "lr", "schedule", "weight_decay", "ema", "seed")
_OF_THE_DRAW = ("algorithm", "seed")


def model_card(
    facts: Mapping[str, Any],
    rows: Sequence[ExportRow],
    metrics: EvaluationMetrics,
    *,
    record: RunRecord | None = None,
    chosen_on_these: bool = False,
) -> str:
    """Return the card.

    Args:
        facts: what `exports.json` holds.
        rows: the student itself, then every file.
        metrics: of the student itself, on the images that the files were compared on.
        record: of the student's run; without it the card says that it is not known.
        chosen_on_these: whether the epoch was chosen on the images that `metrics` are of, or more that hold them.
    """
    environment = templates(Path(__file__).parent, autoescape=False)  # it is Markdown
    environment.filters["row"] = _row
    environment.finalize = _plain
    return environment.get_template(TEMPLATE).render(
        facts=facts,
        description=facts["description"],
        of_faces=recognises_expressions(facts["description"]["class_names"]),
        columns=("file", *COLUMNS),
        rows=[(row.file or "(the student itself)", *cells(row)) for row in rows],
        metrics=metrics,
        worth=worth_lines(metrics),
        classes=per_class_cells(metrics),
        training=_training(record) if record else None,
        chosen_on_these=chosen_on_these,
    )


def _plain(value: Any) -> Any:
    """Return text in which nothing that was written elsewhere becomes HTML, or ends its line."""
    return printable_lines(value).replace("<", "&lt;") if isinstance(value, str) else value


def _row(values: Sequence[str]) -> str:
    """Return a line of a table; what would end a cell is escaped."""
    return "| " + " | ".join(str(value).replace("|", r"\|").replace("\n", " ") for value in values) + " |"


def _training(record: RunRecord) -> list[tuple[str, str]]:
    """Return what a run says of itself, without the paths of its machine."""
    data = record.data
    settings = record.recipe | ({} if record.command is None else record.command.settings)
    options = settings.get("student_options", {})
    splits = f"{data.train.images:,} to learn from, {data.validation.images:,} to choose the epoch on"
    said = [
        ("data", f"{Path(data.name).name}: {splits}"),
        ("fingerprint of the training images", data.train.fingerprint),
        ("teacher", _teacher(record.teacher)),
        ("loss", record.objective["formula"]),
        ("views of each image", str(record.views.number or "new ones in every epoch")),
        ("how views are drawn", _drawn(record.views.spec)),
        ("settings", ", ".join(f"{name} {settings[name]}" for name in _SETTINGS if settings.get(name) is not None)),
        ("options of the network", ", ".join(f"{name} {value}" for name, value in options.items())),
    ]
    return [(name, value) for name, value in said if value]


def _drawn(views: Mapping[str, Any]) -> str:
    """Return the settings of views that change a picture."""
    settings = {name: value for name, (value, _) in view_differences(views, {}).items() if name not in _OF_THE_DRAW}
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _teacher(teacher: Mapping[str, Any] | None) -> str:
    if teacher is None:
        return "none: it learned from labels alone"
    each = [one.get("teacher", one) for one in teacher.get("teachers", [teacher])]
    return "; ".join(f"{one.get('name', 'unnamed')} (sha256 {one.get('sha256', 'unknown')})" for one in each)
