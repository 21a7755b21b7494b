"""Pictures of what a run did, made without pyplot: no display, no global state, safe in threads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from distill.files.whole_files import atomic_file
from distill.prediction.fonts import can_be_written, font_for
from distill.reports.metrics import EvaluationMetrics

# Okabe & Ito's colours, which all kinds of colour vision distinguish (https://jfly.uni-koeln.de/color/).
_ORANGE, _SKY, _BLUE, _GREY, _INK = "#E69F00", "#56B4E9", "#0072B2", "#999999", "#333333"
_BARS = (_GREY, _ORANGE, _BLUE, _SKY)
_GAINS = LinearSegmentedColormap.from_list("gains", [_ORANGE, "white", _BLUE])
_DOTS_PER_INCH = 110
_MOST_COUNTS = 20  # classes up to which a confusion matrix has room for its numbers
_MOST_TICKS = 8  # temperatures up to which each is written below the axis


def learning_curves(
    rows: Sequence[Mapping[str, float]], path: str | Path, *, best: Mapping[str, float] | None = None
) -> None:
    """Draw loss and accuracy over the epochs; the best epoch is marked.

    Args:
        rows: one per epoch, at least one, with `epoch`, `train_loss`, `train_accuracy`, `validation_loss`
            and `validation_accuracy` (accuracies 0..1), as in the metrics.csv of a run; where averaged weights were
            validated, too, also `validation_loss_ema` and `validation_accuracy_ema`.
        path: the picture; its suffix says the format.
        best: `epoch`, `validation_loss` and `validation_accuracy` of the weights that are kept; by default those of
            the row of the best validation accuracy.
    """
    figure = _figure(9, 3.6)
    loss, accuracy = figure.subplots(1, 2)
    best = best or max(rows, key=lambda row: row["validation_accuracy"])
    for axes, quantity in ((loss, "loss"), (accuracy, "accuracy")):
        _curves(axes, rows, quantity)
        axes.axvline(best["epoch"], color=_GREY, linewidth=1, linestyle=":", zorder=0)
        axes.plot(best["epoch"], best[f"validation_{quantity}"], "o", color=_BLUE, markersize=7)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    accuracy.set_title(f"accuracy: validation {best['validation_accuracy']:.1%}, epoch {best['epoch']:.0f}")
    save_figure(figure, path)


def fold_curves(folds: Sequence[Sequence[Mapping[str, float]]], path: str | Path, title: str) -> None:
    """Draw loss and accuracy over the epochs: a thin line per fold, and their mean.

    Args:
        folds: the rows of every fold's metrics.csv, as for `learning_curves`. Where some stopped earlier, the mean is
            that of the others from there on.
        path: the picture; its suffix says the format.
    """
    figure = _figure(9, 3.8)
    figure.suptitle(title)
    epochs = [row["epoch"] for row in max(folds, key=len)]
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part, color in (("train", _ORANGE), ("validation", _BLUE)):
            values = np.full((len(folds), len(epochs)), np.nan)
            for fold, rows in zip(values, folds, strict=True):
                fold[: len(rows)] = _column(rows, f"{part}_{quantity}")
            axes.plot(epochs, values.T, color=color, linewidth=0.7, alpha=0.4)
            measured = ~np.isnan(values).all(axis=0)
            mean = np.nanmean(values[:, measured], axis=0)
            axes.plot(np.array(epochs)[measured], mean, color=color, linewidth=2, label=f"{part}, mean of folds")
        _epoch_axes(axes, epochs, quantity)
        if quantity == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1))
    save_figure(figure, path)


def confusion_picture(metrics: EvaluationMetrics, path: str | Path, title: str) -> None:
    """Draw the confusion matrix: colour is the share of the true class, the number counts images."""
    classes = len(metrics.class_names)
    shares = metrics.confusion / np.maximum(metrics.support, 1)[:, None]
    figure = _figure(2.6 + 0.62 * min(classes, _MOST_COUNTS), 2.0 + 0.58 * min(classes, _MOST_COUNTS))
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", xticks=range(classes), yticks=range(classes))
    names = [_writable(name) for name in metrics.class_names]  # the text of a tick cannot be changed later
    axes.set_xticklabels(names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticklabels(names)
    axes.set_title(title)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format=PercentFormatter(1, decimals=0))
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    if classes <= _MOST_COUNTS:
        for (row, column), count in np.ndenumerate(metrics.confusion):
            ink = "white" if shares[row, column] > 0.65 else _INK
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=ink, fontsize=9)
    save_figure(figure, path)


def comparison_picture(
    *,
    accuracies: Mapping[str, Sequence[float]],
    faces: np.ndarray,
    face_names: Sequence[str],
    path: str | Path,
) -> None:
    """Draw the accuracy of several networks, and above it what the faces look like.

    Args:
        accuracies: name of the network -> its accuracies 0..1, one per seed, at least one. A bar is their
            mean, a dot is one of them.
        faces: uint8 [K, H, W, 1], K >= 1.
        face_names: the K names to write below the faces.
        path: the picture; its suffix says the format.
    """
    figure = _figure(7.5, 2.3 + 0.55 * len(accuracies))
    (strip,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.4, 0.9 + 0.55 * len(accuracies)))
    for axes, face, name in zip(np.atleast_1d(strip.subplots(1, len(faces))), faces, face_names, strict=True):
        axes.imshow(face[..., 0], cmap="gray", vmin=0, vmax=255)
        axes.set(xticks=[], yticks=[], xlabel=name)
        axes.spines[:].set_visible(False)
    _bars(below.subplots(), accuracies)
    save_figure(figure, path)


def temperature_picture(rows: Sequence[Mapping[str, Any]], path: str | Path, *, title: str) -> None:
    """Draw mean top probability, and calibration error where it is known, against the temperature (log axis).

    Args:
        rows: at least one, as `distill.reports.calibration.temperature_table` returns them.
        path: the picture; its suffix says the format.
    """
    figure = _figure(7, 4)
    axes = figure.subplots()
    rows = sorted(rows, key=lambda row: row["temperature"])
    temperatures = [row["temperature"] for row in rows]
    curves = {"mean top probability": _BLUE, "calibration error": _ORANGE}
    values = {name: [row[name.replace(" ", "_")] for row in rows] for name in curves}
    known = sorted((name for name in curves if None not in values[name]), key=lambda name: values[name][-1])
    for name, color in curves.items():
        if name in known:
            axes.plot(temperatures, values[name], color=color, linewidth=1.8, marker="o", markersize=5, clip_on=False)
            above = name == known[-1]  # so that the names of two curves that end together do not meet
            _name_curve(axes, name, (temperatures[-1], values[name][-1]), color, above=above)
    _temperature_axes(axes, temperatures)
    axes.set_title(title, pad=14)
    save_figure(figure, path)


def heat_map(cells: Sequence[Mapping[str, Any]], path: str | Path, *, metric: str = "accuracy") -> None:
    """Draw what distillation gains at each temperature and lambda: a panel for every student and loss.

    Args:
        cells: as `distill.experiments.comparison.CellResult.to_dict` returns them, with `best`: those are framed. At
            least one has a lambda above 0; others, such as labels alone, by which all are measured, are not drawn.
        path: the picture; its suffix says the format.
        metric: what the cells were compared by.
    """
    cells = [cell for cell in cells if cell["lambda"]]
    students, losses = (list(dict.fromkeys(cell[name] for cell in cells)) for name in ("student", "loss"))
    columns = [max(2, len({cell["temperature"] for cell in cells if cell["loss"] == loss})) for loss in losses]
    rows = len({cell["lambda"] for cell in cells})
    figure = _figure(max(6.2, 2 + 0.9 * len(losses) + 0.85 * sum(columns)), 1.1 + len(students) * (1.2 + 0.62 * rows))
    seeds = cells[0]["seeds"]
    spread = f"mean ± deviation over {seeds} seeds" if seeds > 1 else "one seed"
    best = "the best is framed" if any(cell["best"] for cell in cells) else "the best is not among these"
    figure.suptitle(f"validation {metric} over labels alone, in points\n{spread}; {best}")
    grid = figure.subplots(len(students), len(losses), squeeze=False, width_ratios=columns)
    limit = max(abs(cell["difference"]) for cell in cells) or 0.01  # one scale, which is white at 0
    for student, of_student in zip(students, grid, strict=True):
        for loss, axes in zip(losses, of_student, strict=True):
            panel = [cell for cell in cells if (cell["student"], cell["loss"]) == (student, loss)]
            if not panel:  # all of its runs diverged
                axes.set_axis_off()
                continue
            image = _gains(axes, panel, limit=limit)
            axes.set_title(f"{student}\n{loss}", fontsize=10)
    bar = figure.colorbar(image, ax=grid, format=lambda points, _: f"{points:+.3g}", aspect=12 * rows)
    bar.outline.set_visible(False)
    save_figure(figure, path)


def _gains(axes: Axes, cells: Sequence[Mapping[str, Any]], *, limit: float) -> AxesImage:
    """Draw the gains of one student and loss, temperatures across and lambdas upwards."""
    temperatures = sorted({cell["temperature"] for cell in cells}, key=lambda temperature: temperature or 0)
    lambdas = sorted({cell["lambda"] for cell in cells})
    points = np.full((len(lambdas), len(temperatures)), np.nan)
    for cell in cells:
        column, row = temperatures.index(cell["temperature"]), lambdas.index(cell["lambda"])
        points[row, column] = 100 * cell["difference"]
        spread = cell["difference_deviation"]
        text = f"{points[row, column]:+.1f}" + ("" if spread is None else f"\n± {100 * spread:.1f}")
        ink = "white" if cell["difference"] > 0.65 * limit else _INK
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
        if cell["best"]:
            frame: dict[str, Any] = {"fill": False, "edgecolor": _INK, "linewidth": 2.5, "clip_on": False}
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, zorder=3, **frame))
    image = axes.imshow(points, cmap=_GAINS, vmin=-100 * limit, vmax=100 * limit, origin="lower", aspect="auto")
    names = ["none" if temperature is None else f"{temperature:g}" for temperature in temperatures]
    axes.set(xticks=range(len(temperatures)), xticklabels=names, xlabel="temperature")
    axes.set(yticks=range(len(lambdas)), yticklabels=[f"{lambda_:g}" for lambda_ in lambdas], ylabel="λ")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def _curves(axes: Axes, rows: Sequence[Mapping[str, float]], quantity: str) -> None:
    epochs = [row["epoch"] for row in rows]
    for part, color in (("train", _ORANGE), ("validation", _BLUE)):
        values = _column(rows, f"{part}_{quantity}")
        axes.plot(epochs, values, color=color, label=part, linewidth=1.8, marker=".", markersize=4)
    averaged = _column(rows, f"validation_{quantity}_ema")
    if not np.isnan(averaged).all():
        axes.plot(epochs, averaged, color=_SKY, label="validation, averaged weights", linewidth=1.8)
    _epoch_axes(axes, epochs, quantity)


def _column(rows: Sequence[Mapping[str, float]], name: str) -> list[float]:
    """A column of metrics.csv; NaN where it was not measured, such as the accuracy of images without labels."""
    return [row.get(name, np.nan) for row in rows]


def _epoch_axes(axes: Axes, epochs: Sequence[float], quantity: str) -> None:
    axes.set(xlabel="epoch", title=quantity, xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color="#E5E5E5")
    axes.legend(frameon=False)
    _open_frame(axes)


def _name_curve(axes: Axes, name: str, end: tuple[float, float], color: str, *, above: bool) -> None:
    """Write `name` to the right of the last point, a little above or below it: a legend would be far away."""
    offset = (8, 6 if above else -6)
    axes.annotate(name, end, offset, textcoords="offset points", va="center", color=color, annotation_clip=False)


def _temperature_axes(axes: Axes, temperatures: Sequence[float]) -> None:
    axes.set(xscale="log", xlabel="temperature", ylim=(0, 1))
    axes.minorticks_off()
    if len(temperatures) <= _MOST_TICKS:
        axes.set_xticks(temperatures)
    else:
        axes.xaxis.set_major_locator(LogLocator(base=2))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", color="#E5E5E5")
    _open_frame(axes)


def _bars(axes: Axes, accuracies: Mapping[str, Sequence[float]]) -> None:
    for row, values in enumerate(accuracies.values()):
        mean = float(np.mean(values))
        axes.barh(row, mean, height=0.6, color=_BARS[row % len(_BARS)])
        if len(values) > 1:
            axes.plot(values, np.full(len(values), row), "o", color=_INK, markersize=4, alpha=0.8)
        axes.text(max(mean, *values) + 0.015, row, f"{mean:.1%}", va="center", color=_INK)
    axes.set(
        yticks=range(len(accuracies)),
        yticklabels=[_writable(name) for name in accuracies],
        xlim=(0, 1.08),
        xlabel="accuracy",
    )
    axes.set_xticks(np.arange(0, 1.01, 0.2))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    _open_frame(axes)


def _open_frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path) -> None:
    # Names are the user's: a $ in them begins no formula. The formulas of Matplotlib's own labels say mathdefault.
    for text in figure.findobj(Text):
        if "mathdefault" not in text.get_text():
            text.set_parse_math(False)
            text.set_text(_writable(text.get_text()))
            _find_letters(text)
    with atomic_file(path) as unfinished:
        figure.savefig(unfinished, dpi=_DOTS_PER_INCH)


def _writable(name: str) -> str:
    """Return a name as it is, or with escapes where no font here has its letters."""
    return name if name.isascii() or can_be_written(name) else name.encode("ascii", "backslashreplace").decode()


def _find_letters(text: Text) -> None:
    """Take a font of the system where Matplotlib's own lacks letters."""
    content, size = text.get_text(), text.get_fontsize()
    file = None if content.isascii() else getattr(font_for(content, float(size)), "path", None)
    if isinstance(file, str):
        text.set_fontproperties(FontProperties(fname=file, size=size))
