"""The student is taught, for the view it sees, what the teacher said of that very view."""

from dataclasses import replace

import numpy as np
import pytest

from distill.data.dataset import ArrayImages, Dataset
from distill.data.rendering import render_numpy
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.training.batches import CachedOutputs, ViewBatches
from distill.training.labels import balanced_weights, label_probabilities
from distill.training.recipe import VIEW_ORDERS
from tests.training.small_runs import rendered_epoch

N, V, C = 23, 3, 4


@pytest.fixture
def dataset(rng):
    return Dataset(
        name="tiny",
        ids=np.array([f"face{i}" for i in range(N)]),
        labels=rng.integers(0, C, N),
        class_names=("a", "b", "c", "d"),
        images=ArrayImages(rng.integers(0, 256, (N, 8, 8, 1), dtype=np.uint8)),
        splits=np.array(["train"] * N),
    )


def row_and_view_logits() -> np.ndarray:
    """Teacher logits that say which row and view they belong to."""
    logits = np.zeros((N, V, C), np.float32)
    logits[..., 0] = np.arange(N)[:, None]
    logits[..., 1] = np.arange(V)
    return logits


def batches_of(dataset, **changes):
    settings = {
        "image_shape": (8, 8, 1),
        "view_spec": ViewSpec(seed=5),
        "batch_size": 4,
        "seed": 1,
        **changes,
    }
    return ViewBatches(dataset, **settings)


@pytest.mark.parametrize("view_order", VIEW_ORDERS)
def test_images_labels_and_logits_belong_together_under_shuffling(dataset, view_order):
    batches = batches_of(dataset, teacher=CachedOutputs(logits=row_and_view_logits()), views=V, view_order=view_order)
    seen = []
    for batch in rendered_epoch(batches, 2):
        for image, label_probs, logits in zip(
            batch.images.numpy(), batch.label_probs.numpy(), batch.teacher["logits"].numpy(), strict=True
        ):
            row, view = int(logits[0]), int(logits[1])
            parameters = batches.view_spec.parameters([dataset.ids[row]], [view])
            expected = render_numpy(dataset.read([row]), parameters, image_shape=(8, 8, 1))[0]
            np.testing.assert_allclose(image, expected, atol=1e-3)
            assert label_probs.argmax() == dataset.labels[row]
            seen.append(row)
    assert sorted(seen) == list(range(N))
    assert seen != sorted(seen)


def test_every_image_goes_through_all_its_views(dataset):
    batches = batches_of(dataset, teacher=CachedOutputs(logits=row_and_view_logits()), views=V)
    views = np.stack([batches.views_of_epoch(epoch) for epoch in range(V)])
    np.testing.assert_array_equal(np.sort(views, axis=0), np.arange(V)[:, None].repeat(N, 1))
    assert len(set(views[0])) == V  # not all images are in the same view at a time


def test_random_views_depend_on_the_seed_and_the_epoch_alone(dataset):
    def views(*, seed=1, first=0):
        batches = batches_of(dataset, views=V, view_order="random", seed=seed)
        return {epoch: batches.views_of_epoch(epoch).tolist() for epoch in range(first, 5)}

    drawn = views()
    assert {epoch: drawn[epoch] for epoch in (3, 4)} == views(first=3)  # as an interrupted run goes on
    assert drawn != views(seed=2)
    assert len({tuple(epoch) for epoch in drawn.values()}) == 5


def test_random_views_are_drawn_evenly_and_for_each_image_by_itself(dataset):
    batches = batches_of(dataset, views=V, view_order="random")
    epochs = 400
    views = np.stack([batches.views_of_epoch(epoch) for epoch in range(epochs)])
    counts = np.stack([(views == view).sum(axis=0) for view in range(V)])  # [V, N], each of mean 400 / 3
    assert counts.sum() == epochs * N
    # Chi-squared of 2 degrees of freedom and so of mean 2; 20 is passed once in 20,000 draws.
    assert (((counts - epochs / V) ** 2 / (epochs / V)).sum(axis=0) < 20).all()
    assert (views == views[:, :1]).mean() < 0.5  # images do not change together: 1/3, and the first with itself
    assert (views[1:] == views[:-1]).mean() == pytest.approx(1 / V, abs=0.03)  # any view may follow any other


