"""Views are the same for everybody, for ever; and pixels follow the parameters."""

import hashlib
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from distill.data.rendering import render_numpy
from distill.data.view_differences import view_differences
from distill.data.views import CROPS, IDENTITY, PARAMETERS, ViewSpec
from distill.errors import InputError

SHAPE = (48, 48, 1)
COLUMN = {name: i for i, name in enumerate(PARAMETERS)}


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (3, *SHAPE), dtype=np.uint8)


@pytest.fixture
def smooth_face():
    """A smooth, asymmetric picture, whose views can be compared across sizes."""
    y, x = np.mgrid[0:96, 0:96] / 96
    picture = 127 + 60 * np.sin(5 * x + 2 * y) + 50 * np.cos(7 * y * x)
    return picture[None, :, :, None].astype(np.uint8)


def parameters(**changes):
    row = IDENTITY.copy()
    for name, value in changes.items():
        row[COLUMN[name]] = value
    return row[None]


def test_view_0_is_the_untouched_image(images):
    drawn = ViewSpec().parameters(["a", "b", "c"], [0, 0, 0])
    np.testing.assert_array_equal(render_numpy(images, drawn, image_shape=SHAPE), images)


def test_parameters_never_change_between_versions():
    # From the definition: BLAKE2b keyed "distill view 3" of the id, a zero byte, and the view in digits.
    digest = hashlib.blake2b(b"train/00007\x002", key=b"distill view 3", digest_size=48).digest()
    draws = (np.frombuffer(digest, "<u4") + 0.5) / 2**32
    spec = ViewSpec(rotation=30, zoom=(0.5, 2.0), shift=0.1, brightness=0.2, contrast=0.5, erase=0.4, seed=3)
    row = dict(zip(PARAMETERS, spec.parameters(["train/00007"], [2])[0], strict=True))
    assert row["mirror"] == (-1 if draws[0] < 0.5 else 1)
    assert row["angle"] == pytest.approx(np.pi / 6 * (2 * draws[1] - 1), rel=1e-6)
    assert row["zoom"] == pytest.approx(0.5 * 4 ** draws[2], rel=1e-6)
    assert row["shift_x"] == pytest.approx(0.1 * (2 * draws[3] - 1), rel=1e-6)
    assert row["contrast"] == pytest.approx(1.5 ** (2 * draws[6] - 1), rel=1e-6)
    # And as plain numbers, so that a change of the hash itself is seen.
    assert draws[:3] == pytest.approx([0.484330515, 0.781844071, 0.373552214], abs=1e-8)


def test_golden_parameters():
    spec = ViewSpec(rotation=30, zoom=(0.5, 2.0), shift=0.1, brightness=0.2, contrast=0.5, erase=0.4, seed=3)
    golden = [
        [-1, 0.29514644, 0.8392104, -0.0819179, 0.08037873, 0.17374009]
        + [1.3266102, 0.10391108, 0.54408437, 0.108331405, 0.35346484],
        [1, -0.12436944, 0.57755095, 0.054284103, -0.064459905, 0.12007546]
        + [0.756069, 0.97264606, 0.08413958, 0.0, 0.0],
    ]
    np.testing.assert_allclose(spec.parameters(["train/00007", "b"], [2, 7]), golden, rtol=1e-6)
    default = [-1, -0.10470076, 0.9368507, -0.053024385, -0.059501775, -0.03606737]
    default += [0.8672379, 0.95475364, 0.5039073, 0.0, 0.0]
    np.testing.assert_allclose(ViewSpec().parameters(["é"], [3]), [default], rtol=1e-6)


def test_parameters_depend_on_seed_id_and_view_but_not_on_company():
    spec = ViewSpec()
    together = spec.parameters(["a", "b", "a"], [1, 1, 2])
    np.testing.assert_array_equal(spec.parameters(["b"], [1])[0], together[1])
    assert not np.array_equal(together[0], together[1])
    assert not np.array_equal(together[0], together[2])
    assert not np.array_equal(ViewSpec(seed=1).parameters(["a"], [1])[0], together[0])


