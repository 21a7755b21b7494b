"""What a run says of itself is read, now and later, and what it does not say is never taken for granted."""

import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import keras
import numpy as np
import pytest

from distill.data.dataset import ArrayImages, Dataset
from distill.data.layouts import class_folders
from distill.data.split_policy import SplitPolicy
from distill.data.splits import with_splits
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.evaluate import EvaluateSettings, evaluate
from distill.runs.networks import recorded_views
from distill.runs.recorded_data import check_unseen, split_as_trained
from distill.runs.run_record import CommandRecord, parse_record, read_record
from distill.runs.training_images import TRAINING_IMAGES, TrainingImages
from distill.training.recipe import Recipe
from distill.training.sources import ExtraData
from distill.training.train import train
from tests.training.small_runs import RECORD, bright_and_dark, plain_student, record_of

VERSION_0_1 = Path(__file__).parents[1] / "version_0_1"


# Records of version 0.1


def test_a_record_of_0_1_is_read_as_one_of_today():
    record = read_record(VERSION_0_1 / "distilled")
    stored = json.loads((VERSION_0_1 / "distilled" / "settings.json").read_text())
    assert record.version == 2
    assert record.recipe["epochs"] == 2
    assert set(record.recipe) <= set(vars(Recipe()))
    assert record.data.class_names == ("angry", "happy", "neutral")
    assert record.data.splits == SplitPolicy(policy="official", seed=0)
    assert record.data.train.fingerprint == stored["data"]["train"]["fingerprint"]
    assert record.objective["formula"] == stored["loss"]["formula"]
    assert record.teacher["name"] == "plain_resnet_tiny"
    assert record.views.number == 3
    assert record.command.name == "train_student"
    assert recorded_views(VERSION_0_1 / "distilled").to_dict() == stored["views"]["spec"]
    assert read_record(VERSION_0_1 / "labels_alone").data.splits == SplitPolicy(policy="random", seed=0)


def test_runs_of_0_1_are_evaluated_as_they_were(tmp_path):
    for name in ("distilled", "labels_alone"):
        run = tmp_path / name
        shutil.copytree(VERSION_0_1 / name, run)
        summary = json.loads((run / "summary.json").read_text())
        settings = {"model": (str(run),), "data": str(VERSION_0_1 / "faces"), "seconds": 0.0}
        evaluate(EvaluateSettings(**settings))
        report = json.loads((run / "evaluation-validation" / "evaluation.json").read_text())
        assert report["models"][0]["accuracy"] == pytest.approx(summary["validation_accuracy"])


def test_a_setting_that_an_old_record_lacks_does_nothing_there():
    stored = replace(RECORD, recipe={"lr": 0.01})
    today = replace(RECORD, recipe={"lr": 0.01, "mixup": 0.0})
    assert stored.differences(today, neutral_recipe={"mixup": 0.0}) == []
    assert stored.differences(replace(today, recipe={"lr": 0.01, "mixup": 0.2}), neutral_recipe={"mixup": 0.0}) == [
        "recipe.mixup: stored 0.0, now 0.2"
    ]


def test_views_of_an_old_record_have_what_later_versions_add_at_neutral_values():
    stored = read_record(VERSION_0_1 / "distilled")
    view = stored.recipe["view"]
    assert "extra" not in view
    today = replace(stored, recipe=stored.recipe | {"view": asdict(ViewSpec())})
    assert stored.differences(today) == []
    other = asdict(ViewSpec(rotation=5, zoom_draw="inverse"))
    assert stored.differences(replace(stored, recipe=stored.recipe | {"view": other})) == [
        "recipe.view.rotation: stored 10.0, now 5",
        "recipe.view.zoom_draw: stored log, now inverse",
    ]