def test_random_views_of_none_are_refused(dataset):
    with pytest.raises(InputError, match='the view order "random" has no views to take from'):
        batches_of(dataset, view_order="random")
    with pytest.raises(ValueError, match="view_order must be one of"):
        batches_of(dataset, views=V, view_order="shuffled")


def test_labels_alone_draw_a_new_view_every_epoch(dataset):
    batches = batches_of(dataset)
    assert batches.views_of_epoch(0).tolist() == [1] * N
    assert batches.views_of_epoch(7).tolist() == [8] * N


def test_an_epoch_is_the_same_at_every_call_and_differs_from_the_next(dataset):
    batches = batches_of(dataset)

    def labels(epoch):
        return np.concatenate([batch.images.numpy() for batch in rendered_epoch(batches, epoch)])

    np.testing.assert_array_equal(labels(0), labels(0))
    assert not np.array_equal(labels(0), labels(1))


def test_last_batch_holds_the_rest(dataset):
    batches = batches_of(dataset)
    assert [len(batch.images) for batch in rendered_epoch(batches, 0)] == [4, 4, 4, 4, 4, 3]
    assert len(batches) == 6


def test_smoothed_labels_are_those_of_keras_and_unlabelled_rows_stay_unlabelled(dataset):
    import keras

    labels = dataset.labels.copy()
    labels[3] = -1
    probs = batches_of(replace(dataset, labels=labels), label_smoothing=0.2).rows(np.arange(N), 0).label_probs
    assert probs[3].tolist() == [0] * C
    one_hot, logits = np.eye(C)[dataset.labels[4:6]], np.array([[1.0, 2, 3, 4], [0, -1, 5, 2]])
    smoothing = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    plain = keras.losses.CategoricalCrossentropy(from_logits=True)
    assert float(plain(probs[4:6], logits)) == pytest.approx(float(smoothing(one_hot, logits)), rel=1e-5)


def test_logits_of_other_rows_or_views_are_refused(dataset):
    with pytest.raises(ValueError, match=r"logits must be \[23, 3, ...\]"):
        batches_of(dataset, teacher=CachedOutputs(logits=row_and_view_logits()[:-1]), views=V)


def test_soft_and_missing_labels_become_probabilities(dataset, rng):
    soft = rng.dirichlet(np.ones(C), N).astype(np.float32)
    np.testing.assert_array_equal(label_probabilities(replace(dataset, label_probs=soft)), soft)
    labels = dataset.labels.copy()
    labels[3] = -1
    probs = label_probabilities(replace(dataset, labels=labels))
    assert probs[3].tolist() == [0] * C
    assert probs.sum() == N - 1


# How much each example counts


def test_balanced_classes_weigh_the_same_together():
    # scikit-learn's "balanced": n / (C n_c). Five labels in three of four classes: 5/(3*3), 5/(3*1), 5/(3*1).
    labels = np.array([0, 0, 0, 1, 2, -1])
    weights = balanced_weights(np.eye(4, dtype=np.float32)[labels] * (labels >= 0)[:, None])
    np.testing.assert_allclose(weights, [5 / 9, 5 / 9, 5 / 9, 5 / 3, 5 / 3, 1], rtol=1e-6)
    assert weights.dtype == np.float32
    assert weights[:5].mean() == pytest.approx(1)


def test_a_soft_label_weighs_the_mean_of_its_classes():
    # n_c = 2.5 and 0.5 of 3 labels: classes weigh 3 / (2 * 2.5) = 0.6 and 3 / (2 * 0.5) = 3.
    weights = balanced_weights(np.array([[1, 0], [1, 0], [0.5, 0.5]], np.float32))
    np.testing.assert_allclose(weights, [0.6, 0.6, 1.8], rtol=1e-6)


def test_without_any_label_all_weigh_the_same():
    np.testing.assert_array_equal(balanced_weights(np.zeros((3, 2), np.float32)), 1)


def test_weights_go_with_their_images_into_the_batches(dataset):
    weights = np.arange(N, dtype=np.float32)
    batches = batches_of(dataset, sample_weights=weights)
    for picked, batch in zip(batches.order(1), rendered_epoch(batches, 1), strict=True):
        np.testing.assert_array_equal(batch.sample_weights, weights[picked])
    np.testing.assert_array_equal(batches_of(dataset).sample_weights, 1)
    with pytest.raises(ValueError, match=r"sample_weights must be \[23\]"):
        batches_of(dataset, sample_weights=weights[1:])