def test_parameters_fill_their_ranges_and_stay_inside():
    spec = ViewSpec(rotation=20, zoom=(0.8, 1.25), shift=0.1, brightness=0.3, contrast=0.5, erase=0.4)
    drawn = spec.parameters([str(i) for i in range(4000)], [1] * 4000)
    limits = {
        "angle": (-np.pi / 9, np.pi / 9),
        "zoom": (0.8, 1.25),
        "shift_x": (-0.1, 0.1),
        "shift_y": (-0.1, 0.1),
        "brightness": (-0.3, 0.3),
        "contrast": (1 / 1.5, 1.5),
        "erase_width": (0, 0.4),
        "erase_height": (0, 0.4),
    }
    for name, (low, high) in limits.items():
        values = drawn[:, COLUMN[name]]
        assert low <= values.min() < low + 0.01 * (high - low) + 1e-9
        assert high >= values.max() > high - 0.01 * (high - low)
    assert 0.45 < (drawn[:, COLUMN["mirror"]] == -1).mean() < 0.55
    assert (drawn[:, COLUMN["erase_left"]] + drawn[:, COLUMN["erase_width"]]).max() <= 1 + 1e-6


def test_zoom_is_drawn_evenly_on_a_log_scale_or_in_its_inverse():
    """The second is FaceNet's: Keras' `random_zoom` takes an even factor z of 0.7..1.3 and shows 1/z."""
    ids, views = [str(i) for i in range(4000)], [1] * 4000
    evenly, inverse = (
        ViewSpec(zoom=(1 / 1.3, 1 / 0.7), zoom_draw=how).parameters(ids, views)[:, COLUMN["zoom"]]
        for how in ("log", "inverse")
    )
    even = (np.arange(4000) + 0.5) / 4000
    np.testing.assert_allclose(np.sort(1 / inverse), 0.7 + 0.6 * even, atol=0.02)
    np.testing.assert_allclose(np.sort(np.log(evenly)), np.log(1 / 1.3) + np.log(1.3 / 0.7) * even, atol=0.02)
    np.testing.assert_array_equal(np.argsort(inverse), np.argsort(evenly))  # of the same bits


def test_what_a_description_lacks_leaves_images_alone():
    """A setting that is added later is absent from every store of before."""
    without = ViewSpec.from_dict({"algorithm": "blake2b-1", "rotation": 5, "seed": 2})
    assert without == ViewSpec(
        flip=False, rotation=5, zoom=(1.0, 1.0), shift=0.0, brightness=0.0, contrast=0.0, erase=0.0, seed=2
    )
    drawn = ViewSpec.from_dict({"algorithm": "blake2b-1"}).parameters(["a", "b"], [1, 2])
    drawn[:, [COLUMN["erase_left"], COLUMN["erase_top"]]] = 0  # where a rectangle without a size lies
    np.testing.assert_array_equal(drawn, [IDENTITY, IDENTITY])


def test_specifications_are_compared_setting_by_setting_whatever_version_wrote_them():
    spec = ViewSpec(rotation=3, seed=9)
    fields = json.loads(json.dumps(asdict(spec)))
    older = {name: value for name, value in fields.items() if name not in ("extra", "zoom_draw")}
    assert view_differences(older, fields) == {}  # as runs record it
    assert view_differences(spec.to_dict(), spec) == {}
    found = view_differences(replace(spec, zoom=(1.0, 1.2), zoom_draw="inverse"), spec.to_dict())
    assert found == {"zoom": ([1.0, 1.2], [0.9, 1.1]), "zoom_draw": ("inverse", "log")}
    assert view_differences(ViewSpec(crops="microexpnet"), spec) == {"crops": ("microexpnet", None)}
    newer = {**spec.to_dict(), "algorithm": "blake2b-2", "posterise": 1}
    assert view_differences(spec, newer) == {"algorithm": ("blake2b-1", "blake2b-2"), "posterise": (None, 1)}


def test_specification_survives_json_and_refuses_what_it_cannot_redraw():
    spec = ViewSpec(rotation=3, zoom=(0.7, 1.3), seed=9)
    assert ViewSpec.from_dict(spec.to_dict()) == spec
    with pytest.raises(InputError, match='drawn by "other"'):
        ViewSpec.from_dict({**spec.to_dict(), "algorithm": "other"})
    with pytest.raises(InputError, match="posterise"):
        ViewSpec.from_dict({**spec.to_dict(), "posterise": 1})


