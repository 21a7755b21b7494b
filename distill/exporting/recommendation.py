"""Which of the exported files to take, and why, in words."""

from collections.abc import Sequence

from distill.exporting.comparing import ExportRow

_LOSS = 0.005  # of accuracy: half a point
_DISAGREEMENT = 0.05
_NOTABLY = 1.1  # times as fast: less is noise


def recommend(rows: Sequence[ExportRow], *, verdict: str | None = None) -> tuple[ExportRow, list[str]]:
    """Return the row of the file to take, and a sentence about every file.

    Of the LiteRT files (of the ONNX file, or of all, where there are none) that lose no more than half a point of
    accuracy against the student and predict the same class for 95 % of the images, it is the fastest on the machine
    that measured; of equally fast ones (within a tenth) the smallest. Where every file loses more, the most accurate.

    Args:
        rows: at least one with a file; the row without one is the student itself.
        verdict: why the student itself is worth little; then no file is called one to take.
    """
    student = next((row for row in rows if not row.file), None)
    files = [row for row in rows if row.file]
    by_kind = ([row for row in files if row.file.endswith(ending)] for ending in (".tflite", ".onnx"))
    candidates = next(filter(None, by_kind), files)
    best = max(row.accuracy for row in ([student] if student else candidates))
    good = [row for row in candidates if row.accuracy >= best - _LOSS and row.agreement >= 1 - _DISAGREEMENT]
    if good:
        fastest = max(row.latency.frames_per_second for row in good)
        taken = min((row for row in good if row.latency.frames_per_second * _NOTABLY >= fastest), key=_size)
    else:
        taken = max(candidates, key=lambda row: row.accuracy)
    first = [f"Take {taken.file}: {_in_words(taken, best)}."]
    if verdict is not None:
        first = [f"No file is worth taking: {verdict}.", f"{taken.file}: {_in_words(taken, best)}."]
    others = [f"{row.file}: {_comparison(row, taken)}, {_in_words(row, best)}." for row in files if row is not taken]
    return taken, [*first, *others]


def _size(row: ExportRow) -> int:
    return row.bytes


def _in_words(row: ExportRow, best: float) -> str:
    points = 100 * (row.accuracy - best)
    accuracy = "the student's accuracy" if abs(points) < 0.05 else f"accuracy {points:+.1f} points"
    return f"{row.bytes:,} bytes, {row.latency.frames_per_second:,.0f} frames/s here, {accuracy}"


def _comparison(row: ExportRow, taken: ExportRow) -> str:
    speed = row.latency.frames_per_second / taken.latency.frames_per_second
    size = row.bytes / taken.bytes
    if speed * _NOTABLY < 1:
        compared = f"{1 / speed:.1f} times slower"
    else:
        compared = f"{speed:.1f} times as fast" if speed > _NOTABLY else "as fast"
    slow = row.format == "litert-int8" and speed < 1
    why = " (small networks often get slower in 8 bits: converting costs more than the product saves)" if slow else ""
    return f"{compared}{why}, {size:.1f} times the size" if size >= 1 else f"{compared}{why}, {size:.0%} of the size"
