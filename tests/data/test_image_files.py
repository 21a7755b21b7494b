import tracemalloc

import numpy as np
import pytest
from PIL import Image

from distill.data.dataset import Dataset
from distill.data.image_files import ImageFiles, open_image_files
from distill.errors import InputError


def as_image(pixels, mode):
    return Image.frombytes(mode, pixels.shape[1::-1], pixels.tobytes())


def test_grey_files_are_served_as_they_are(write_image):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 7), np.uint8)
    paths = [write_image(f"{row}.png", image) for row, image in enumerate(pixels)]
    images, notes = open_image_files(paths)
    assert images.shape == (5, 7, 1)
    assert notes == ()
    np.testing.assert_array_equal(images.read(np.array([2, 0, 2]))[..., 0], pixels[[2, 0, 2]])


def test_one_coloured_file_makes_all_rgb(write_image):
    paths = [write_image("grey.png", 9), write_image("red.png", (255, 0, 0), mode="RGB")]
    images, notes = open_image_files(paths)
    assert images.shape == (4, 4, 3)
    assert notes == ("1 of 2 images are in colour, so all are served as RGB",)
    assert images.read(np.array([0, 1]))[:, 0, 0].tolist() == [[9, 9, 9], [255, 0, 0]]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, [255]),
        ("LA", (200, 255), [200]),
        ("LA", (200, 0), [0]),
        ("I;16", 257 * 130, [130]),
        ("I;16", 65535, [255]),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 0), [0, 0, 0]),
        ("P", 0, [0, 0, 0]),
    ],
)
def test_other_modes_are_converted(write_image, mode, colour, expected):
    images, _ = open_image_files([write_image("a.png", colour, mode=mode)])
    assert images.read(np.array([0]))[0, 0, 0].tolist() == expected


def test_the_most_common_size_wins_and_the_rest_is_noted(write_image):
    paths = [write_image(f"{row}.png", 50, size=size) for row, size in enumerate([(6, 4), (6, 4), (8, 8)])]
    images, notes = open_image_files(paths)
    assert images.shape == (4, 6, 1)
    assert notes == ("1 of 3 images have another size and are resized to 4x6",)
    assert (images.read(np.arange(3)) == 50).all()


def test_of_crops_of_any_size_the_median_wins_and_one_banner_does_not(write_image):
    sizes = [(width, 40 + width) for width in range(30, 51)]
    paths = [write_image(f"{row}.png", size=size) for row, size in enumerate([*sizes, (2400, 6)])]
    assert open_image_files(paths)[0].shape == (79, 40, 1)


def test_of_crops_of_like_sizes_the_largest_wins_as_ever(write_image):
    paths = [write_image(f"{width}.png", size=(width, width)) for width in range(30, 51)]
    assert open_image_files(paths)[0].shape == (50, 50, 1)


def test_of_equally_common_sizes_the_larger_wins(write_image):
    paths = [write_image("small.png", size=(2, 2)), write_image("large.png", size=(3, 5))]
    assert open_image_files(paths)[0].shape == (5, 3, 1)


def test_a_larger_image_is_averaged_down(write_image):
    stripes = np.tile(np.array([0, 255], np.uint8), (8, 4))
    images = ImageFiles([write_image("stripes.png", stripes)], (2, 2, 1))
    served = images.read(np.array([0]))
    assert 100 < served.min() <= served.max() < 155  # without antialiasing it would be all black or all white


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(InputError, match="a.png cannot be read as an image .*: replace or remove it"):
        open_image_files([tmp_path / "a.png"])


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_a_truncated_image_is_named(write_image, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    path = write_image(f"a.{suffix}", pixels)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=f"a.{suffix} cannot be read as an image"):
        open_image_files([path])[0].read(np.array([0]))


def test_a_missing_file_is_named(write_image):
    path = write_image("a.png")
    images, _ = open_image_files([path])
    path.unlink()
    with pytest.raises(InputError, match="a.png cannot be read as an image .*No such file"):
        images.read(np.array([0]))


@pytest.mark.parametrize("size", [(10_000, 5_001), (20_000, 20_000)])
def test_an_image_too_large_to_be_a_face_is_refused_by_its_header(tmp_path, size):
    header = b"P5 %d %d 255\n" % size  # netpbm, recognised by its first bytes, needs no pixels to say its size
    (tmp_path / "a.png").write_bytes(header)
    with pytest.raises(InputError, match="a.png has more than 50 million pixels"):
        open_image_files([tmp_path / "a.png"])


def test_images_are_streamed(write_image):
    """Memory depends on the block, not on the number of images: 200 images would be 3.2 MB."""
    paths = [write_image(f"{row}.bmp", row, size=(128, 128)) for row in range(200)]
    images, _ = open_image_files(paths)
    assert not [value for value in vars(images).values() if isinstance(value, np.ndarray)]
    dataset = Dataset(
        name="many",
        ids=np.array([path.name for path in paths]),
        labels=np.zeros(200, int),
        class_names=("a", "b"),
        images=images,
        splits=np.full(200, ""),
    )
    tracemalloc.start()
    means = [block.mean(axis=(1, 2, 3)) for _, block in dataset.blocks(rows=10)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(np.concatenate(means), np.arange(200))
    assert peak < 1_000_000


# Whole photos


def gradient(height, width):
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([255 * rows // height, 255 * columns // width, 0 * rows + 128], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        Image.fromarray(gradient(1500, 2000)).save(folder / f"{number}.jpg", quality=95)
    return sorted(folder.iterdir())


def test_whole_photos_are_noticed_and_served_smaller(photos):
    images, notes = open_image_files(photos)
    assert images.shape == (384, 512, 3)
    assert notes[0].startswith("3 of 3 images are far larger than any network takes")
    assert f"python -m distill.crop_faces {photos[0].parent} --out FACES" in notes[0]
    served = images.read(np.array([0]))[0].astype(int)
    np.testing.assert_allclose(served, gradient(384, 512), atol=4)


def test_images_as_large_as_networks_take_are_no_photos(tmp_path):
    Image.new("L", (512, 512)).save(tmp_path / "face.png")
    images, notes = open_image_files([tmp_path / "face.png"])
    assert (images.shape, notes) == ((512, 512, 1), ())


def test_a_photo_that_lies_on_its_side_is_shrunk_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    Image.fromarray(np.rot90(gradient(2000, 1500))).save(tmp_path / "phone.jpg", quality=95, exif=exif)
    images, _ = open_image_files([tmp_path / "phone.jpg"])
    assert images.shape == (512, 384, 3)
    np.testing.assert_allclose(images.read(np.array([0]))[0].astype(int), gradient(512, 384), atol=4)


def test_memory_does_not_depend_on_the_size_of_the_files(photos):
    images, _ = open_image_files(photos * 40)
    dataset = Dataset(
        name="photos",
        ids=np.array([f"{row}" for row in range(len(images))]),
        labels=np.zeros(len(images), np.int64),
        class_names=("face",),
        images=images,
        splits=np.full(len(images), ""),
    )
    read = [block.nbytes for _, block in dataset.blocks()]
    assert sum(read) == 120 * 384 * 512 * 3
    assert max(read) <= 64 * 2**20
