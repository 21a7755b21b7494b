"""Every picture is opened by one allow-list of formats, and stands upright, whoever opens it."""

import numpy as np
import pytest
from PIL import Image, features
from PIL.Image import Transpose

from distill.data.image_files import ImageFiles, left_out, open_image_files
from distill.data.open_dataset import open_dataset
from distill.data.pictures import FORMATS, IMAGE_SUFFIXES, Header, decode, read_header
from distill.errors import InputError
from distill.prediction.photos import open_photo

AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
STORED = {  # orientation -> how a camera has stored an upright picture
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}


def cornered(height=40, width=60) -> np.ndarray:
    """Bright in the upper left quarter."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[: height // 2, : width // 2] = 250
    return pixels


def turned(path, orientation, pixels=None):
    image = Image.fromarray(cornered() if pixels is None else pixels).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.transpose(STORED[orientation]).save(path, exif=exif.tobytes(), quality=95)
    return path


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", pytest.param("avif", marks=AVIF)])
def test_pictures_are_upright_in_data_sets_and_as_photos(tmp_path, suffix, orientation):
    path = turned(tmp_path / f"a.{suffix}", orientation)
    assert read_header(path) == Header(40, 60, grey=False, several=False)
    images, _ = open_image_files([path])
    assert images.shape == (40, 60, 3)
    (served,) = images.read(np.array([0]))
    np.testing.assert_array_equal(served, open_photo(path))
    assert np.abs(served[..., 0].astype(int) - cornered()).mean() < 8


def test_exif_data_behind_the_pixels_of_a_png_count(tmp_path):
    whole = turned(tmp_path / "a.png", 6).read_bytes()
    start = whole.index(b"eXIf") - 4
    length = 12 + int.from_bytes(whole[start : start + 4], "big")
    end = whole.index(b"IEND") - 4
    moved = whole[:start] + whole[start + length : end] + whole[start : start + length] + whole[end:]
    (tmp_path / "b.png").write_bytes(moved)
    assert read_header(tmp_path / "b.png") == Header(40, 60, grey=False, several=False)
    np.testing.assert_array_equal(decode(tmp_path / "b.png"), decode(tmp_path / "a.png"))


def test_a_data_set_of_turned_pictures_is_that_of_upright_ones(tmp_path, write_image):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6), np.uint8)
    for folder in ("a", "b"):
        write_image(f"upright/{folder}/1.png", np.stack([pixels] * 3, axis=-1))
        (tmp_path / "turned" / folder).mkdir(parents=True)
        turned(tmp_path / "turned" / folder / "1.png", 6, pixels)
    upright, other = open_dataset(tmp_path / "upright"), open_dataset(tmp_path / "turned")
    assert upright.fingerprint == other.fingerprint


def test_the_hash_of_a_picture_without_exif_data_is_what_it_has_always_been(write_image):
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    for folder in ("a", "b"):
        path = write_image(f"{folder}/1.png", pixels)
    assert open_dataset(path.parents[1]).content_hashes[0].tobytes().hex() == "1f9d3737289874306f002c0f355ec7b2"


@pytest.mark.parametrize("format_name", [name for name in FORMATS if name != "AVIF" or features.check("avif")])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_the_content_says_the_format_whatever_the_suffix_says(tmp_path, format_name, suffix):
    path = tmp_path / f"a{suffix}"
    Image.new("L", (6, 4), 200).save(path, format=format_name)
    assert np.abs(np.asarray(decode(path, grey=True)).astype(int) - 200).max() <= 2


@pytest.mark.parametrize("format_name", ["EPS", "PDF", "ICO", "TGA", "PCX", "ICNS", "DDS"])
def test_other_formats_of_pillow_are_not_opened(tmp_path, format_name):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png", format=format_name)
    for read in (read_header, decode, open_photo):
        with pytest.raises(InputError, match=r"a.png cannot be read as an image \(none of PNG, JPEG, BMP.*replace"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_folder_holds_images_of_every_suffix(tmp_path, suffix):
    name = next(name for name, suffixes in FORMATS.items() if suffix in suffixes)
    if name == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("L", (4, 4), 9).save(tmp_path / folder / f"1{suffix.upper()}", format=name)
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 2
    assert dataset.notes == ()


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_several_frames_the_first_is_served_and_that_is_noted(tmp_path, suffix, write_image):
    first, *rest = (Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 100, 200))
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=rest)
    images, notes = open_image_files([tmp_path / f"a.{suffix}", write_image("b.png", size=(8, 8))])
    assert notes[-1] == "1 of 2 images are animated or have several pages: the first is served"
    assert images.read(np.array([0])).max() < 3
    assert open_photo(tmp_path / f"a.{suffix}").max() < 3


def test_previews_behind_a_photo_are_no_animation(tmp_path):
    photo = Image.new("RGB", (8, 8), (50, 50, 50))
    photo.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[photo])
    assert not read_header(tmp_path / "a.jpg").several


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_do_not_matter(tmp_path):
    Image.fromarray(cornered()).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff nonsense")
    assert ImageFiles([tmp_path / "a.jpg"], (40, 60, 1)).read(np.array([0])).shape == (1, 40, 60, 1)


def test_what_is_left_out_of_class_folders_is_counted(write_image, tmp_path):
    for name in ("a/1.png", "b/1.png", "loose.png", "a/deeper/2.png", "a/deeper/3.jpg", "a/.hidden.png"):
        write_image(name)
    for name in ("a/1.heic", "a/2.HEIC", "b/words.txt", "b/none", "b/Thumbs.db", "README.md"):
        (tmp_path / name).write_bytes(b"x")
    assert open_dataset(tmp_path).notes == (
        "files with suffixes of other formats are left out: 2 .heic, 1 .txt, 1 without any",
        f"images in other folders than those that are read are left out: 1 in {tmp_path}, 2 in {tmp_path}/a/deeper",
    )


def test_what_is_left_out_of_split_folders_is_counted(write_image, tmp_path):
    for name in ("train/a/1.png", "train/b/1.png", "test/a/1.png", "train/a/deeper/2.png", "loose.png"):
        write_image(name)
    (tmp_path / "test/a/1.heic").touch()
    assert open_dataset(tmp_path).notes == (
        "files with suffixes of other formats are left out: 1 .heic",
        f"images in other folders than those that are read are left out: 1 in {tmp_path}, "
        f"1 in {tmp_path}/train/a/deeper",
    )


def test_what_is_left_out_of_a_folder_of_images_is_counted(write_image, tmp_path):
    write_image("a.png")
    (tmp_path / "a.psd").touch()
    assert "files with suffixes of other formats are left out: 1 .psd" in open_dataset(tmp_path).notes
    assert left_out([tmp_path / "nothing"]) == ()


@pytest.mark.parametrize(
    ("bits", "photometric", "message"), [(12, 1, "pixels of 12 bits are not scaled"), (16, 0, "of which 0 is white")]
)
def test_tiff_files_that_pillow_reads_too_dark_or_inverted_are_refused(tmp_path, bits, photometric, message):
    path = tmp_path / "a.tif"
    Image.fromarray(np.full((4, 4), 4095, np.uint16)).save(path)
    read_header(path)
    content = bytearray(path.read_bytes())
    for tag, value in ((258, bits), (262, photometric)):  # little-endian entries: tag, type SHORT, one value
        entry = content.index(tag.to_bytes(2, "little") + b"\3\0\1\0\0\0")
        content[entry + 8 : entry + 10] = value.to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_header(path)
