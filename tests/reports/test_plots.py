"""Pictures are whole PNG files that show something, and a failure leaves nothing behind."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from distill.reports import plots
from distill.reports.metrics import EvaluationMetrics
from distill.reports.plots import comparison_picture, confusion_picture, fold_curves, heat_map, learning_curves

NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def epochs(count):
    return [
        {
            "epoch": epoch,
            "train_loss": 2.0 / epoch,
            "train_accuracy": 1 - 0.8 / epoch,
            "validation_loss": 2.0 / epoch + 0.1,
            "validation_accuracy": 0.9 - 0.7 / epoch,
            "learning_rate": 1e-3,
        }
        for epoch in range(1, count + 1)
    ]


def metrics_of(confusion, names=NAMES):
    return EvaluationMetrics(class_names=tuple(names), confusion=np.asarray(confusion, np.int64))


def draw_curves(path):
    learning_curves(epochs(12), path)


def draw_confusion(path):
    confusion_picture(metrics_of(np.eye(7) * 30 + np.arange(49).reshape(7, 7)), path, "microexpnet")


def draw_comparison(path):
    faces = np.tile(np.arange(48, dtype=np.uint8)[None, :, None, None] * 5, (7, 1, 48, 1))
    comparison_picture(
        accuracies={"teacher": [0.86], "labels alone": [0.61, 0.63], "distilled": [0.69, 0.71]},
        faces=faces,
        face_names=NAMES,
        path=path,
    )


def gains_of(differences, *, loss="hinton", seeds=3):
    """Cells as a comparison reports them: labels alone, and (temperature, lambda) -> difference."""
    alone = {"student": "small", "loss": "labels alone", "temperature": None, "lambda": 0.0}
    alone |= {"seeds": seeds, "difference": 0.0, "difference_deviation": None, "best": False}
    how = {"loss": loss, "difference_deviation": 0.004 if seeds > 1 else None}
    return [alone] + [
        {**alone, **how, "temperature": temperature, "lambda": lambda_, "difference": difference}
        for (temperature, lambda_), difference in differences.items()
    ]


def draw_heat_map(path):
    heat_map(gains_of({(2.0**t, w): 0.01 * t - w / 50 for t in range(5) for w in (0.1, 0.5, 0.9)}), path)


PICTURES = (draw_curves, draw_confusion, draw_comparison, draw_heat_map)


def pixels(path):
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("draw", PICTURES)
def test_picture_is_a_png_that_shows_something(draw, tmp_path):
    draw(tmp_path / "picture.png")
    picture = pixels(tmp_path / "picture.png")
    height, width = picture.shape[:2]
    assert 300 <= height <= 1200
    assert 500 <= width <= 1500
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert 0.02 < np.mean(picture.min(axis=-1) < 250) < 0.9
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]


@pytest.mark.parametrize("draw", PICTURES)
def test_a_failure_keeps_the_old_file_and_leaves_no_other(draw, tmp_path, monkeypatch):
    def half_written(self, path, **options):
        path.write_bytes(b"\x89PNG half")
        raise OSError("disk full")

    path = tmp_path / "picture.png"
    path.write_bytes(b"the old picture")
    monkeypatch.setattr(Figure, "savefig", half_written)
    with pytest.raises(OSError, match="disk full"):
        draw(path)
    assert path.read_bytes() == b"the old picture"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("has_font", [True, False])
def test_letters_that_matplotlib_lacks_are_drawn_by_another_font_or_as_escapes(tmp_path, monkeypatch, has_font):
    figures, draw = [], Figure.savefig
    monkeypatch.setattr(plots, "can_be_written", lambda text: has_font)
    monkeypatch.setattr(plots, "font_for", lambda text, size: SimpleNamespace(path="/usr/share/fonts/other.ttf"))
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: figures.append(self))
    confusion_picture(metrics_of(np.eye(2) * 30, names=("日本", "sad")), tmp_path / "names.png", "faces")
    labels = figures[0].axes[0].get_yticklabels()
    files = [label.get_fontproperties().get_file() for label in labels]
    if has_font:
        assert [label.get_text() for label in labels] == ["日本", "sad"]
        assert files == ["/usr/share/fonts/other.ttf", None]
    else:
        assert [label.get_text() for label in labels] == [r"\u65e5\u672c", "sad"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            draw(figures[0], tmp_path / "names.png")


def test_curves_of_a_single_epoch(tmp_path):
    learning_curves(epochs(1), tmp_path / "curves.png")
    assert pixels(tmp_path / "curves.png").min() < 100


def test_folds_that_stopped_earlier_leave_the_mean_to_the_others(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: figures.append(self))
    short, long = epochs(2), epochs(4)
    for row in short:
        row["validation_loss"] += 1
        del row["train_accuracy"]  # no image that this fold learned from had a label
    fold_curves([short, long], tmp_path / "curves.png", "two folds")
    lines = {f"{axes.get_title()} {line.get_label()}": line for axes in figures[0].axes for line in axes.lines}
    losses = [row["validation_loss"] for row in long]
    mean = lines["loss validation, mean of folds"]
    assert mean.get_xdata().tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(mean.get_ydata(), [losses[0] + 0.5, losses[1] + 0.5, *losses[2:]])
    accuracies = [row["train_accuracy"] for row in long]
    np.testing.assert_allclose(lines["accuracy train, mean of folds"].get_ydata(), accuracies)


def test_curves_mark_the_first_best_epoch(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: figures.append(self))
    rows = epochs(6)
    rows[3]["validation_accuracy"] = rows[4]["validation_accuracy"] = 0.95
    learning_curves(rows, tmp_path / "curves.png")
    accuracy = figures[0].axes[1]
    assert accuracy.get_title() == "accuracy: validation 95.0%, epoch 4"
    marked = [line.get_xydata().tolist() for line in accuracy.lines if len(line.get_xdata()) == 1]
    assert marked == [[[4.0, 0.95]]]


def test_curves_mark_the_averaged_weights_where_these_are_kept(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: figures.append(self))
    rows = [row | {"validation_accuracy_ema": 0.97, "validation_loss_ema": 0.1} for row in epochs(3)]
    learning_curves(
        rows, tmp_path / "curves.png", best={"epoch": 2, "validation_accuracy": 0.97, "validation_loss": 0.1}
    )
    loss, accuracy = figures[0].axes
    assert accuracy.get_title() == "accuracy: validation 97.0%, epoch 2"
    for axes, value in ((loss, 0.1), (accuracy, 0.97)):
        (averaged,) = (line for line in axes.lines if line.get_label() == "validation, averaged weights")
        assert list(averaged.get_ydata()) == [value] * 3
        assert [line.get_xydata().tolist() for line in axes.lines if len(line.get_xdata()) == 1] == [[[2.0, value]]]


def test_confusion_picture_writes_counts_and_colours_shares(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: figures.append(self))
    confusion_picture(metrics_of([[3, 1, 0], [0, 2000, 0], [0, 0, 0]], "abc"), tmp_path / "c.png", "three")
    axes = figures[0].axes[0]
    assert [text.get_text() for text in axes.texts] == ["3", "1", "0", "0", "2,000", "0", "0", "0", "0"]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.75, 0.25, 0], [0, 1, 0], [0, 0, 0]])


def test_a_hundred_classes_still_fit(tmp_path):
    confusion_picture(metrics_of(np.eye(100), map(str, range(100))), tmp_path / "c.png", "hundred")
    assert pixels(tmp_path / "c.png").shape[1] < 2000


def test_comparison_shows_one_face_and_one_network(tmp_path):
    face = np.full((1, 24, 24, 1), 90, np.uint8)
    path = tmp_path / "one.png"
    comparison_picture(accuracies={"teacher": [1.0]}, faces=face, face_names=["happy"], path=path)
    assert np.any(np.all(pixels(path) == 90, axis=-1)), "the face is not in the picture"


def test_heat_map_writes_points_and_its_colours_are_centred_on_labels_alone(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: figures.append(self))
    cells = gains_of({(8.0, 0.5): 0.02, (2.0, 0.5): -0.03, (2.0, 0.9): 0.0, (8.0, 0.9): 0.01})
    cells[1]["best"] = True
    heat_map(cells, tmp_path / "h.png")
    (image,) = figures[0].axes[0].images
    np.testing.assert_allclose(image.get_array(), [[-3, 2], [0, 1]])  # lambdas upwards, temperatures across
    assert image.get_clim() == (-3, 3)
    assert figures[0].axes[0].texts[0].get_text() == "+2.0\n± 0.4"
    (frame,) = figures[0].axes[0].patches
    assert frame.get_xy() == (0.5, -0.5)


@pytest.mark.filterwarnings("error")
def test_heat_map_leaves_out_a_panel_of_which_all_runs_diverged(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: figures.append(self))
    both = gains_of({(2.0, 0.5): 0.02}) + gains_of({(2.0, 0.5): 0.01}, loss="dkd")
    other = [{**cell, "student": "big"} for cell in gains_of({(2.0, 0.5): 0.01})]
    heat_map(both + other, tmp_path / "h.png")
    assert [axes.axison for axes in figures[0].axes[:4]] == [True, True, True, False]


def test_heat_map_says_that_the_best_is_framed_where_one_is(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: figures.append(self))
    cells = gains_of({(2.0, 0.5): 0.01, (4.0, 0.5): 0.02})
    heat_map([*cells[:-1], {**cells[-1], "best": True}], tmp_path / "h.png")
    heat_map(cells, tmp_path / "h.png", metric="macro-F1")
    titles = [figure.get_suptitle() for figure in figures]
    assert titles[0].endswith("the best is framed")
    assert titles[1].startswith("validation macro-F1 over labels alone")
    assert titles[1].endswith("the best is not among these")


@pytest.mark.parametrize("differences", [{(4.0, 0.5): 0.02}, {(4.0, 0.5): 0.0}, {(None, 1.0): -0.02}])
def test_heat_map_of_one_cell(differences, tmp_path):
    heat_map(gains_of(differences, seeds=1), tmp_path / "one.png")
    assert pixels(tmp_path / "one.png").min() < 100


def test_heat_map_has_a_panel_for_every_student_and_loss(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: figures.append(self))
    cells = gains_of({(2.0, 0.5): 0.02, (4.0, 0.5): 0.01}) + gains_of({(None, 0.5): 0.03}, loss="mse")[1:]
    heat_map(cells + [{**cell, "student": "big"} for cell in cells], tmp_path / "h.png")
    titles = [axes.get_title() for axes in figures[0].axes if axes.images]
    assert titles == ["small\nhinton", "small\nmse", "big\nhinton", "big\nmse"]
    assert len({axes.images[0].get_clim() for axes in figures[0].axes if axes.images}) == 1


def test_pyplot_stays_unused():
    """It holds on to every figure, and wants a display."""
    used = {getattr(value, "__name__", "") for value in vars(plots).values()}
    assert "matplotlib.pyplot" not in used
