"""Several teachers for one student: the numbers of their mean, what they must agree on, what is recorded."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from distill.data.dataset import UNLABELLED, ArrayImages, Dataset
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.logit_store import LogitHeader, LogitWriter, open_logits
from distill.losses.distillation_loss import DistillationLoss
from distill.training import ensemble
from distill.training.ensemble import MEANS, CachedTeachers, check_same_views, combine_logits
from distill.training.recipe import Recipe
from distill.training.train import train

N, V, C = 40, 3, 3
CLASS_NAMES = ("angry", "happy", "neutral")
SHORT = Recipe(epochs=2, batch_size=8)


def softmax(logits) -> np.ndarray:
    exponents = np.exp(np.asarray(logits, np.float64))
    return exponents / exponents.sum(axis=-1, keepdims=True)


@pytest.fixture
def faces(rng):
    return Dataset(
        name="faces",
        ids=np.array([f"face{i}" for i in range(N)]),
        labels=rng.integers(0, C, N),
        class_names=CLASS_NAMES,
        images=ArrayImages(rng.integers(0, 256, (N, 6, 6, 1), dtype=np.uint8)),
        splits=np.array(["train"] * 30 + ["validation"] * 10),
    )


@pytest.fixture
def store_of(faces, tmp_path):
    """A function that stores the logits of a teacher; `changes` are header fields."""

    def store(name, logits, **changes):
        header = LogitHeader(
            **{
                "class_names": CLASS_NAMES,
                "views": logits.shape[1],
                "view_spec": ViewSpec(seed=3).to_dict(),
                "teacher_name": name,
                "teacher_sha256": name * 8,
                "teacher_input_shape": (6, 6, 1),
                "numeric_policy": "float32",
                "dataset_fingerprint": faces.fingerprint,
                "dataset_name": faces.name,
                **changes,
            }
        )
        known = np.where(faces.labels < len(header.class_names), faces.labels, UNLABELLED)
        columns = {"content_hashes": faces.content_hashes, "labels": known}
        writer = LogitWriter(tmp_path / f"{name}.h5", header, sample_ids=faces.ids, **columns)
        for rows in writer.missing():
            writer.write(rows, logits[rows])
        return open_logits(writer.finish())

    return store


@pytest.fixture
def logits(rng):
    """Of two teachers."""
    return rng.normal(0, 5, (2, N, V, C)).astype(np.float32)


@pytest.fixture
def stores(store_of, logits):
    return [store_of(name, each) for name, each in zip("AB", logits, strict=True)]


@pytest.fixture
def taught(faces, tmp_path):
    """A function that trains a small student; it returns its weights and its run's record."""

    def teach(out, logits, *, recipe=SHORT, **how):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        student = keras.Sequential(
            [keras.Input((6, 6, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(C)], name="small"
        )
        best = train(student, faces, out=tmp_path / out, logits=logits, recipe=recipe, progress=False, **how)
        return best.get_weights(), json.loads((tmp_path / out / "settings.json").read_text())

    return teach


def how(teachers):
    return teachers.mean, teachers.class_match


def assert_same_weights(ones, others):
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one, other)


class TestTheMean:
    def test_of_logits_is_that_of_numpy(self, logits):
        combined = combine_logits(logits, weights=(3, 1), mean="logits", temperature=8.0)
        expected = 0.75 * logits[0].astype(np.float64) + 0.25 * logits[1].astype(np.float64)
        assert combined.dtype == np.float32
        np.testing.assert_allclose(combined, expected, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 8.0])
    def test_of_probabilities_has_their_mean_as_its_softmax_at_that_temperature(self, logits, temperature):
        combined = combine_logits(logits, weights=(0.6, 0.4), mean="probabilities", temperature=temperature)
        expected = 0.6 * softmax(logits[0] / temperature) + 0.4 * softmax(logits[1] / temperature)
        np.testing.assert_allclose(softmax(combined / temperature), expected, rtol=1e-5)
        np.testing.assert_allclose(np.exp(combined.astype(np.float64) / temperature), expected, rtol=1e-5)

    def test_of_probabilities_by_hand(self):
        certain, undecided = np.log([[[0.9, 0.1]]]), np.log([[[0.5, 0.5]]])
        combined = combine_logits([certain, undecided], weights=None, mean="probabilities", temperature=1.0)
        np.testing.assert_allclose(np.exp(combined), [[[0.7, 0.3]]], rtol=1e-6)

    def test_of_probabilities_is_not_that_of_logits(self, logits):
        means = [softmax(combine_logits(logits, weights=None, mean=mean, temperature=1.0)) for mean in MEANS]
        assert np.abs(means[0] - means[1]).max() > 0.1

    @pytest.mark.parametrize("mean", MEANS)
    def test_is_finite_where_teachers_are_as_good_as_certain(self, mean):
        gap = np.array([[[1e4, 0.0, -1e4]]], np.float32)
        combined = combine_logits([gap, gap[..., ::-1]], weights=None, mean=mean, temperature=1.0)
        assert np.isfinite(combined).all()
        expected = [0.5, 0, 0.5] if mean == "probabilities" else [1 / 3] * 3
        np.testing.assert_allclose(softmax(combined)[0, 0], expected, atol=1e-6)

    @pytest.mark.parametrize("mean", MEANS)
    def test_does_not_depend_on_the_block(self, logits, mean, monkeypatch):
        how = {"weights": (0.3, 0.7), "mean": mean, "temperature": 4.0}
        whole = combine_logits(logits, **how)
        monkeypatch.setattr(ensemble, "_ROWS_PER_BLOCK", 7)  # the last block is short
        np.testing.assert_array_equal(combine_logits(logits, **how), whole)

    @pytest.mark.parametrize("mean", MEANS)
    def test_a_teacher_of_weight_0_changes_nothing(self, logits, mean):
        how = {"mean": mean, "temperature": 4.0}
        alone = combine_logits(logits[:1], weights=(1,), **how)
        np.testing.assert_array_equal(combine_logits(logits, weights=(2, 0), **how), alone)
        np.testing.assert_allclose(softmax(alone), softmax(logits[0]), rtol=1e-5, atol=1e-9)

    @pytest.mark.parametrize("teachers", [2, 3, 7])
    def test_of_the_same_logits_are_those_logits(self, logits, teachers):
        combined = combine_logits([logits[0]] * teachers, weights=None, mean="logits", temperature=1.0)
        np.testing.assert_array_equal(combined, logits[0])

    def test_teachers_of_other_shapes_are_a_programmers_mistake(self, logits):
        with pytest.raises(ValueError, match="must agree in shape"):
            combine_logits([logits[0], logits[1][:, :2]], weights=None, mean="logits", temperature=1.0)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({"weights": (1.0,)}, r"1 ensemble weights \[1.0\] for 2 teachers: give one for each"),
            ({"weights": ()}, "0 ensemble weights"),
            ({"weights": (1, -1)}, "must be 0 or more, and one of them above 0, received"),
            ({"weights": (0, 0)}, "must be 0 or more, and one of them above 0, received"),
            ({"weights": (1, float("nan"))}, "must be 0 or more"),
            ({"weights": (1, float("inf"))}, "must be 0 or more"),
            ({"mean": "softmax"}, 'unknown mean of teachers "softmax": choose one of logits, probabilities'),
        ],
    )
    def test_weights_and_means_that_cannot_be_used(self, stores, how, message):
        with pytest.raises(InputError, match=message):
            CachedTeachers(stores, **how)

    @pytest.mark.parametrize("how", [{"weights": (1.0,)}, {"mean": "probabilities"}])
    def test_settings_of_several_teachers_for_one(self, stores, how):
        with pytest.raises(InputError, match=r"are for several teachers, received .*A.h5 alone"):
            CachedTeachers(stores[:1], **how)

    def test_no_teachers(self):
        with pytest.raises(InputError, match="give at least one store"):
            CachedTeachers.of([])

    def test_another_number_of_views(self, store_of, stores, logits):
        fewer = store_of("C", logits[0][:, :2])
        with pytest.raises(InputError, match=r"A.h5 holds 3, .*C.h5 holds 2: .* --views N adds views") as refused:
            CachedTeachers([*stores, fewer])
        assert "\n" not in str(refused.value)

    def test_views_drawn_in_another_way(self, store_of, stores, logits):
        other = store_of("C", logits[0], view_spec=ViewSpec(seed=4, rotation=20).to_dict())
        with pytest.raises(InputError, match=r"A.h5 and .*C.h5: rotation: 10.0 and 20.*; seed: 3 and 4: cache"):
            check_same_views([*stores, other])

    def test_crops_together_with_drawn_views(self, store_of, stores, logits):
        crops = store_of("C", logits[0], view_spec=ViewSpec(crops="microexpnet").to_dict())
        with pytest.raises(InputError, match=r"crops: None and microexpnet"):
            check_same_views([stores[0], crops])

    def test_views_that_are_only_written_in_another_way_are_the_same(self, store_of, stores, logits):
        written = dict(reversed(ViewSpec(seed=3, rotation=10).to_dict().items()))
        check_same_views([stores[0], store_of("C", logits[0], view_spec=written)])

    def test_a_second_teacher_of_other_classes(self, store_of, stores, logits, faces):
        other = store_of("C", logits[0], class_names=CLASS_NAMES[::-1])
        with pytest.raises(InputError, match=r"class names of .*C.h5 and faces differ"):
            CachedTeachers([stores[0], other]).join(faces, temperature=1.0)


