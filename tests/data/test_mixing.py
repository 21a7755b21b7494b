"""Mixed views: the teacher sees the picture that the student sees, and labels count by their share of it."""

import keras
import numpy as np
import pytest

from distill.data.dataset import UNLABELLED, ArrayImages, Dataset
from distill.data.mixing import Mixer
from distill.data.splits import with_splits
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.losses.distillation_loss import DistillationLoss
from distill.losses.objective import DistillationObjective
from distill.scoring.caching import cache_logits
from distill.scoring.online_teacher import OnlineTeacher
from distill.scoring.spot_check import spot_check
from distill.training.batches import ViewBatches
from distill.training.ensemble import CachedTeachers
from distill.training.recipe import Recipe
from distill.training.sources import source_batches

N, SHAPE, CLASSES = 40, (12, 10, 1), ("a", "b", "c", "d")
MIXED = ViewSpec(mixup=0.4, cutmix=0.4, seed=3)
STILL = ViewSpec(flip=False, rotation=0, zoom=(1, 1), shift=0, brightness=0, contrast=0, mixup=0.5, cutmix=0.5)


@pytest.fixture
def dataset(rng):
    return Dataset(
        name="tiny",
        ids=np.array([f"face{i:02}" for i in range(N)]),
        labels=rng.integers(0, len(CLASSES), N),
        class_names=CLASSES,
        images=ArrayImages(rng.integers(0, 256, (N, *SHAPE), dtype=np.uint8)),
        splits=np.array(["train"] * 24 + ["validation"] * 8 + ["test"] * 8),
    )


def every_view(count, views=6):
    return np.repeat(np.arange(count), views), np.tile(np.arange(views), count)


def test_pictures_are_those_of_the_papers(dataset):
    """mixup: a sum by shares. CutMix: eq. 2 of its paper; the share is what is left of the picture."""
    picked, views = every_view(N)
    mixer = Mixer(dataset, MIXED)
    mixture = mixer.mixture(picked, views)
    pictures, originals = mixer.read(picked, mixture), dataset.read(np.arange(N)).astype(np.float64)
    cut = mixture.pasted.any(axis=1)
    for row, (own, partner) in enumerate(zip(picked, mixture.partners, strict=True)):
        share = float(mixture.share[row])
        if cut[row]:
            inside = np.zeros(SHAPE, bool)
            left, top, right, bottom = mixture.pasted[row]
            inside[top:bottom, left:right] = True
            np.testing.assert_array_equal(pictures[row], np.where(inside, originals[partner], originals[own]))
            assert share == pytest.approx(1 - inside.mean())
        else:
            blended = share * originals[own] + (1 - share) * originals[partner]
            np.testing.assert_allclose(pictures[row], blended, atol=0.5 + 1e-6)
    assert mixture.blended.any()
    assert cut.any()
    assert (mixture.share == 1).any()
    assert not mixture.blended[views == 0].any()
    assert not cut[views == 0].any()


def test_shares_and_kinds_are_drawn_as_the_specification_says(dataset):
    picked, views = np.zeros(6000, int), np.arange(1, 6001)
    mixture = Mixer(dataset, MIXED).mixture(picked, views)
    cut = mixture.pasted.any(axis=1)
    assert mixture.blended.mean() == pytest.approx(0.4, abs=0.03)
    assert cut.mean() == pytest.approx(0.4, abs=0.03)
    even = (np.arange(mixture.blended.sum()) + 0.5) / mixture.blended.sum()
    np.testing.assert_allclose(np.sort(mixture.share[mixture.blended]), even, atol=0.05)
    partners = np.bincount(mixture.partners[mixture.share < 1], minlength=N)
    assert partners.min() > 0.5 * partners.mean()
    assert partners.max() < 1.6 * partners.mean()
    # A rectangle that is not cut off at an edge has the drawn area: half of the side for a quarter.
    width, height = (mixture.pasted[cut, 2:] - mixture.pasted[cut, :2]).T
    assert width.max() == SHAPE[1]
    assert height.max() == SHAPE[0]


def test_the_order_of_the_data_changes_nothing(dataset, rng):
    order = rng.permutation(N)
    shuffled = dataset.subset(order)
    picked, views = every_view(N)
    mixer, other = Mixer(dataset, MIXED), Mixer(shuffled, MIXED)
    where = np.argsort(order)[picked]
    np.testing.assert_array_equal(
        mixer.read(picked, mixer.mixture(picked, views)), other.read(where, other.mixture(where, views))
    )


