"""An operation from outside is one row: it changes no other view, and what does not know it says so by name."""

import hashlib
import importlib
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from distill.data.open_dataset import open_dataset
from distill.data.operations import OPERATIONS, Operation, choice
from distill.data.rendering import render, render_numpy, warp_anywhere
from distill.data.view_differences import view_differences
from distill.data.views import PARAMETERS, ViewSpec
from distill.errors import InputError
from distill.logit_store import open_logits
from distill.reports.store_report import describe_store
from distill.scoring.caching import cache_logits
from distill.training.batches import JointBatches, ViewBatches
from distill.training.ensemble import check_same_views
from distill.training.recipe import Recipe
from distill.training.train import train
from tests.data.outside_rows import EXAMPLE, registered, row
from tests.test_folds_of_commands import failure, run
from tests.training.small_runs import rendered_epoch

VERSION_0_1 = Path(__file__).resolve().parents[1] / "version_0_1"
ROOT = Path(__file__).resolve().parents[2]
IDS = [f"train/{i}" for i in range(6)]
BLUR = "my_views:blur"


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (6, 20, 20, 1), dtype=np.uint8)


@pytest.fixture
def my_views(tmp_path, monkeypatch):
    """The current directory, with the example of the documentation in it; a new process each time, as it were."""
    (tmp_path / "my_views.py").write_text(EXAMPLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    forget()


def forget():
    sys.modules.pop("my_views", None)
    OPERATIONS.pop("blur", None)


@pytest.fixture(scope="module")
def faces():
    return open_dataset(str(VERSION_0_1 / "faces"))


def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((12, 12, 1)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
    ]
    return keras.Sequential(layers, name="small")


def amount(value: float, **rest) -> ViewSpec:
    return ViewSpec(extra={"mine": {"amount": value}}, **rest)


def rendered(images, spec, *, shape=None, views=None) -> np.ndarray:
    parameters = spec.parameters(IDS[: len(images)], views or [1] * len(images))
    return render_numpy(images, parameters, image_shape=shape or images.shape[1:], columns=spec.columns)


class TestDraws:
    def test_no_other_view_changes(self):
        spec = ViewSpec(rotation=30, erase=0.4, seed=3)
        before = spec.parameters(IDS, range(6))
        with registered(mine=row(lambda pixels, parameters: pixels), another=row(lambda pixels, parameters: pixels)):
            np.testing.assert_array_equal(spec.parameters(IDS, range(6)), before)
            one = replace(spec, extra={"mine": {"amount": 2}})
            both = replace(spec, extra={"mine": {"amount": 2}, "another": {"amount": 3}})
            assert both.columns == (*PARAMETERS, "another.amount", "mine.amount")
            np.testing.assert_array_equal(both.parameters(IDS, range(6))[:, :-2], before)
            np.testing.assert_array_equal(both.parameters(IDS, range(6))[:, -1], one.parameters(IDS, range(6))[:, -1])

    def test_they_are_bits_of_a_hash_keyed_by_its_name(self):
        """BLAKE2b keyed "distill view 3" of the id, the view in digits and the name, with zero bytes between."""
        digest = hashlib.blake2b(b"train/0\x002\x00mine", key=b"distill view 3", digest_size=8).digest()
        expected = (np.frombuffer(digest, "<u4") + 0.5) / 2**32
        mine = row(
            lambda pixels, parameters: pixels, draws=2, draw=lambda settings, uniform: {"amount": uniform[:, 1]}
        )
        with registered(mine=mine):
            drawn = amount(1, seed=3).parameters(["train/0", "train/0"], [2, 0])
        assert drawn[0, -1] == np.float32(expected[1])
        assert drawn[1, -1] == 0  # view 0

    @pytest.mark.parametrize(
        "draw",
        [
            lambda settings, uniform: {"amount": uniform},
            lambda settings, uniform: {"amount": uniform[:, 0], "more": uniform[:, 0]},
        ],
    )
    def test_another_shape_or_name_than_the_row_says_is_refused(self, draw):
        with (
            registered(mine=row(lambda pixels, parameters: pixels, draw=draw)),
            pytest.raises(InputError, match=r'operation "mine" draws .*: expected \{\'amount\': \(1,\)\}'),
        ):
            amount(1).parameters(["a"], [1])

    @pytest.mark.parametrize("wrong", [{"stage": "last"}, {"draws": 0}, {"draws": 17}, {"parameters": {"a.b": 0}}])
    def test_a_row_that_cannot_work_is_refused(self, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            row(lambda pixels, parameters: pixels, **wrong)


class TestPixels:
    def test_a_rendered_row_sees_the_view_and_leaves_neutral_images_alone(self, images):
        def painted(pixels, parameters):
            assert pixels.shape[1:] == (16, 24, 1)
            return pixels * 0 + 1000 * parameters["amount"][:, None, None, None] + 7

        spec = ViewSpec(erase=0.3)
        with registered(mine=row(painted)):
            without = rendered(images, spec, shape=(16, 24, 1), views=range(6))
            changed = rendered(
                images, replace(spec, extra={"mine": {"amount": 1}}), shape=(16, 24, 1), views=range(6)
            )
        np.testing.assert_array_equal(changed[0], without[0])  # view 0
        assert (changed[1:] == 255).all()  # clipped

    def test_a_colour_row_works_on_the_image_before_it_is_interpolated(self, images):
        def inverted(pixels, parameters):
            share = parameters["amount"][:, None, None, None]
            return share * (255 - pixels) + (1 - share) * pixels

        still = {"rotation": 0, "zoom": (1, 1), "shift": 0, "flip": False, "brightness": 0, "contrast": 0}
        with registered(mine=row(inverted, stage="colour")):
            np.testing.assert_allclose(rendered(images, amount(1, **still)), 255.0 - images, atol=1e-3)

    def test_a_geometry_row_is_part_of_the_one_interpolation(self):
        """A shear, against Pillow's affine transform, where neither reads outside of the image."""
        y, x = np.mgrid[0:40, 0:40] / 40
        picture = (127 + 60 * np.sin(5 * x + 2 * y) + 50 * np.cos(7 * y * x)).astype(np.uint8)

        def sheared(x, y, parameters):
            return x + parameters["amount"] * y, y

        still = {"rotation": 0, "zoom": (1, 1), "shift": 0, "flip": False, "brightness": 0, "contrast": 0}
        with registered(mine=row(sheared, stage="geometry")):
            ours = rendered(picture[None, :, :, None], amount(0.3, **still))[0, :, :, 0]
        # Pillow measures from the corner; ours is about the centre, which lies at 20.
        expected = Image.fromarray(picture).transform(
            (40, 40), Image.Transform.AFFINE, (1, 0.3, -0.3 * 20, 0, 1, 0), Image.Resampling.BILINEAR
        )
        np.testing.assert_allclose(ours[:, 7:-7], np.asarray(expected)[:, 7:-7], atol=1)

    def test_an_unpickled_specification_brings_its_operation_to_another_process(self, my_views):
        spec = ViewSpec(extra={BLUR: {"strength": 1.0}})
        sent, drawn = pickle.dumps(spec), spec.parameters(IDS, range(6))
        forget()
        np.testing.assert_array_equal(pickle.loads(sent).parameters(IDS, range(6)), drawn)

    def test_compiled_by_xla_it_is_what_it_is_outside(self, my_views, images):
        spec = ViewSpec(extra={BLUR: {"strength": 1.0}})
        parameters = spec.parameters(IDS, range(6))
        compiled = tf.function(
            partial(render, image_shape=(24, 18, 3), columns=spec.columns, warp=warp_anywhere), jit_compile=True
        )
        eager = render_numpy(images, parameters, image_shape=(24, 18, 3), columns=spec.columns)
        np.testing.assert_allclose(compiled(images, parameters), eager, atol=1e-2)
        plain = rendered(images, ViewSpec(), shape=(24, 18, 3), views=range(6))
        assert eager[1:].std() < plain[1:].std()  # softer
        np.testing.assert_array_equal(eager[0], plain[0])

    def test_on_jax_it_is_what_it_is_on_tensorflow(self, my_views, images):
        pytest.importorskip("jax")
        spec = ViewSpec(extra={BLUR: {"strength": 1.0}})
        parameters = spec.parameters(IDS, range(6))
        np.savez("in.npz", images=images, parameters=parameters)
        program = (
            "import sys; sys.modules['tensorflow'] = None\n"
            "import jax, numpy as np\n"
            "from distill import ViewSpec\n"
            "from distill.data.rendering import render\n"
            f"spec, given = ViewSpec(extra={{'{BLUR}': {{'strength': 1.0}}}}), np.load('in.npz')\n"
            "draw = jax.jit(lambda *view: render(*view, image_shape=(24, 18, 1), columns=spec.columns))\n"
            "np.save('out.npy', draw(given['images'], given['parameters']))\n"
        )
        environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        expected = render_numpy(images, parameters, image_shape=(24, 18, 1), columns=spec.columns)
        np.testing.assert_allclose(np.load("out.npy"), expected, atol=1e-2)


class TestSpecification:
    def test_it_survives_json_under_its_own_name_without_what_is_neutral(self):
        several = row(
            lambda pixels, parameters: pixels,
            settings={"amount": row(None).settings["amount"], "how": choice("plain", "other")},
        )
        with registered(mine=several):
            spec = ViewSpec(extra={"mine": {"how": "plain", "amount": 2}})
            assert spec.to_dict()["extra"] == {"mine": {"amount": 2}}
            assert ViewSpec.from_dict(spec.to_dict()) == spec
            assert ViewSpec(extra={"mine": {"amount": 0}}) == ViewSpec()
            assert view_differences(spec, ViewSpec()) == {"mine.amount": (2, 0.0)}

    def test_another_source_draws_other_views_and_earlier_descriptions_do_not_say(self, my_views):
        spec = ViewSpec(extra={BLUR: {"strength": 0.5}})
        described, earlier = spec.to_dict(), spec.to_dict()
        assert list(earlier.pop("extra_sources")) == ["blur"]
        (my_views / "my_views.py").write_text(f"{EXAMPLE}\n# another version\n")
        forget()
        importlib.invalidate_caches()
        changed = ViewSpec(extra={BLUR: {"strength": 0.5}})
        assert list(view_differences(described, changed)) == ["blur (source)"]
        assert view_differences(earlier, changed) == view_differences(earlier, described) == {}
        with pytest.raises(InputError, match='source of the view operation "blur" has changed since'):
            ViewSpec.from_dict(described)
        ViewSpec.from_dict(earlier)

    def test_one_that_is_not_registered_is_refused_by_name_when_it_is_to_be_drawn(self):
        described = {**ViewSpec().to_dict(), "extra": {"mine": {"amount": 2}}}
        with pytest.raises(InputError, match='operation "mine" is not registered here .* --view.extra MODULE:mine'):
            ViewSpec.from_dict(described)
        assert ViewSpec.for_evaluation(described).evaluation_views == (0,)
        assert view_differences(described, ViewSpec()) == {"mine.amount": (2, None)}

    def test_what_a_store_says_is_never_imported(self, my_views):
        described = {**ViewSpec().to_dict(), "extra": {BLUR: {"strength": 0.5}}}
        with pytest.raises(InputError, match="expected plain names"):
            ViewSpec.from_dict(described)
        assert "my_views" not in sys.modules

    @pytest.mark.parametrize(
        ("extra", "message"),
        [
            ({"mine": {"amuont": 1}}, 'has no setting "amuont": did you mean amount?'),
            ({"mine": {"amount": 11}}, "view mine amount must lie in -10..10, received 11"),
            ({"mine": {"amount": "big"}}, "received big"),
            ({"flip": {"flip": True}}, 'operation "flip" is not registered here'),
            ({"mine": 3}, "must be operations with settings"),
            ({"nowhere_at_all:mine": {"amount": 1}}, "nowhere_at_all:mine cannot be imported"),
            ({"json:loads": {"amount": 1}}, "json:loads is a function: expected a .*Operation"),
        ],
    )
    def test_what_cannot_be_used_is_refused(self, extra, message):
        with registered(mine=row(lambda pixels, parameters: pixels)), pytest.raises(InputError, match=message):
            ViewSpec(extra=extra)

    def test_crops_would_ignore_it(self):
        with (
            registered(mine=row(lambda pixels, parameters: pixels)),
            pytest.raises(InputError, match="would ignore extra="),
        ):
            amount(1, crops="microexpnet_original")

    def test_two_rows_of_one_name_are_refused(self, my_views):
        with (
            registered(blur=row(lambda pixels, parameters: pixels)),
            pytest.raises(InputError, match='another view operation, "blur"'),
        ):
            ViewSpec(extra={BLUR: {"strength": 1.0}})


class TestStores:
    @pytest.fixture
    def old(self):
        return open_logits(VERSION_0_1 / "logits.h5")

    @pytest.fixture
    def new(self, my_views, faces):
        spec = ViewSpec(extra={BLUR: {"strength": 0.5}})
        return cache_logits(network(), faces, "new.h5", views=3, view_spec=spec, progress=False)

    def test_an_old_store_teaches_though_rows_were_added(self, old, my_views, faces):
        recipe = Recipe(epochs=1, view=ViewSpec())
        ViewSpec(extra={BLUR: {"strength": 0.5}})
        assert isinstance(OPERATIONS["blur"], Operation)
        assert view_differences(old.view_spec, ViewSpec()) == {}
        train(network(), faces, out="run", logits=old, recipe=recipe, progress=False)

    def test_a_store_with_it_teaches_the_views_that_its_teacher_saw(self, new, faces):
        assert new.view_spec["extra"] == {"blur": {"strength": 0.5}}
        spec = ViewSpec.from_dict(new.view_spec)
        parameters = spec.parameters(faces.ids[:6], [2] * 6)
        pixels = render_numpy(faces.read(range(6)), parameters, image_shape=(12, 12, 1), columns=spec.columns)
        stored = new.read(new.rows_of(faces)[:6])[:, 2]
        np.testing.assert_allclose(network().predict_on_batch(pixels), stored, atol=1e-4)
        train(network(), faces, out="run", logits=new, recipe=Recipe(epochs=1), progress=False)

    def test_one_that_xla_cannot_compile_teaches_all_the_same(self, faces, tmp_path, monkeypatch, capsys):
        def blurry(pixels, parameters):
            small = tf.image.resize(pixels, (6, 6))
            return tf.image.resize(small, (12, 12), method="bicubic")

        monkeypatch.chdir(tmp_path)
        with registered(blurry=row(blurry)):
            how = {"views": 3, "view_spec": ViewSpec(extra={"blurry": {"amount": 1}}), "progress": False}
            store = cache_logits(network(), faces, "blurry.h5", **how)
            train(network(), faces, out="run", logits=store, recipe=Recipe(epochs=1), progress=False)
        assert capsys.readouterr().out.count("note: XLA cannot compile these views") == 1

    def test_two_stores_of_other_views_name_the_setting(self, old, new):
        with pytest.raises(InputError, match=r"blur.strength: 0.0 and 0.5"):
            check_same_views([old, new])

    def test_without_the_row_it_is_inspected_but_not_taught(self, new, faces):
        forget()
        assert describe_store(new)["header"]["view_spec"]["extra"] == {"blur": {"strength": 0.5}}
        with pytest.raises(InputError, match='operation "blur" is not registered here'):
            train(network(), faces, out="run", logits=new, recipe=Recipe(epochs=1), progress=False)

    def test_more_views_are_added_and_other_settings_are_refused(self, new, my_views, faces):
        spec, before = ViewSpec(extra={BLUR: {"strength": 0.5}}), new.logits
        more = cache_logits(network(), faces, "new.h5", views=4, view_spec=spec, progress=False)
        np.testing.assert_array_equal(more.logits[:, :3], before)
        other = ViewSpec(extra={BLUR: {"strength": 0.6}})
        with pytest.raises(InputError, match=r"view_spec.blur.strength: stored 0.5, expected 0.6"):
            cache_logits(network(), faces, "new.h5", views=4, view_spec=other, progress=False)

    def test_data_sets_with_and_without_it_go_into_one_run(self, my_views, faces):
        training = faces.split("train")
        specs = ViewSpec(), ViewSpec(extra={BLUR: {"strength": 1.0}})
        sources = [
            ViewBatches(training, image_shape=(12, 12, 1), view_spec=spec, batch_size=18, views=3) for spec in specs
        ]
        joint = JointBatches(sources)
        alone = [next(rendered_epoch(source, 0)).images.numpy() for source in sources]
        found = list(joint.blocks(0, steps=1))
        assert {rows.parameters.shape[-1] for rows in found} == {len(PARAMETERS) + 1}
        together = [
            render_numpy(rows.images_uint8[0], rows.parameters[0], image_shape=(12, 12, 1), columns=joint.columns)
            for rows in found
        ]
        for pixels in alone:
            assert min(np.abs(pixels - other).max() for other in together) < 1e-2


def test_through_the_commands(my_views, faces, capsys):
    """Cached, verified, taught and evaluated; and each names the row where it is missing."""
    network().save("teacher.keras")
    data = ("--data", VERSION_0_1 / "faces")
    blurred = ("--view.extra", BLUR, "strength", "0.5")
    teacher = (*data, "--teacher", "teacher.keras")

    def fresh(command, *args):
        forget()
        capsys.readouterr()
        return run(command, *args)

    assert fresh("teacher_logits", *teacher, "--views", 2, *blurred, "--out", "l.h5") == 0
    assert open_logits("l.h5").view_spec["extra"] == {"blur": {"strength": 0.5}}
    assert fresh("cache", "verify", "l.h5", *teacher) == 2
    assert 'operation "blur" is not registered here' in failure(capsys)
    assert fresh("cache", "verify", "l.h5", *teacher, "--operations", BLUR) == 0
    training = (*data, "--image-size", 12, "--epochs", 1, "--logits", "l.h5")
    assert fresh("train_student", *training, "--out", "refused") == 2
    assert 'operation "blur" is not registered here' in failure(capsys)
    assert fresh("train_student", *training, "--out", "other", *blurred[:-1], "0.6") == 2
    assert "blur.strength: stored 0.5, wanted 0.6" in failure(capsys)
    assert fresh("train_student", *training, "--out", "run", *blurred) == 0
    assert fresh("train_student", "--resume", "run") == 0
    assert fresh("evaluate", *data, "--model", "run", "--split", "validation") == 0