def test_random_views_are_described_as_before_there_were_crops():
    """Stores on disk hold this description, and are joined by it."""
    description = ViewSpec(rotation=3, seed=9).to_dict()
    assert json.dumps(description) == (
        '{"algorithm": "blake2b-1", "flip": true, "rotation": 3, "zoom": [0.9, 1.1], "shift": 0.06, '
        '"brightness": 0.1, "contrast": 0.2, "erase": 0.0, "seed": 9}'
    )
    with pytest.raises(InputError, match="cannot be redrawn here"):
        ViewSpec.from_dict({**description, "crops": ""})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rotation": -1}, "rotation must lie in 0..180, received -1"),
        ({"zoom": (0, 1)}, "zoom must be"),
        ({"zoom": (1.2, 1.0)}, "zoom must be"),
        ({"erase": 2}, "erase must lie in 0..1"),
        ({"zoom_draw": "even"}, "zoom_draw must be one of log, inverse, received even"),
        ({"rotation": "10"}, "rotation must lie in 0..180, received 10"),
        ({"contrast": float("nan")}, "contrast must lie in 0..10, received nan"),
        ({"crops": "ten"}, 'unknown view crops "ten": known are microexpnet_original, microexpnet'),
        ({"crops": "microexpnet", "flip": False}, "would ignore flip=False: omit these"),
        ({"crops": "microexpnet", "rotation": 5, "zoom": (1, 1)}, r"ignore rotation=5, zoom=\(1, 1\)"),
    ],
)
def test_impossible_specifications_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        ViewSpec(**setting)


def test_mirror_flips_left_and_right(images):
    rendered = render_numpy(images[:1], parameters(mirror=-1), image_shape=SHAPE)
    np.testing.assert_allclose(rendered[0], images[0, :, ::-1], atol=1e-3)


def test_shift_moves_the_face_right_and_down(images):
    rendered = render_numpy(images[:1], parameters(shift_x=3 / 48, shift_y=5 / 48), image_shape=SHAPE)
    np.testing.assert_allclose(rendered[0, 5:, 3:], images[0, :-5, :-3], atol=1e-3)


def test_a_quarter_turn_is_counter_clockwise(images):
    rendered = render_numpy(images[:1], parameters(angle=np.pi / 2), image_shape=SHAPE)
    np.testing.assert_allclose(rendered[0], np.rot90(images[0]), atol=1e-2)


def test_zoom_two_enlarges_the_middle(smooth_face):
    rendered = render_numpy(smooth_face, parameters(zoom=2.0), image_shape=(96, 96, 1))
    np.testing.assert_allclose(rendered[0, 1::2, 1::2, 0], smooth_face[0, 24:72, 24:72, 0], atol=3)


def test_size_changes_like_keras_resizing(images):
    for size in (84, 160):
        expected = tf.image.resize(images, (size, size)).numpy()
        rendered = render_numpy(images, np.repeat(parameters(), 3, 0), image_shape=(size, size, 1))
        np.testing.assert_allclose(rendered, expected, atol=1e-2)


def test_shrinking_averages_instead_of_skipping_pixels():
    stripes = np.tile(np.array([0, 255], np.uint8), (1, 64, 32))[..., None]
    rendered = render_numpy(stripes, parameters(), image_shape=(16, 16, 1))
    np.testing.assert_allclose(rendered, 127.5, atol=1e-3)


def test_teacher_and_student_see_the_same_view_at_their_own_sizes(smooth_face):
    drawn = ViewSpec(rotation=20, shift=0.1, erase=0.0).parameters(["face"], [1])
    large = render_numpy(smooth_face, drawn, image_shape=(96, 96, 1))
    small = render_numpy(smooth_face, drawn, image_shape=(48, 48, 1))
    averaged = large.reshape(48, 2, 48, 2).mean(axis=(1, 3))
    assert np.abs(averaged - small[0, :, :, 0])[2:-2, 2:-2].mean() < 1.0


def test_contrast_brightness_and_range(images):
    rendered = render_numpy(images[:1], parameters(contrast=1.5, brightness=0.1), image_shape=SHAPE)
    expected = np.clip((images[0].astype(float) - 127.5) * 1.5 + 127.5 + 25.5, 0, 255)
    np.testing.assert_allclose(rendered[0], expected, atol=1e-3)


