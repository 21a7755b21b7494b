"""A network gets the pixels that it is described to take, and nothing is left open or contradicted."""

import numpy as np
import pytest

from distill.errors import InputError
from distill.runtimes.input_format import InputFormat, refusing
from tests.runtimes.conftest import refusal

PIXELS = np.random.default_rng(0).uniform(0, 255, (2, 4, 5, 3)).astype(np.float32)
PUBLISHED = {
    # What torchvision and Keras' "caffe" preprocessing do to the same pixels.
    "imagenet": (
        {"range": (0, 1), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        lambda p: (p / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    ),
    "caffe": (
        {"order": "bgr", "mean": (103.939, 116.779, 123.68)},
        lambda p: p[..., ::-1] - [103.939, 116.779, 123.68],
    ),
    "plus and minus one": ({"range": (-1, 1)}, lambda p: p / 127.5 - 1),
    "negative": ({"range": (1, 0)}, lambda p: 1 - p / 255),
    "one number for all channels": ({"mean": (127.5,), "std": (128,)}, lambda p: (p - 127.5) / 128),
    "channels first": ({"layout": "channels_first"}, lambda p: np.moveaxis(p, 3, 1)),
    "untouched": ({}, lambda p: p),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_pixels_are_put_into_the_format(name):
    settings, by_hand = PUBLISHED[name]
    pixel_format = InputFormat(size=4, channels=3, **settings).resolve(None, source="teacher")
    before = PIXELS.copy()
    formatted = pixel_format(PIXELS)
    np.testing.assert_allclose(formatted, by_hand(np.float64(PIXELS)), rtol=1e-5, atol=1e-4)
    assert formatted.dtype == np.float32
    assert formatted.flags.c_contiguous
    formatted[:] = 0
    np.testing.assert_array_equal(PIXELS, before)


@pytest.mark.parametrize(
    ("shape", "settings", "image_shape", "layout"),
    [
        ((48, 64, 1), {}, (48, 64, 1), "channels_last"),
        ((3, 48, 64), {}, (48, 64, 3), "channels_first"),
        ((1, 48, 48), {"size": 48, "channels": 1}, (48, 48, 1), "channels_first"),
        ((None, None, 3), {"size": 32}, (32, 32, 3), "channels_last"),
        ((3, None, None), {"size": 32}, (32, 32, 3), "channels_first"),
        ((None, 48, 64), {"channels": 3}, (48, 64, 3), "channels_first"),
        ((48, 64, None), {"channels": 3}, (48, 64, 3), "channels_last"),
        ((3, 3, 3), {}, (3, 3, 3), "channels_last"),
        ((None, None, None), {"size": 32, "channels": 3, "layout": "channels_first"}, (32, 32, 3), "channels_first"),
        (None, {"size": 32, "channels": 1}, (32, 32, 1), "channels_last"),
    ],
)
def test_what_the_file_says_is_filled_in(shape, settings, image_shape, layout):
    pixel_format = InputFormat(**settings).resolve(shape, source="teacher")
    assert pixel_format.image_shape == image_shape
    assert pixel_format.layout == layout


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((10,), {}, "teacher takes inputs of shape [10], expected images: three sides"),
        ((None, 4, 4, 3), {}, "teacher takes inputs of shape [any, 4, 4, 3], expected images"),
        ((None, None, 3), {}, "teacher does not say which size its images have: give --input.size"),
        (None, {"size": 4}, "teacher does not say which channels its images have: give --input.channels"),
        ((64, 64, 3), {"size": 48}, "teacher has size 64, the settings say 48: omit --input.size"),
        ((64, 64, 3), {"channels": 1}, "teacher has channels 3, the settings say 1: omit --input.channels"),
        ((64, 64, 4), {}, "teacher takes 4 channels (channels_last), expected 1 (grey) or 3 (color)"),
        ((None, None, 4), {"size": 64}, "teacher takes 4 channels (channels_last), expected 1 (grey) or 3 (color)"),
        ((3, 64, 64), {"layout": "channels_last"}, "teacher takes 64 channels (channels_last)"),
        ((64, 64, 1), {"order": "bgr"}, 'teacher takes grey pixels, which have no order "bgr"'),
        ((64, 64, 3), {"mean": (1, 2)}, "--input.mean has 2 numbers, teacher takes 3 channels"),
        ((64, 64, 1), {"std": (1, 2, 3)}, "--input.std has 3 numbers, teacher takes 1 channels"),
    ],
)
def test_what_does_not_fit_is_refused(shape, settings, message):
    assert message in refusal(InputFormat(**settings).resolve, shape, source="teacher")


def test_a_layout_that_is_open_is_the_usual_one_of_such_files_or_must_be_said():
    described = InputFormat(size=32, channels=3)
    assert described.resolve((None, None, None), source="teacher").layout == "channels_last"
    message = refusal(described.resolve, (None, None, None), source="teacher", usual_layout=None)
    assert message == (
        "teacher does not say where the channels of its images are: give --input.layout channels_first or "
        "channels_last"
    )
    assert described.resolve((3, None, None), source="teacher", usual_layout=None).layout == "channels_first"


@pytest.mark.parametrize("error", [RuntimeError("got 3\nexpected 4"), ValueError(), Exception("no kernel")])
def test_what_a_runtime_raises_for_images_is_said_in_one_line(error):
    def run(pixels):
        raise error

    message = refusal(refusing(run, source="teacher"), PIXELS)
    cause = {"got 3\nexpected 4": "got 3", "": "ValueError"}.get(str(error), str(error))
    flags = "--input.size, --input.channels, --input.layout"
    assert message == f"teacher cannot compute images [2, 4, 5, 3]: {cause}: see {flags}"


@pytest.mark.parametrize(
    "error", [MemoryError(), InputError("no head"), type("ResourceExhaustedError", (Exception,), {})()]
)
def test_what_has_words_of_its_own_keeps_them(error):
    def run(pixels):
        raise error

    with pytest.raises(type(error)) as raised:
        refusing(run, source="teacher")(PIXELS)
    assert raised.value is error


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "input size must be at least 1 pixel, received 0"),
        ({"channels": 2}, "input channels must be 1 (grey) or 3 (color), received 2"),
        ({"range": (1, 1)}, "input range must be two different numbers, received (1, 1)"),
        ({"range": (0, float("nan"))}, "input range, mean and std must be finite numbers"),
        ({"std": (1, 0, 1)}, "input std divides, so none may be 0"),
        ({"order": "grb"}, 'input order must be rgb or bgr, received "grb"'),
        ({"layout": "nchw"}, 'input layout must be auto or channels_last or channels_first, received "nchw"'),
    ],
)
def test_settings_out_of_range(settings, message):
    assert message in refusal(InputFormat, **settings)


def test_every_setting_has_its_help_on_the_command_line(capsys):
    import tyro

    given = "--size 64 --range -1 1 --mean 1 2 3 --order bgr"
    parsed = tyro.cli(InputFormat, args=given.split())
    assert parsed == InputFormat(size=64, range=(-1.0, 1.0), mean=(1.0, 2.0, 3.0), order="bgr")
    with pytest.raises(SystemExit):
        tyro.cli(InputFormat, args=["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for help_text in (
        "Height and width of the images",
        "Range that pixels 0..255 are scaled to",
        "Mean that is then subtracted",
    ):
        assert help_text in shown