# What cannot be read


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"class_names": None}}, r"Expected `array`, got `null` - at `\$.data.class_names`"),
        ({"data": {"train": {"images": "3"}}}, r"Expected `int`, got `str` - at `\$.data.train.images`"),
        ({"views": None}, r"Expected `object`, got `null` - at `\$.views`"),
        ({"objective": 5}, r"Expected `object`, got `int` - at `\$.objective`"),
        ({"objective": {"formula": 5}}, "the objective has no formula"),
        ({"network": {"input_shape": [6, 6]}}, r"at `\$.network.input_shape`"),
        ({"version": 3}, "is of version 3, this program reads up to 2: install a later one"),
        ({"data": {"splits": {"policy": "by hand"}}}, "Invalid enum value 'by hand'"),
    ],
)
def test_a_record_of_other_content_is_refused_with_the_place(tmp_path, change, message):
    record_of().write(tmp_path)
    document = json.loads((tmp_path / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps(merged(document, change)))
    with pytest.raises(InputError, match=message) as refused:
        read_record(tmp_path)
    assert "\n" not in str(refused.value)


def merged(document, change):
    for name, value in change.items():
        both = isinstance(value, dict) and isinstance(document.get(name), dict)
        document[name] = merged(document[name], value) if both else value
    return document


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"a": 1}', "[" * 100_000, '{"version": ' + "9" * 5000 + "}"])
def test_no_record_at_all_is_refused(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(InputError, match="is not a record of a training run") as refused:
        read_record(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_record_survives_being_written(tmp_path):
    record = record_of(view={"flip": True}, lr_steps=((5, 0.3),))
    record.write(tmp_path)
    read = read_record(tmp_path)
    assert read.identity == record.identity
    assert parse_record(json.loads((tmp_path / "settings.json").read_text()), tmp_path) == read


# What it learned from


@pytest.fixture
def dataset() -> Dataset:
    return replace(bright_and_dark(), splits=np.full(50, ""))


@pytest.fixture
def run_of(tmp_path):
    """Return a function that trains on a dataset, and gives the run's path."""

    def train_on(dataset, name="run"):
        recipe = Recipe(epochs=1, batch_size=8)
        train(plain_student(), dataset, out=tmp_path / name, recipe=recipe, progress=False)
        return str(tmp_path / name)

    return train_on


def test_random_splits_of_a_library_run_are_those_it_is_evaluated_on(dataset, run_of):
    random = with_splits(dataset, policy="random", seed=3, fraction=0.3)
    run = run_of(random)
    again = split_as_trained(dataset, run)
    np.testing.assert_array_equal(again.splits, random.splits)
    check_unseen(run, again.split("validation"), split="validation")


def test_images_that_a_run_has_learned_from_are_never_taken_for_unseen(dataset, run_of):
    run = run_of(with_splits(dataset, policy="random", seed=3))
    other = with_splits(dataset, policy="random", seed=4).split("validation")
    learned = np.isin(other.ids, with_splits(dataset, policy="random", seed=3).split("train").ids).sum()
    assert learned > 0
    message = f"{learned} of the {len(other)} images of the validation split are among those that .* learned from"
    with pytest.raises(InputError, match=message):
        check_unseen(run, other, split="validation")
    check_unseen(run, other, split="train")  # as it is called so, nobody takes them for unseen


def test_images_that_a_run_has_learned_from_are_known_among_images_in_colour(write_image, tmp_path, run_of):
    rng = np.random.default_rng(0)
    for row in range(24):
        picture = rng.integers(0, 256, (12, 12), np.uint8)
        write_image(f"faces/{'train' if row < 12 else 'validation'}/{'ab'[row % 2]}/{row}.png", picture)
    run = run_of(class_folders.read(tmp_path / "faces"))
    write_image("faces/train/a/red.png", np.full((12, 12, 3), (255, 0, 0), np.uint8))
    again = class_folders.read(tmp_path / "faces")
    assert again.image_shape == (12, 12, 3)
    check_unseen(run, again.split("validation"), split="validation")
    with pytest.raises(InputError, match="12 of the 13 images of the test split are among those"):
        check_unseen(run, again.split("train"), split="test")


def test_extra_data_of_another_shape_is_known_to_have_been_learned_from(dataset, tmp_path):
    grey = dataset.subset(np.arange(40))
    extra = replace(grey, name="extra", ids=np.array([f"extra{row}" for row in range(40)]), splits=[""] * 40)
    in_colour = np.repeat(255 - dataset.read(np.arange(50)), 3, axis=-1)
    main = with_splits(replace(dataset, images=ArrayImages(in_colour)))
    recipe = Recipe(epochs=1, batch_size=8)
    train(plain_student(), main, extra_data=[ExtraData(extra)], out=tmp_path / "run", recipe=recipe, progress=False)
    with pytest.raises(InputError, match="40 of the 40 images of the test split are among those"):
        check_unseen(tmp_path / "run", extra, split="test")


def test_splits_by_hand_are_known_by_their_images(dataset, run_of):
    by_hand = replace(dataset, splits=np.where(np.arange(50) < 25, "train", "validation"))
    run = run_of(by_hand)
    assert read_record(run).data.splits is None
    check_unseen(run, by_hand.split("validation"), split="validation")
    with pytest.raises(InputError, match="are among those that"):
        check_unseen(run, split_as_trained(dataset, run).split("validation"), split="validation")


def test_copies_under_another_name_are_not_refused(dataset, run_of):
    run = run_of(with_splits(dataset))
    renamed = replace(dataset, ids=np.array([f"copy{row}" for row in range(50)]))
    check_unseen(run, renamed, split="validation")
    assert not TrainingImages.read(run).holds(renamed).any()


def test_a_run_that_says_neither_splits_nor_images_is_refused_for_its_own_data(dataset, run_of):
    run = Path(run_of(with_splits(dataset)))
    (run / TRAINING_IMAGES).unlink()
    replace(read_record(run), data=replace(read_record(run).data, splits=None)).write(run)
    same = with_splits(dataset)
    check_unseen(run, same.split("validation"), split="validation")  # the very images that chose its epoch
    with pytest.raises(InputError, match="does not say by which splits of bright and dark it was trained"):
        check_unseen(run, same.split("train"), split="test")


def test_damaged_training_images_are_refused(dataset, run_of):
    run = Path(run_of(with_splits(dataset)))
    for content in (b"", b"no array", (run / TRAINING_IMAGES).read_bytes()[:-5]):
        (run / TRAINING_IMAGES).write_bytes(content)
        with pytest.raises(InputError, match="training_images.npy is damaged"):
            TrainingImages.read(run)


def test_the_layout_of_the_stored_images_is_still_read():
    faces = class_folders.read(VERSION_0_1 / "faces")
    assert len(faces) == 36
    assert keras.saving.load_model(VERSION_0_1 / "distilled" / "best.keras").output_shape == (None, 3)


def test_wiring_counts_where_both_records_know_it():
    record = read_record(VERSION_0_1 / "distilled")
    first, second = (
        replace(record, network=replace(record.network, wiring_sha256=sha256)) for sha256 in ("1" * 64, "2" * 64)
    )
    assert record.differences(first) == first.differences(record) == first.differences(first) == []
    assert first.differences(second) == [f"network.wiring_sha256: stored {'1' * 64}, now {'2' * 64}"]


def test_paths_of_a_command_hold_from_anywhere_and_names_stay_names(tmp_path, monkeypatch):
    @dataclass(frozen=True)
    class Settings:
        data: str = "faces"
        out: str = "not-yet"
        logits: tuple[str, ...] = ("a.h5", "gone.h5")
        teacher: str = "facenet"
        online: dict = field(default_factory=lambda: {"teacher": "a.keras", "weights": None})
        student: str = "faces"

    for name in ("faces", "a.h5", "facenet", "a.keras", "synthetic"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    recorded = CommandRecord.of("train_student", Settings()).settings
    assert recorded == {
        "data": str(tmp_path / "faces"),
        "out": str(tmp_path / "not-yet"),
        "logits": (str(tmp_path / "a.h5"), "gone.h5"),
        "teacher": "facenet",
        "online": {"teacher": str(tmp_path / "a.keras"), "weights": None},
        "student": "faces",
    }
    assert CommandRecord.of("train_student", Settings(data="synthetic")).settings["data"] == "synthetic"