def test_erased_rectangle_is_grey_at_every_size():
    images = np.full((1, *SHAPE), 10, np.uint8)
    drawn = parameters(erase_left=0.25, erase_top=0.5, erase_width=0.25, erase_height=0.125)
    for size in (48, 96):
        rendered = render_numpy(images, drawn, image_shape=(size, size, 1))
        box = rendered[0, size // 2 : size * 5 // 8, size // 4 : size // 2]
        assert (box == 127.5).all()
        assert (rendered == 127.5).sum() == box.size


def test_channels_follow_the_network(images, rng):
    grey_as_rgb = render_numpy(images, np.repeat(parameters(), 3, 0), image_shape=(48, 48, 3))
    np.testing.assert_array_equal(grey_as_rgb, np.repeat(images, 3, -1))
    colour = rng.integers(0, 256, (1, 48, 48, 3), dtype=np.uint8)
    grey = render_numpy(colour, parameters(), image_shape=SHAPE)
    np.testing.assert_allclose(grey[0, ..., 0], colour[0] @ [0.2989, 0.587, 0.114], atol=0.1)


@pytest.fixture(params=CROPS)
def crops(request):
    return ViewSpec(crops=request.param)


def test_crops_survive_json_and_are_refused_when_damaged(crops):
    description = json.loads(json.dumps(crops.to_dict()))
    assert description == {"algorithm": "crops-1", "crops": crops.crops}
    assert ViewSpec.from_dict(description) == crops
    with pytest.raises(InputError, match="known are microexpnet"):
        ViewSpec.from_dict({**description, "crops": "ten"})
    for damage in ({"crops": ""}, {"seed": 1}, {"algorithm": "blake2b-1"}):
        with pytest.raises(InputError, match="cannot be redrawn here"):
            ViewSpec.from_dict({**description, **damage})


def test_a_network_is_evaluated_on_the_untouched_image_or_on_all_crops(crops):
    assert (ViewSpec().crop_count, ViewSpec().evaluation_views) == (0, (0,))
    assert crops.evaluation_views == tuple(range(crops.crop_count))
    assert ViewSpec(crops="microexpnet").crop_count == 8


def test_crops_are_the_same_for_every_sample_and_none_lies_outside(crops):
    views = crops.evaluation_views
    drawn = crops.parameters(["a"] * len(views), views)
    np.testing.assert_array_equal(crops.parameters(["b"] * len(views), views), drawn)
    np.testing.assert_array_equal(crops.parameters(["a", "b"], [2, 0]), drawn[[2, 0]])
    assert drawn.dtype == np.float32
    for view in (-1, len(views)):
        with pytest.raises(InputError, match=f"view {view} is requested, .* request at most {len(views)} views"):
            crops.parameters(["a", "b"], [0, view])


@pytest.mark.parametrize(("name", "last"), [("microexpnet_original", (32, 5)), ("microexpnet", (5, 32))])
def test_microexpnet_crops_are_windows_in_published_order(rng, name, last):
    """The original cuts the last one as rows 5 to 229 and columns 32 to 256; stores of 0.1 have it transposed."""
    face = rng.integers(0, 256, (256, 256, 1), dtype=np.uint8)
    offsets = [(0, 0), (5, 0), (32, 0), (0, 5), (0, 32), (5, 5), (32, 32), last]
    windows = [face[y : y + 224, x : x + 224] for x, y in offsets]
    drawn = ViewSpec(crops=name).parameters(["face"] * 8, range(8))
    rendered = render_numpy(np.repeat(face[None], 8, 0), drawn, image_shape=(224, 224, 1))
    np.testing.assert_allclose(rendered, windows, atol=1e-2)


def test_microexpnet_crops_of_a_small_face_are_those_of_the_face_scaled(smooth_face):
    """As published: the face to 256x256, a window of 224x224 out of it, and that to 84x84."""
    scaled = Image.fromarray(smooth_face[0, :, :, 0]).resize((256, 256), Image.Resampling.BILINEAR)
    drawn = ViewSpec(crops="microexpnet").parameters(["face"] * 8, range(8))
    rendered = render_numpy(np.repeat(smooth_face, 8, 0), drawn, image_shape=(84, 84, 1))
    for view, (x, y) in enumerate(CROPS["microexpnet"].offsets):
        window = scaled.resize((84, 84), Image.Resampling.BOX, box=(x, y, x + 224, y + 224))
        assert np.abs(rendered[view, :, :, 0] - np.asarray(window)).max() < 3
