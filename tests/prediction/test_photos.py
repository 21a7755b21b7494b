import os

import numpy as np
import pytest
from PIL import Image

from distill.errors import BusyError, InputError
from distill.prediction import photos
from distill.prediction.photos import expand, open_photo, rgb_pixels

CORNERED = np.zeros((4, 6, 3), np.uint8)
CORNERED[0, 0] = 255


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "photo.jpg")
    with pytest.raises(InputError, match="is a pipe: expected a file"):
        open_photo(tmp_path / "photo.jpg")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "gif", "tif", "ppm"])
def test_formats_of_photos_are_read(tmp_path, suffix):
    Image.new("RGB", (6, 4), (200, 200, 200)).save(tmp_path / f"a.{suffix}")
    photo = open_photo(tmp_path / f"a.{suffix}")
    assert photo.shape == (4, 6, 3)
    assert photo.dtype == np.uint8
    np.testing.assert_allclose(photo, 200, atol=2)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, [255, 255, 255]),
        ("L", 7, [7, 7, 7]),
        ("LA", (200, 0), [0, 0, 0]),
        ("I;16", 257 * 130, [130, 130, 130]),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 0), [0, 0, 0]),
        ("P", 0, [0, 0, 0]),
    ],
)
def test_any_mode_becomes_rgb(write_image, mode, colour, expected):
    assert open_photo(write_image("a.png", colour, mode=mode))[0, 0].tolist() == expected


@pytest.mark.parametrize(("mode", "colour"), [("F", 0.5), ("I", 40_000)])
def test_pixels_whose_range_nobody_knows_are_refused(write_image, mode, colour):
    with pytest.raises(
        InputError, match="what black and white are in pixels of 32 bits is not known: save it with 8"
    ):
        open_photo(write_image("a.tif", colour, mode=mode))


@pytest.mark.parametrize(("mode", "colour"), [("F", 200.0), ("I", 200)])
def test_an_image_handed_over_whose_range_nobody_knows_is_refused(mode, colour):
    message = rf"an image of mode {mode} cannot be read \(what black and white are in pixels of 32 bits is not known"
    with pytest.raises(InputError, match=message):
        rgb_pixels(Image.new(mode, (6, 4), colour))


def test_an_image_handed_over_that_cannot_be_converted_is_refused(write_image, rng):
    with pytest.raises(InputError, match="an image of mode La cannot be read .conversion from La .*: give it in"):
        rgb_pixels(Image.new("La", (6, 4)))
    path = write_image("a.png", rng.integers(0, 256, (64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[:1000])
    with Image.open(path) as truncated, pytest.raises(InputError, match="an image of mode L cannot be read"):
        rgb_pixels(truncated)


@pytest.mark.parametrize("suffix", ["png", "pgm"])
def test_a_file_of_16_bits_is_the_same_handed_over_as_opened(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.new("I;16", (6, 4), 257 * 130).save(path)
    with Image.open(path) as image:
        assert rgb_pixels(image)[0, 0].tolist() == open_photo(path)[0, 0].tolist() == [130, 130, 130]


def test_a_folder_of_folders_says_how_to_look_into_them(tmp_path, write_image):
    (tmp_path / "photos" / "happy").mkdir(parents=True)
    with pytest.raises(InputError, match=r"photos is a folder without images \(.png"):
        open_photo(tmp_path / "photos")
    Image.new("L", (4, 4)).save(tmp_path / "photos" / "happy" / "a.png")
    with pytest.raises(InputError, match="photos is a folder without images: those in folders within .* --recursive"):
        open_photo(tmp_path / "photos")


def test_cmyk_becomes_rgb(write_image):
    assert open_photo(write_image("a.tif", (0, 0, 0, 0), mode="CMYK"))[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (3, 5)), (6, (0, 3)), (8, (5, 0))])
def test_photos_stand_upright(tmp_path, orientation, corner):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(CORNERED).save(tmp_path / "a.png", exif=exif)
    bright = np.argwhere(open_photo(tmp_path / "a.png").max(axis=2) > 128)
    assert bright.tolist() == [list(corner)]


def test_damaged_exif_does_not_matter(tmp_path):
    Image.fromarray(CORNERED).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff nonsense")
    assert open_photo(tmp_path / "a.jpg").shape == CORNERED.shape


def test_a_photo_with_a_preview_behind_it_is_no_animation(tmp_path):
    photo = Image.new("RGB", (8, 8), (50, 50, 50))
    photo.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[photo])
    assert open_photo(tmp_path / "a.jpg").shape == (8, 8, 3)


@pytest.mark.parametrize("size", [(10_000, 5_001), (20_000, 20_000)])
def test_too_many_pixels_are_refused_by_the_header(tmp_path, size, recwarn):
    (tmp_path / "a.png").write_bytes(b"P5 %d %d 255\n" % size)
    with pytest.raises(InputError, match="a.png has more than 50 million pixels"):
        open_photo(tmp_path / "a.png")
    assert not recwarn


@pytest.mark.parametrize("content", [b"text", b"P5 0 10 255\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_what_is_no_image_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a.png cannot be read as an image \(.*\): replace or remove it"):
        open_photo(tmp_path / "a.png")


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="a.png cannot be read as an image .it is empty.: replace"):
        open_photo(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_a_truncated_image_is_named(write_image, rng, suffix):
    path = write_image(f"a.{suffix}", rng.integers(0, 256, (64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=f"a.{suffix} cannot be read as an image"):
        open_photo(path)


def test_what_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match="a.png does not exist"):
        open_photo(tmp_path / "a.png")


def test_a_folder_stands_for_its_images_in_order(write_image, tmp_path):
    for name in ("b.png", "a.JPG", "within/c.png", ".hidden.png"):
        write_image(name)
    (tmp_path / "notes.txt").touch()
    single = write_image("within/c.png")
    assert expand([single, tmp_path]) == [single, tmp_path / "a.JPG", tmp_path / "b.png"]


def test_a_folder_without_images_is_named(tmp_path):
    assert expand([tmp_path]) == [tmp_path]
    with pytest.raises(InputError, match=r"is a folder without images \(.png, .jpg"):
        open_photo(tmp_path)


def test_a_folder_or_photo_that_cannot_be_looked_at_is_named_when_it_is_opened(write_image, tmp_path, monkeypatch):
    write_image("a.png", 1)
    (tmp_path / "closed").mkdir()
    names, stat = photos.image_names, os.stat

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(photos, "image_names", lambda path: refused(path) if path.name == "closed" else names(path))
    assert expand([tmp_path], recursive=True) == [tmp_path / "a.png", tmp_path / "closed"]
    with pytest.raises(BusyError, match=r"closed cannot be read now \(Permission denied\)"):
        open_photo(tmp_path / "closed")
    monkeypatch.setattr(
        "os.stat", lambda path, **how: refused(path) if str(path).endswith("a.png") else stat(path, **how)
    )
    with pytest.raises(BusyError, match=r"a.png cannot be read now \(Permission denied\)"):
        open_photo(tmp_path / "a.png")