def test_unmixed_views_are_what_they_were(dataset):
    assert "mixup" not in ViewSpec().to_dict()
    ids = dataset.ids[:5]
    np.testing.assert_array_equal(
        MIXED.parameters(ids, [1] * 5), ViewSpec(seed=MIXED.seed).parameters(ids, [1] * 5)
    )  # what else happens to a view does not depend on mixing
    with pytest.raises(InputError, match="must sum to 1 at most"):
        ViewSpec(mixup=0.6, cutmix=0.6)
    with pytest.raises(InputError, match="mixup"):
        ViewSpec(crops="microexpnet", mixup=0.5)


def pixel_sums() -> keras.Model:
    """A network whose four logits know every picture: sums of its pixels by random weights."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))))


@pytest.fixture
def network():
    return pixel_sums()


def batches_for(dataset, teacher, spec=STILL, **changes):
    recipe = Recipe(batch_size=8, view=spec, **changes)
    return source_batches(SHAPE, DistillationObjective(loss=DistillationLoss()), recipe, dataset, teacher, views=None)


@pytest.mark.parametrize("kind", ["cached", "online"])
def test_a_teacher_is_asked_about_the_picture_that_the_student_sees(tmp_path, dataset, network, kind):
    if kind == "cached":
        teacher = CachedTeachers.of(cache_logits(network, dataset, tmp_path / "t.h5", views=5, view_spec=STILL))
    else:
        teacher = OnlineTeacher(network, class_names=CLASSES)
    batches = batches_for(dataset.split("train"), teacher)
    mixed = 0
    for epoch in range(5):
        for rows in batches.epoch(epoch):
            batch = batches.render(rows)
            seen = network.predict_on_batch(np.asarray(batch.images))
            np.testing.assert_allclose(batch.teacher["logits"], seen, atol=1e-4)
            mixed += int(((rows.label_probs > 0).sum(axis=1) > 1).sum())
    assert mixed > 20


@pytest.mark.parametrize("splits", ["official", "random"])
def test_no_picture_of_another_split_is_learned_from(tmp_path, dataset, network, splits):
    store = cache_logits(network, dataset, tmp_path / "t.h5", views=5, view_spec=STILL)
    split = with_splits(dataset, policy=splits, seed=1)
    train = split.split("train")
    batches = batches_for(train, CachedTeachers.of(store))
    partners = set()
    for epoch in range(5):
        for picked in batches.order(epoch):
            views = batches._mixer.permitted(picked, batches.views_of_epoch(epoch)[picked], batches.views)
            mixture = batches._mixer.mixture(picked, views)
            assert (mixture.partners >= 0).all()
            partners |= set(train.ids[mixture.partners[mixture.share < 1]].tolist())
            # The same partners that the teacher's pictures had.
            whole = Mixer(dataset, STILL)
            rows = np.searchsorted(dataset.ids, train.ids[picked])
            np.testing.assert_array_equal(
                dataset.ids[whole.mixture(rows, views).partners], train.ids[mixture.partners]
            )
    assert partners
    assert partners <= set(train.ids.tolist())


def test_labels_and_weights_count_by_their_share(dataset):
    labels = dataset.labels.copy()
    labels[::4] = UNLABELLED
    some = Dataset(**{**vars(dataset), "labels": labels})
    weights = np.arange(1, N + 1, dtype=np.float32)
    batches = ViewBatches(some, image_shape=SHAPE, view_spec=STILL, sample_weights=weights, batch_size=8)
    picked = np.arange(N)
    rows = batches.rows(picked, 2)
    mixture = batches._mixer.mixture(picked, batches.views_of_epoch(2))
    for own, (partner, share) in enumerate(zip(mixture.partners, mixture.share.tolist(), strict=True)):
        expected = np.zeros(4)
        if min(labels[own], labels[partner]) >= 0:
            expected[labels[own]] += share
            expected[labels[partner]] += 1 - share
        np.testing.assert_allclose(rows.label_probs[own], expected, atol=1e-6)
        assert rows.sample_weights[own] == pytest.approx(share * weights[own] + (1 - share) * weights[partner])


def test_what_does_not_fit_mixed_pictures_is_refused(tmp_path, dataset, network):
    store = cache_logits(network, dataset, tmp_path / "t.h5", views=3, view_spec=STILL)
    fewer = cache_logits(network, dataset.subset(np.arange(30)), tmp_path / "u.h5", views=3, view_spec=STILL)
    with pytest.raises(InputError, match="other mixed pictures: partners are drawn among 40 images"):
        CachedTeachers((store, fewer))
    assert spot_check(network, store, dataset, images=10).agreement == 1
    with pytest.raises(InputError, match="mixed with images that tiny lacks here"):
        spot_check(network, store, dataset.split("test"))
