"""The grid, means and deviations, intervals against published numbers, the choice and what is said of it."""

import math
from statistics import stdev

import numpy as np
import pytest

from distill.experiments.comparison import (
    Cell,
    Difference,
    caution_text,
    choose,
    complete,
    grid,
    paired_difference,
    summarise,
    table_text,
    with_features,
)

ALONE = Cell("small")
LOW, HIGH = Cell("small", "hinton", 2.0, 0.5), Cell("small", "hinton", 8.0, 0.5)
ACCURACIES = {ALONE: (0.50, 0.54, 0.52), LOW: (0.53, 0.55, 0.57), HIGH: (0.52, 0.58, 0.55)}


def results_of(accuracies, seeds=None):
    cells = {cell: list(values)[:seeds] for cell, values in accuracies.items()}
    return summarise({(cell, seed): value for cell, values in cells.items() for seed, value in enumerate(values)})


class TestTheGrid:
    def test_trains_labels_alone_once_for_every_student(self):
        cells = grid(["a", "b"], {"hinton": (1, 2, 4), "dkd": (2, 4), "mse": (None,)}, (0.5, 0.9))
        assert [cell for cell in cells if cell.loss is None] == [Cell("a"), Cell("b")]
        assert len(cells) == 2 * (1 + (3 + 2 + 1) * 2)

    def test_takes_a_lambda_of_0_for_labels_alone(self):
        assert grid(["a"], {"hinton": (2.0, 4.0)}, (0.0,)) == (Cell("a"),)

    def test_takes_a_value_that_is_given_twice_for_one(self):
        assert len(grid(["a", "a"], {"hinton": (2.0, 2.0)}, (0.5, 0.5))) == 2

    def test_leaves_a_lambda_out_of_range_to_the_loss_to_refuse(self):
        assert Cell("a", "hinton", 2.0, -1.0) in grid(["a"], {"hinton": (2.0,)}, (-1.0,))

    def test_names_every_run_in_its_own_way(self):
        cells = grid(["a", "b"], {"hinton": (0.5, 2.0, 4.0), "mse": (None,)}, (0.25, 0.5, 1.0))
        names = [cell.name for cell in cells]
        assert len(set(names)) == len(cells)
        assert [names[0], names[1], names[-1]] == ["a-labels-alone", "a-hinton-T0.5-lambda0.25", "b-mse-lambda1"]


class TestFeaturesAndViews:
    MIXED = Cell("small", views="mixed")

    def test_a_loss_on_features_is_added_to_every_cell_and_to_labels_alone(self):
        cells = with_features((ALONE, LOW), [("hint", 0.1), ("attention", 500.0)])
        assert [cell.name for cell in cells] == [
            *("small-labels-alone", "small-hinton-T2-lambda0.5"),
            *("small-labels-hint0.1", "small-labels-attention500"),
            *("small-hinton-T2-lambda0.5-hint0.1", "small-hinton-T2-lambda0.5-attention500"),
        ]
        assert [cell.is_taught for cell in cells] == [False, True, True, True, True, True]

    def test_views_and_epochs_name_runs_of_their_own(self):
        names = [self.MIXED.name, Cell("small", epochs=30).name, Cell("small", views="mixed", epochs=30).name]
        assert names == [
            "small-mixed-labels-alone",
            "small-labels-alone-30-epochs",
            "small-mixed-labels-alone-30-epochs",
        ]

    def test_gain_is_over_labels_alone_in_the_same_views(self):
        taught, longer = Cell("small", "mse", None, 1.0, views="mixed"), Cell("small", views="mixed", epochs=9)
        mixed = {self.MIXED: (0.4, 0.4, 0.4), taught: (0.5, 0.5, 0.5), longer: (0.9, 0.9, 0.9)}
        rows = {result.cell: result for result in results_of(ACCURACIES | mixed)}
        assert rows[taught].gain.mean == pytest.approx(0.1)
        assert rows[longer].gain.mean == pytest.approx(0.5)
        assert rows[self.MIXED].gain is None
        assert choose(list(rows.values()))["small"].cell in (LOW, HIGH), "labels alone for longer were chosen"

    def test_the_table_has_columns_for_what_some_cell_has(self):
        taught = Cell("small", "hinton", 2.0, 0.9, feature_loss="hint", feature_weight=0.1, views="mixed")
        mixed = {self.MIXED: (0.4, 0.4, 0.4), taught: (0.5, 0.5, 0.5)}
        head, *lines = table_text(results_of(ACCURACIES | mixed), split="validation").splitlines()
        assert head.split()[:6] == ["student", "views", "loss", "T", "λ", "features"]
        assert lines[-1].split()[:9] == ["small", "mixed", "hinton", "2", "0.9", "hint", "×", "0.1", "50.00"]
        assert "views" not in table_text(results_of(ACCURACIES), split="validation")