class TestStudents:
    def test_of_two_equal_stores_equal_those_of_the_one(self, taught, stores, store_of, logits):
        alone, record = taught("alone", stores[0])
        twin = store_of("twin", logits[0])
        both, record_of_both = taught("both", CachedTeachers([stores[0], twin], weights=(0.5, 0.5)))
        assert_same_weights(alone, both)
        listed, _ = taught("listed", [stores[0]])
        assert_same_weights(alone, listed)
        teacher = record["teacher"]
        assert (teacher["name"], teacher["sha256"], teacher["policy"]) == ("A", "A" * 8, "float32")
        assert teacher.keys() >= {"input_shape", "input_format", "logits_from", "class_names"}
        expected = [{**teacher, "weight": 0.5}, {**teacher, "name": "twin", "sha256": "twin" * 8, "weight": 0.5}]
        assert record_of_both["teacher"] == {"mean": "logits", "teachers": expected}

    def test_learn_from_the_mean_at_the_temperature_of_their_loss(self, stores, logits, faces):
        teachers = CachedTeachers(stores, weights=(1, 3), mean="probabilities")
        part = faces.subset(np.arange(N)[::-3])
        loss = DistillationLoss(name="hinton", temperature=2.5, lambda_=1.0)
        targets = teachers.join(part, temperature=loss.temperature)[:, 1]
        softened = [softmax(each[::-3, 1] / 2.5) for each in logits]
        mean = 0.25 * softened[0] + 0.75 * softened[1]
        student = np.linspace(-2, 2, len(part) * C).reshape(-1, C).astype(np.float32)
        divergence = np.sum(mean * (np.log(mean) - np.log(softmax(student / 2.5))), axis=1)
        values = loss(student_logits=student, labels=np.zeros(len(part), int), teacher_logits=targets)
        np.testing.assert_allclose(values["loss"], 2.5**2 * divergence, rtol=1e-4)

    def test_of_other_weights_differ(self, taught, stores):
        one, record = taught("one", CachedTeachers(stores, weights=(3, 1)))
        other, _ = taught("other", stores)
        assert not np.array_equal(one[0], other[0])
        assert [teacher["weight"] for teacher in record["teacher"]["teachers"]] == [0.75, 0.25]
        with pytest.raises(InputError, match="holds a run with other settings"):
            taught("one", CachedTeachers(stores, weights=(1, 1)))

    def test_of_a_teacher_of_another_order_joined_by_name_are_the_same(self, taught, stores, store_of, logits):
        alone, _ = taught("alone", stores[0])
        order = [2, 0, 1]
        names = ("Neutrality", "anger", "happiness")  # other spellings of the same three
        permuted = store_of("P", logits[0][..., order], class_names=names)
        by_name, record = taught("by-name", CachedTeachers([permuted], class_match="names"))
        assert_same_weights(alone, by_name)
        assert (record["teacher"]["name"], record["teacher"]["class_match"]) == ("P", "names")
        assert record["teacher"]["class_names"] == list(names)
        both, record = taught("both", CachedTeachers([stores[0], permuted], class_match="names"))
        assert_same_weights(alone, both)
        assert record["teacher"]["class_match"] == "names"

    def test_what_only_one_teacher_knows_is_left_out_before_the_mean(self, stores, store_of, logits, faces, rng):
        contempt = np.full((N, V, 1), 50, np.float32)
        more = store_of("M", np.concatenate([contempt, logits[1]], axis=-1), class_names=("contempt", *CLASS_NAMES))
        how = {"mean": "probabilities", "class_match": "names"}
        joined = CachedTeachers([stores[0], more], **how).join(faces, temperature=4.0)
        np.testing.assert_array_equal(joined, CachedTeachers(stores, **how).join(faces, temperature=4.0))

    def test_a_class_that_a_teacher_lacks_is_refused(self, store_of, logits, faces):
        fewer = store_of("F", logits[0][..., :2], class_names=CLASS_NAMES[:2])
        with pytest.raises(InputError, match="neutral"):
            CachedTeachers([fewer], class_match="names").join(faces, temperature=1.0)

    def test_extra_data_is_taught_by_the_same_teachers_in_the_same_way(self, stores, faces):
        teachers = CachedTeachers(stores, weights=(9, 1), mean="probabilities", class_match="names")
        expected = teachers.join(faces, temperature=2.0)
        for logits in (stores, CachedTeachers(stores, (0.9, 0.1), *how(teachers))):
            extra = teachers.on_extra_data("extra", logits)
            assert_same_weights(extra.join(faces, temperature=2.0), expected)
        for other in (CachedTeachers(stores), CachedTeachers(stores, (1, 9), *how(teachers))):
            with pytest.raises(InputError, match="the teachers of extra data have the weights, mean and class match"):
                teachers.on_extra_data("extra", other)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"input_format": {"flip_average": True}}, r"E.h5 of A A{8} \(flip_average True, logits_from logits\)"),
            ({"logits_from": "probabilities"}, "logits_from probabilities"),
            ({"teacher_input_shape": (12, 12, 1)}, "of other teachers"),
        ],
    )
    def test_a_teacher_that_was_asked_in_another_way_is_another(self, stores, store_of, logits, changes, message):
        extra = store_of("E", logits[0], teacher_name="A", teacher_sha256="A" * 8, **changes)
        with pytest.raises(InputError, match=message):
            CachedTeachers(stores[:1]).on_extra_data("extra", extra)
        rounded = store_of("R", logits[0], teacher_sha256="A" * 8, numeric_policy="mixed_bfloat16")
        assert CachedTeachers(stores[:1]).on_extra_data("extra", rounded).stores == (rounded,)

    def test_other_views_than_those_of_the_teachers_are_refused(self, taught, stores):
        with pytest.raises(InputError, match="2 views are wanted, .* are of 3"):
            taught("run", stores, views=2)


