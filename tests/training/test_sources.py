"""What a student learns from: cached logits, an online teacher, and extra data."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill.data.dataset import UNLABELLED, ArrayImages, Dataset
from distill.data.rendering import render_numpy
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.losses.distillation_loss import DistillationLoss
from distill.losses.feature_objective import FeatureObjective
from distill.losses.objective import as_objective
from distill.runs.run_directory import read_metrics
from distill.runs.run_record import read_record
from distill.scoring.caching import cache_logits
from distill.scoring.online_teacher import OnlineTeacher
from distill.training.batches import JointBatches, ViewBatches
from distill.training.recipe import Recipe
from distill.training.sources import ExtraData
from distill.training.train import train
from tests.training.small_runs import LABELS_ALONE, bright_and_dark, plain_student


def small_teacher(classes=2):
    """A teacher that takes other images than the students of these tests: 5x5, in colour."""
    keras.utils.set_random_seed(7)
    layers = [keras.Input((5, 5, 3)), keras.layers.Rescaling(1 / 50, name="scaled"), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.BatchNormalization(), keras.layers.Dense(classes)], name="teacher")


CALLS = {"teacher": [], "student": []}


@keras.saving.register_keras_serializable("test_sources")
class Counter(keras.layers.Layer):
    """Writes down how many images pass, and whether in training, in the list of `CALLS` that has its name."""

    def call(self, inputs, training=None):
        def count(images):
            CALLS[self.name].append((int(images), bool(training)))

        tf.py_function(count, [tf.shape(inputs)[0]], [])
        return inputs


def foreign_faces(count=12, side=9, **columns) -> Dataset:
    """Unlabelled faces of another size, as a folder of images is read."""
    usual = {
        "name": "my faces",
        "ids": np.array([f"mine{row}" for row in range(count)]),
        "labels": np.full(count, UNLABELLED),
        "class_names": (),
        "images": ArrayImages(np.random.default_rng(5).integers(0, 256, (count, side, side, 1), dtype=np.uint8)),
        "splits": np.full(count, ""),
    }
    return Dataset(**usual | columns)


@pytest.fixture
def faces():
    return bright_and_dark()


# An online teacher


def test_an_online_teacher_teaches_as_its_cache_does(faces, tmp_path):
    teacher, recipe = small_teacher(), Recipe(epochs=3, batch_size=8)
    logits = cache_logits(teacher, faces, tmp_path / "logits.h5", views=3, progress=False)
    cached, online = (
        train(plain_student(), faces, out=tmp_path / name, recipe=recipe, progress=False, **taught)
        for name, taught in (
            ("cached", {"logits": logits}),
            ("online", {"teacher": OnlineTeacher(teacher, class_names=faces.class_names), "views": 3}),
        )
    )
    for a, b in zip(cached.get_weights(), online.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for row, other in zip(*(read_metrics(tmp_path / name) for name in ("cached", "online")), strict=True):
        assert row["train_agreement"] == other["train_agreement"]
    record = read_record(tmp_path / "online").teacher
    assert record["online"] is True
    assert record["sha256"] == logits.header.teacher_sha256


def test_features_of_an_online_teacher_teach_as_cached_ones_do(faces, tmp_path):
    teacher, recipe, feature = small_teacher(), Recipe(epochs=2, batch_size=8), "scaled@3"
    how = {"views": 2, "features": [feature], "feature_dtype": "float32"}
    logits = cache_logits(teacher, faces, tmp_path / "logits.h5", progress=False, **how)
    online = OnlineTeacher(teacher, class_names=faces.class_names)
    runs = {"cached": {"logits": logits}, "online": {"teacher": online, "views": 2}}
    for name, taught in runs.items():
        objective = FeatureObjective(as_objective("hinton"), "hint", pairs={"dense": feature})
        train(
            named_student(), faces, objective=objective, out=tmp_path / name, recipe=recipe, progress=False, **taught
        )
    cached, online_rows = (read_metrics(tmp_path / name) for name in runs)
    for row, other in zip(cached, online_rows, strict=True):
        np.testing.assert_allclose(row["train_hint"], other["train_hint"], rtol=1e-4)
    assert cached[1]["train_hint"] < cached[0]["train_hint"]
    with pytest.raises(InputError, match='teacher has no layer "scald": did you mean scaled'):
        online.outputs(faces, ["logits", "features/scald"], temperature=None)


def named_student():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 6, 1))
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.Dense(2, name="dense")(flat), name="named")


def test_with_cached_logits_the_teacher_is_never_called_and_the_student_runs_once_a_step(faces, tmp_path):
    def counted_network(name):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6, 6, 1))
        scaled = keras.layers.Rescaling(1 / 255)(Counter(name=name)(inputs))
        return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(scaled)), name=name)

    def calls_while_training(out, **taught_by):
        for calls in CALLS.values():
            calls.clear()
        recipe = Recipe(epochs=2, batch_size=8)
        train(counted_network("student"), faces, out=tmp_path / out, recipe=recipe, progress=False, **taught_by)
        return CALLS["teacher"][:], [images for images, training in CALLS["student"] if training]

    teacher = counted_network("teacher")
    logits = cache_logits(teacher, faces, tmp_path / "logits.h5", views=2, progress=False)
    teacher_calls, steps = calls_while_training("cached", logits=logits)
    assert teacher_calls == []
    assert steps == [8] * 5 * 2  # 40 images, two epochs
    online = OnlineTeacher(teacher, class_names=faces.class_names)
    teacher_calls, steps = calls_while_training("online", teacher=online)
    assert not any(training for _, training in teacher_calls)
    assert sum(images for images, _ in teacher_calls) >= 40 * 2  # and a few to try whether it can be folded
    assert steps == [8] * 5 * 2


def test_an_online_teacher_sees_the_view_of_the_student_at_its_own_size(faces):
    seen = []

    class Seeing:
        online = True

        def __call__(self, picked, views, images_uint8, parameters):
            seen.append(render_numpy(images_uint8, parameters, image_shape=(5, 5, 3)))
            return {"logits": np.zeros((len(images_uint8), 2), np.float32)}

    batches = ViewBatches(faces, image_shape=(6, 6, 1), view_spec=ViewSpec(), teacher=Seeing(), batch_size=50)
    (rows,) = batches.epoch(4)
    views = batches.views_of_epoch(4)
    assert set(views) == {5}  # a new view in every epoch
    parameters = ViewSpec().parameters(faces.ids, views)
    (order,) = batches.order(4)
    expected = render_numpy(faces.read(order), parameters[order], image_shape=(5, 5, 3))
    np.testing.assert_array_equal(seen[0], expected)
    np.testing.assert_array_equal(rows.parameters, parameters[order])


def test_classes_of_an_online_teacher_are_found_by_name(faces):
    teacher = small_teacher(classes=3)
    online = OnlineTeacher(teacher, class_names=("bright", "grey", "dark"))
    outputs = online.outputs(faces, ["logits"], temperature=None)
    images, parameters = faces.read(np.arange(4)), ViewSpec().parameters(faces.ids[:4], [0] * 4)
    rendered = render_numpy(images, parameters, image_shape=(5, 5, 3))
    np.testing.assert_allclose(
        outputs(np.arange(4), np.zeros(4), images, parameters)["logits"],
        teacher.predict_on_batch(rendered)[:, [2, 0]],
        rtol=1e-3,
        atol=1e-3,
    )
    with pytest.raises(InputError, match="no sad among the classes bright, grey, dark"):
        online.outputs(replace(faces, class_names=("dark", "sad")), ["logits"], temperature=None)
    with pytest.raises(InputError, match="reads features of the teacher teacher, which has logits"):
        online.outputs(faces, ["logits", "features"], temperature=None)


def test_two_ways_to_be_taught_are_refused(faces, tmp_path):
    teacher = small_teacher()
    logits = cache_logits(teacher, faces, tmp_path / "logits.h5", views=1, progress=False)
    online = OnlineTeacher(teacher, class_names=faces.class_names)
    with pytest.raises(InputError, match="two ways to be taught"):
        train(plain_student(), faces, out=tmp_path / "run", logits=logits, teacher=online)


# Several datasets


def test_batches_of_several_sources_take_turns_and_lose_nothing(faces):
    ours = ViewBatches(faces.split("train"), image_shape=(6, 6, 1), view_spec=ViewSpec(), batch_size=8)
    mine = replace(foreign_faces(), class_names=faces.class_names)
    theirs = ViewBatches(mine, image_shape=(6, 6, 1), view_spec=ViewSpec(), batch_size=8)
    joint = JointBatches([ours, theirs])
    assert (len(joint), joint.images, joint.smallest_batch) == (5 + 2, 52, 4)
    orders = []
    for epoch in range(12):
        blocks = list(joint.blocks(epoch, steps=3))
        shapes = [rows.images_uint8.shape for rows in blocks]
        assert all(steps <= 3 for steps, *_ in shapes)
        orders.append([side for steps, _, side, *_ in shapes for _ in range(steps)])
        assert sorted(orders[-1]) == [6] * 5 + [9] * 2
        served = np.concatenate(
            [rows.images_uint8.reshape(-1, 81) for rows in blocks if rows.images_uint8.shape[2] == 9]
        )
        assert {image.tobytes() for image in served} == {image.tobytes() for image in mine.read(np.arange(12))}
        again = list(joint.blocks(epoch, steps=3))
        for rows, other in zip(blocks, again, strict=True):
            np.testing.assert_array_equal(rows.images_uint8, other.images_uint8)
    assert len({tuple(order) for order in orders}) > 3  # they take turns in another order in every epoch


def test_unlabelled_images_of_another_size_teach_with_labelled_ones(faces, tmp_path):
    teacher, mine, recipe = small_teacher(), foreign_faces(), Recipe(epochs=2, batch_size=8)
    logits = cache_logits(teacher, faces, tmp_path / "faces.h5", views=2, progress=False)
    of_mine = cache_logits(
        teacher, mine, tmp_path / "mine.h5", views=3, class_names=faces.class_names, progress=False
    )

    def trained(name, **how):
        student = train(
            plain_student(), faces, out=tmp_path / name, logits=logits, recipe=recipe, progress=False, **how
        )
        return np.concatenate([weight.ravel() for weight in student.get_weights()])

    extra = trained("extra", extra_data=[ExtraData(mine, of_mine)])
    assert not np.array_equal(extra, trained("alone"))
    np.testing.assert_array_equal(extra, trained("again", extra_data=[ExtraData(mine, of_mine)]))
    (row, _) = read_metrics(tmp_path / "extra")
    assert (row["train_accuracy"] * 40) == pytest.approx(round(row["train_accuracy"] * 40))  # of those with a label
    (record,) = read_record(tmp_path / "extra").extra_data
    assert (record["images"], record["teacher"]["sha256"]) == (12, logits.header.teacher_sha256)


def test_unlabelled_faces_count_with_their_soft_part_alone(faces, tmp_path):
    # One step over unlabelled images alone: of labels alone it has no loss, and of the teacher alone it has all.
    mine, teacher = foreign_faces(8), small_teacher()
    of_mine = cache_logits(
        teacher, mine, tmp_path / "mine.h5", views=1, class_names=faces.class_names, progress=False
    )
    dataset, teachers = ExtraData(mine, of_mine).taught(faces, _cached(of_mine), as_objective("microexpnet"))
    assert dataset.class_names == faces.class_names
    batches = ViewBatches(
        dataset,
        image_shape=(6, 6, 1),
        view_spec=ViewSpec(),
        views=1,
        teacher=teachers.outputs(dataset, ["logits"], temperature=8.0),
        batch_size=8,
    )
    (rows,) = batches.epoch(0)
    loss = DistillationLoss("microexpnet", temperature=8.0, lambda_=0.5)
    student_logits = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    parts = loss(student_logits=student_logits, labels=rows.label_probs, teacher_logits=rows.teacher["logits"])
    np.testing.assert_array_equal(parts["cross_entropy"], 0)
    np.testing.assert_allclose(parts["loss"], 0.5 * np.array(parts["distillation"]), rtol=1e-6)


def _cached(*stores):
    from distill.training.ensemble import CachedTeachers

    return CachedTeachers(stores)


def test_copies_of_what_is_evaluated_on_are_left_out(faces, capsys):
    rows = [0, 3, 41, 45]  # two that teach, two that validate
    columns = {"ids": np.array(["a", "b", "c", "d"]), "labels": np.full(4, UNLABELLED), "splits": np.full(4, "")}
    copied = replace(faces, name="copies", images=ArrayImages(faces.read(rows)), **columns)
    taught, _ = ExtraData(copied).taught(
        faces, OnlineTeacher(small_teacher(), class_names=faces.class_names), as_objective("microexpnet")
    )
    assert taught.ids.tolist() == ["a", "b"]
    assert "2 images of copies are left out: bright and dark is evaluated on copies" in capsys.readouterr().out


def test_test_and_validation_images_of_a_further_data_set_do_not_teach(faces):
    split = replace(faces, name="more", images=ArrayImages(255 - faces.read(np.arange(50))))
    taught, teachers = ExtraData(split).taught(faces, None, LABELS_ALONE)
    assert len(taught) == 40
    assert teachers is None


@pytest.mark.parametrize(
    ("columns", "taught_by", "said"),
    [
        (
            {"class_names": ("sad", "happy")},
            "teacher",
            "my faces has the classes sad, happy, bright and dark has dark, br",
        ),
        ({}, "logits", r"my faces .extra data of bright and dark. needs logits of its own"),
        ({"splits": np.full(12, "test")}, "teacher", "has nothing to learn from"),
        ({}, "labels", "has nothing to learn from"),
    ],
)
def test_extra_data_that_cannot_teach_is_refused(faces, tmp_path, columns, taught_by, said):
    teacher = small_teacher()
    how = {"objective": DistillationLoss(lambda_=0.0)} if taught_by == "labels" else {}
    if taught_by == "teacher":
        how["teacher"] = OnlineTeacher(teacher, class_names=faces.class_names)
    if taught_by == "logits":
        how["logits"] = cache_logits(teacher, faces, tmp_path / "logits.h5", views=1, progress=False)
    with pytest.raises(InputError, match=said):
        train(plain_student(), faces, out=tmp_path / "run", extra_data=[ExtraData(foreign_faces(**columns))], **how)
    assert not (tmp_path / "run").exists()


def test_a_record_distinguishes_a_run_with_extra_data_from_one_without(faces, tmp_path):
    online = OnlineTeacher(small_teacher(), class_names=faces.class_names)
    how = {"teacher": online, "recipe": Recipe(epochs=1), "out": tmp_path / "run", "progress": False}
    train(plain_student(), faces, **how, extra_data=[ExtraData(foreign_faces())])
    json.loads((tmp_path / "run" / "settings.json").read_text())
    with pytest.raises(InputError, match="holds a run with other settings .extra_data"):
        train(plain_student(), faces, **how)