class TestStudentsT:
    # Fisher and Yates' table III, as in Abramowitz & Stegun, table 26.10.
    def test_the_paired_interval_is_that_of_students_own_data(self):
        # Student 1908, hours of sleep gained; R prints -2.4598858, -0.7001142 for its dataset `sleep`.
        first = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
        second = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)
        difference = paired_difference(dict(enumerate(first)), dict(enumerate(second)))
        assert difference.mean == pytest.approx(-1.58)
        assert difference.deviation == pytest.approx(1.229995, abs=1e-6)
        assert difference.interval == pytest.approx((-2.4598858, -0.7001142), abs=1e-7)


class TestDifferences:
    def test_by_hand(self):
        difference = paired_difference({0: 0.53, 1: 0.55, 2: 0.57}, {0: 0.50, 1: 0.54, 2: 0.52})  # .03, .01, .05
        assert difference.mean == pytest.approx(0.03)
        assert difference.deviation == pytest.approx(0.02)
        half = pytest.approx(4.303 * 0.02 / math.sqrt(3), rel=1e-4)
        assert [abs(end - difference.mean) for end in difference.interval] == [half, half]

    def test_pair_by_seed_not_by_position(self):
        ones, others = {0: 0.5, 1: 0.7}, {1: 0.6, 0: 0.4}
        assert paired_difference(ones, others).deviation == pytest.approx(0.0, abs=1e-12)

    def test_of_one_seed_have_no_interval(self):
        assert paired_difference({3: 0.5}, {3: 0.25}) == Difference(0.25)

    @pytest.mark.parametrize(("ones", "others"), [({0: 0.5}, {1: 0.5}), ({0: 0.5, 1: 0.5}, {0: 0.5}), ({}, {})])
    def test_of_other_seeds_are_refused(self, ones, others):
        with pytest.raises(ValueError, match="need the same seeds"):
            paired_difference(ones, others)


class TestResults:
    def test_means_and_deviations_are_those_of_the_standard_library_and_numpy(self):
        for result, (cell, values) in zip(results_of(ACCURACIES), ACCURACIES.items(), strict=True):
            assert result.cell == cell
            assert result.mean == pytest.approx(np.mean(values))
            assert result.deviation == pytest.approx(stdev(values)) == pytest.approx(np.std(values, ddof=1))

    def test_gain_is_over_labels_alone_of_the_same_student(self):
        other = {Cell("big"): (0.9, 0.9, 0.9), Cell("big", "hinton", 2.0, 0.5): (0.8, 0.8, 0.8)}
        rows = {result.cell: result.to_dict() for result in results_of(ACCURACIES | other)}
        assert rows[LOW]["difference"] == pytest.approx(0.03)
        assert rows[Cell("big", "hinton", 2.0, 0.5)]["difference"] == pytest.approx(-0.1)
        assert rows[ALONE]["difference"] == 0
        assert rows[ALONE]["difference_low"] is None

    def test_a_student_without_labels_alone_is_refused(self):
        with pytest.raises(ValueError, match="need the same seeds"):
            summarise({(LOW, 0): 0.5})

    def test_a_row_says_which_cell_it_is_of(self):
        row = results_of(ACCURACIES)[1].to_dict()
        assert [row[name] for name in ("student", "loss", "temperature", "lambda", "seeds")] == [
            *("small", "hinton", 2.0, 0.5, 3)
        ]