class Killed(BaseException):
    """Stands for a process that ends without a word."""


def test_a_killed_run_in_random_views_goes_on_to_the_same_student(taught, stores, monkeypatch, tmp_path):
    recipe = replace(SHORT, epochs=4, view_order="random")
    taught("whole", stores, recipe=recipe)
    images_seen = []

    def dying_bar(bar, means, *, images):
        images_seen.append(images)
        if sum(images_seen) > 70:  # in the third epoch of 30 images
            raise Killed

    monkeypatch.setattr("distill.training.trainer.show_means", dying_bar)
    with pytest.raises(Killed):
        taught("killed", stores, recipe=recipe)
    monkeypatch.undo()
    taught("killed", stores, recipe=recipe)
    whole, killed = (keras.saving.load_model(tmp_path / run / "last.keras") for run in ("whole", "killed"))
    assert_same_weights(whole.get_weights(), killed.get_weights())
    taught("in-turn", stores, recipe=replace(recipe, view_order="next"))
    in_turn = keras.saving.load_model(tmp_path / "in-turn" / "last.keras")
    assert not np.array_equal(in_turn.get_weights()[0], whole.get_weights()[0])


def test_each_fold_learns_from_its_own_store_of_every_teacher(store_of, faces, logits, tmp_path):
    from distill.train_student import TrainStudentSettings, _open_teachers

    folds = replace(faces, folds=np.arange(N) % 3)
    for teacher, name in enumerate("AB"):
        for fold in range(3):
            store_of(f"{name}/fold-{fold}", logits[teacher] + 10 * fold)
    names = {"data": "faces", "out": "run", "logits": (str(tmp_path / "A"), str(tmp_path / "B"))}
    settings = TrainStudentSettings(**names, folds=3, ensemble_weights=(3, 1))
    mean = 0.75 * logits[0].astype(np.float64) + 0.25 * logits[1]
    for fold, teachers in enumerate(_open_teachers(settings, folds)):
        np.testing.assert_allclose(teachers.join(folds, temperature=1.0), mean + 10 * fold, rtol=1e-5, atol=1e-5)
    fewer = store_of("fewer", logits[0][:, :2])  # one teacher for all folds, together with one with its own for each
    with pytest.raises(InputError, match=r"A.fold-0.h5 holds 3, .*fewer.h5 holds 2"):
        _open_teachers(replace(settings, logits=(str(tmp_path / "A"), str(fewer.path))), folds)


def test_teachers_join_samples_in_any_order(stores, logits, faces, rng):
    order = rng.permutation(N)
    joined = CachedTeachers(stores, weights=(1, 1)).join(faces.subset(order), temperature=1.0)
    np.testing.assert_allclose(joined, logits.astype(np.float64).mean(axis=0)[order], rtol=1e-5, atol=1e-6)
    renamed = replace(faces, ids=np.array([f"other{i}" for i in range(N)]))
    with pytest.raises(InputError, match="has no logits for 40 of 40 samples"):
        CachedTeachers(stores).join(renamed, temperature=1.0)
