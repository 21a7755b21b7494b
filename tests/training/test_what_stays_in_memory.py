"""Training many networks in one process, as a comparison does, holds the memory of one."""

import gc

import keras
import pytest
import tensorflow as tf

from distill.training.keras_trainer import fit_labels
from distill.training.trainer import compiled_render, fit
from tests.training.small_runs import bright_and_dark, dropout_student, fit_small


def graphs() -> int:
    gc.collect()
    return sum(isinstance(each, tf.Graph) for each in gc.get_objects())


@pytest.mark.parametrize("engine", [fit, fit_labels])
@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam, keras.optimizers.SGD])
def test_a_finished_run_leaves_no_graph(tmp_path, engine, optimizer):
    dataset = bright_and_dark()
    for number in range(3):
        fit_small(dataset, tmp_path / str(number), epochs=1, engine=engine, optimizer=optimizer(0.01))
        left = graphs()
        if number == 1:
            before = left
    assert left == before


def test_views_of_one_size_are_compiled_once():
    assert compiled_render((6, 6, 1)) is compiled_render(dropout_student().input_shape[1:])