class TestTheChoice:
    def test_is_the_highest_mean_of_each_student_the_first_of_equals(self):
        equal = {Cell("big"): (0.1,), Cell("big", "mse", None, 0.5): (0.3,), Cell("big", "mse", None, 0.9): (0.3,)}
        one_seed = {cell: values[:1] for cell, values in ACCURACIES.items()}
        chosen = choose(results_of(one_seed | equal))
        assert {student: result.cell for student, result in chosen.items()} == {
            "small": LOW,
            "big": Cell("big", "mse", None, 0.5),
        }

    def test_is_a_distilled_cell_though_labels_alone_be_better(self):
        better = {**ACCURACIES, ALONE: (0.9, 0.9, 0.9)}
        assert choose(results_of(better))["small"].cell == LOW
        assert "small: no cell is better than labels alone" in caution_text(results_of(better))

    def test_names_the_views_in_which_the_best_gains_nothing(self):
        mixed = Cell("small", views="mixed")
        taught = Cell("small", "mse", None, 1.0, views="mixed")
        text = caution_text(results_of({**ACCURACIES, mixed: (0.9, 0.9, 0.9), taught: (0.8, 0.8, 0.8)}))
        assert "small: the best cell is no better than labels alone in its views" in text
        assert "no cell is better" not in text, "others gain in theirs"

    def test_names_labels_alone_of_other_views_or_epochs_that_are_better(self):
        longer = Cell("small", epochs=24)
        text = caution_text(results_of({**ACCURACIES, longer: (0.9, 0.9, 0.9)}))
        assert "small: the best cell is no better than small-labels-alone-24-epochs, 90.00 %" in text
        assert "small-labels-alone" not in caution_text(results_of({**ACCURACIES, longer: (0.1, 0.1, 0.1)}))

    def test_says_from_how_many_it_chose(self):
        text = caution_text(results_of(ACCURACIES))
        assert "small: best of 2 cells, chosen on validation" in text
        assert "over 3 seeds" in text
        assert "no cell is better" not in text

    def test_says_that_one_seed_is_little(self):
        assert caution_text(results_of(ACCURACIES, seeds=1)).startswith("one seed: a difference may be chance")


class TestCompleteCells:
    def test_are_those_of_which_no_run_diverged_nor_one_of_labels_alone(self):
        mixed = Cell("small", views="mixed")
        taught = Cell("small", "mse", None, 1.0, views="mixed")
        runs = [(cell, seed) for cell in (ALONE, LOW, HIGH, mixed, taught) for seed in (0, 1)]
        assert complete(runs, []) == runs
        assert complete(runs, [(LOW, 1)]) == [run for run in runs if run[0] != LOW]
        assert complete(runs, [(mixed, 0)]) == [run for run in runs if run[0].views is None]


class TestTheTable:
    def test_what_rounds_to_nothing_has_no_sign(self):
        tiny = {ALONE: (0.3,), LOW: (0.1 + 0.2,), HIGH: (0.3 - 1e-9,)}
        lines = table_text(results_of(tiny), split="validation").splitlines()[2:]
        assert [line.split()[6] for line in lines] == ["+0.00", "+0.00"]

    def test_holds_the_numbers_and_marks_the_best(self):
        lines = table_text(results_of(ACCURACIES), split="validation", best=[LOW]).splitlines()
        cells = [[each.strip() for each in line.split("  ") if each.strip()] for line in lines]
        assert cells[0][-3:] == ["validation accuracy", "over labels alone", "95% interval"]
        assert cells[1] == ["small", "labels alone", "-", "0", "52.00 ± 2.00 %", "-", "-"]
        assert cells[2] == ["small", "hinton", "2", "0.5", "55.00 ± 2.00 %", "+3.00", "-1.97 .. +7.97", "best"]
        assert cells[3][-1] != "best"
        assert len({line.find("%") for line in lines[1:]}) == 1

    def test_has_no_spread_and_no_interval_for_one_seed(self):
        line = table_text(results_of(ACCURACIES, seeds=1), split="validation").splitlines()[2]
        assert line.split() == ["small", "hinton", "2", "0.5", "53.00", "%", "+3.00", "-"]
