"""Reading, joining and refusing: what is read is what was written, or nothing is read."""

import json
import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from distill.data.dataset import UNLABELLED, ArrayImages
from distill.errors import InputError
from distill.logit_store import LogitWriter, layout, open_logits, reading

FORMAT_PAGE = Path(__file__).parents[2] / "docs" / "logit_format.md"


def same(store, other):
    columns = ("sample_ids", "content_hashes", "labels", "logits")
    return store.header == other.header and all(
        np.array_equal(getattr(store, name), getattr(other, name)) for name in columns
    )


def test_round_trip(stored, faces, header, logits):
    store = open_logits(str(stored))
    assert store.header == header
    assert store.view_spec["seed"] == 3
    assert len(store) == len(faces)
    np.testing.assert_array_equal(store.sample_ids, faces.ids)
    np.testing.assert_array_equal(store.content_hashes, faces.content_hashes)
    np.testing.assert_array_equal(store.labels, faces.labels)
    assert store.logits.dtype == np.float32
    np.testing.assert_array_equal(store.logits, logits)


def test_float16_store_gives_float32(path, written, logits):
    store = open_logits(written(path, logits_dtype="float16").finish())
    assert store.logits.dtype == np.float32
    np.testing.assert_array_equal(store.logits, logits.astype(np.float16))


@pytest.mark.parametrize("rows_per_part", [1, 5, 11, 100])
def test_any_size_of_parts_gives_the_same_rows(path, written, logits, rows_per_part):
    store = open_logits(written(path, rows_per_part=rows_per_part).finish())
    np.testing.assert_array_equal(store.logits, logits)


def test_described_format_is_the_written_one(stored, logits, monkeypatch):
    monkeypatch.chdir(stored.parent)
    code = FORMAT_PAGE.read_text().split("```python")[1].split("```")[0]
    found = {}
    exec(code, found)
    assert found["intact"]
    assert found["header"]["class_names"] == ["angry", "happy", "neutral"]
    assert found["sample_ids"][-1] == "train/été.png"
    np.testing.assert_array_equal(found["logits"], logits)


@pytest.mark.parametrize("row", [-1, 11])
def test_a_row_that_is_not_there_is_not_made_up(stored, row):
    with pytest.raises(IndexError, match=f"rows must lie in 0..10. Received: {min(row, 0)}..{max(row, 0)}"):
        open_logits(stored).read(np.array([0, row]))


def test_some_rows_are_read_without_the_blocks_of_the_others(stored, logits):
    store = open_logits(stored)
    with h5py.File(stored, "r+") as file:
        file["logits"][8:] += 1  # the last block of four rows
    np.testing.assert_array_equal(store.read(np.array([5, 0, 7, 5])), logits[[5, 0, 7, 5]])
    with pytest.raises(InputError, match="damaged .rows 8 to 10 do not match"):
        store.read(np.array([5, 9]))


def test_rows_are_read_from_parts_in_any_order(path, written, logits):
    written(path)
    order = np.random.default_rng(0).permutation(len(logits))
    np.testing.assert_array_equal(open_logits(f"{path}.parts").read(order), logits[order])


# Joining


def test_a_store_of_the_same_rows_in_another_order_in_its_place_is_noticed(path, stored, faces, logits, writer_for):
    store = open_logits(stored)
    backwards = np.arange(len(faces))[::-1]
    other = writer_for(path.with_name("other.h5"), dataset=faces.subset(backwards))
    for rows in other.missing():
        other.write(rows, logits[backwards][rows])
    os.replace(other.finish(), stored)
    assert open_logits(stored).header == store.header
    for read in (lambda: store.read(np.arange(3)), lambda: store.join(faces)):
        with pytest.raises(InputError, match="teacher.h5 was written anew since it was opened: open it again$"):
            read()
    np.testing.assert_array_equal(open_logits(stored).join(faces), logits)


def test_join_finds_shuffled_and_subset_rows_by_id(stored, faces, logits):
    order = np.random.default_rng(0).permutation(len(faces))[:7]
    joined = open_logits(stored).join(faces.subset(order))
    assert joined.dtype == np.float32
    np.testing.assert_array_equal(joined, logits[order])


def test_join_lets_a_label_change(stored, faces, logits):
    relabelled = replace(faces, labels=np.full(len(faces), UNLABELLED))
    np.testing.assert_array_equal(open_logits(stored).join(relabelled), logits)


def test_join_refuses_another_class_order(stored, faces):
    reordered = replace(faces, class_names=("happy", "angry", "neutral"))
    both = r"stored \[angry, happy, neutral\], expected \[happy, angry, neutral\]"
    with pytest.raises(InputError, match=both):
        open_logits(stored).join(reordered)


def test_join_by_name_finds_every_class_and_leaves_the_others_out(path, written, faces, logits):
    store = open_logits(written(path).finish())
    reordered = replace(faces, class_names=("Neutrality", "angry"), labels=np.zeros(len(faces), int))
    np.testing.assert_array_equal(store.join(reordered, class_match="names"), logits[:, :, [2, 0]])


def test_join_by_name_refuses_a_class_that_the_teacher_never_knew(stored, faces):
    others = replace(faces, class_names=("angry", "sad", "fear"))
    with pytest.raises(InputError, match="no sad, fear among the classes angry, happy, neutral"):
        open_logits(stored).join(others, class_match="names")


def test_an_unknown_way_to_match_classes_is_refused(stored, faces):
    with pytest.raises(InputError, match='class-match must be exact or names, received "nearest"'):
        open_logits(stored).join(faces, class_match="nearest")


def test_join_refuses_samples_it_does_not_hold(stored, faces):
    renamed = replace(faces, ids=np.array([f"other/{row}" for row in range(len(faces))]))
    with pytest.raises(InputError, match=r"no logits for 11 of 11 .*\(other/0, other/1, other/2, ...\).* faces,"):
        open_logits(stored).join(renamed)


def test_join_refuses_a_changed_pixel(stored, faces):
    pixels = faces.images.array.copy()
    pixels[6, 2, 3, 0] ^= 1
    changed = replace(faces, images=ArrayImages(pixels))
    before, after = (data.content_hashes[6].tobytes().hex() for data in (faces, changed))
    with pytest.raises(InputError, match=f"1 of 11 .* train/gesicht_6.png: stored {before}, expected {after}"):
        open_logits(stored).join(changed)


def test_join_refuses_images_that_swapped_names(stored, faces):
    swapped = replace(faces, images=ArrayImages(faces.images.array[::-1]))
    with pytest.raises(InputError, match="10 of 11 images"):  # the middle one stays
        open_logits(stored).join(swapped)


def test_join_of_no_sample_is_empty(stored, faces):
    assert open_logits(stored).join(faces.subset(np.array([], int))).shape == (0, 2, 3)


# Damage


def flipped(content, position):
    changed = bytearray(content)
    changed[position] ^= 1 << (position % 8)
    return bytes(changed)


def test_every_flipped_byte_of_the_logits_is_refused(stored):
    with h5py.File(stored) as file:
        chunks = [file["logits"].id.get_chunk_info(number) for number in range(3)]
    content = stored.read_bytes()
    row_bytes = 2 * 3 * 4
    filled = [range(c.byte_offset, c.byte_offset + min(c.size, (11 - c.chunk_offset[0]) * row_bytes)) for c in chunks]
    assert sum(map(len, filled)) == 11 * row_bytes
    for position in (p for positions in filled for p in positions):
        stored.write_bytes(flipped(content, position))
        with pytest.raises(InputError, match=r"damaged \(rows \d+ to \d+ do not match"):
            open_logits(stored)


def test_a_flipped_byte_anywhere_is_refused_or_matters_nothing(stored):
    original, content = open_logits(stored), stored.read_bytes()
    refused = 0
    for position in range(0, len(content), 19):
        stored.write_bytes(flipped(content, position))
        try:
            assert same(open_logits(stored), original), position
        except InputError:
            refused += 1
    assert refused > len(content) / 19 / 2


@pytest.mark.parametrize("share", [0.005, 0.01, 0.3, 0.9, 0.999])
def test_truncated_file_is_refused(stored, share):
    content = stored.read_bytes()
    stored.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"damaged \(.*write it again with python -m distill.teacher_logits"):
        open_logits(stored)


@pytest.mark.parametrize("content", [b"", b"angry,happy\n", b"\x89HDF"])
def test_another_kind_of_file_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a logit store"):
        open_logits(path)


def test_another_hdf5_file_is_refused(path):
    with h5py.File(path, "w") as file:
        file["logits"] = np.zeros((3, 1, 7))
    with pytest.raises(InputError, match="is HDF5, but not a logit store"):
        open_logits(path)


def test_folder_and_absent_file_are_refused(tmp_path, path):
    with pytest.raises(InputError, match="is a folder"):
        open_logits(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        open_logits(path)


def test_a_folder_is_refused_without_reading_what_lies_in_it(tmp_path, put_unreadable):
    put_unreadable("photos/large.jpg")
    with pytest.raises(InputError, match="is a folder, not a logit store"):
        open_logits(tmp_path / "photos")


def test_unfinished_store_and_its_parts_are_refused(path, written):
    written(path, parts=1)
    with pytest.raises(InputError, match="is not finished: run"):
        open_logits(path)
    with pytest.raises(InputError, match="is a part of a logit store, expected a logit store"):
        open_logits(next(path.parent.glob("*.parts/*.h5")))


def test_a_missing_checksum_is_refused(stored):
    with h5py.File(stored, "r+") as file:
        checksums = file["checksum"][:-1]
        del file["checksum"]
        file["checksum"] = checksums
    with pytest.raises(InputError, match="is damaged"):
        open_logits(stored)


def test_unknown_format_version_is_refused_by_name(stored):
    with h5py.File(stored, "a") as file:
        file.attrs["format_version"] = 3
    with pytest.raises(InputError, match="format version 3, this program reads versions 1 and 2"):
        open_logits(stored)


def test_edited_header_is_refused(stored):
    with h5py.File(stored, "a") as file:
        header = json.loads(file.attrs["header"])
        header["class_names"].reverse()
        file.attrs["header"] = np.bytes_(json.dumps(header))
    with pytest.raises(InputError, match="header does not match its checksum"):
        open_logits(stored)


def craft(path, **changes):
    """Change header fields of a file, with a checksum that agrees."""
    with h5py.File(path, "a") as file:
        text = json.dumps({**json.loads(file.attrs["header"]), **changes}).encode()
        file.attrs["header"] = np.bytes_(text)
        file.attrs["header_checksum"] = np.bytes_(layout.header_checksum(text))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows_per_block": -1}, "rows_per_block is -1"),
        ({"rows_per_block": 0}, "rows_per_block is 0"),
        ({"rows_per_block": 2.5}, r"Expected `int`, got `float` - at `\$.rows_per_block`"),
        ({"rows_per_block": 10**15}, "checksum is uint8"),
        ({"rows_per_block": 10**30}, "whole number beyond 64 bits"),
        ({"rows": 0}, "rows is 0"),
        ({"rows": True}, r"Expected `int`, got `bool` - at `\$.rows`"),
        ({"rows": 10**15}, "rows 0 to 999999999999999 of 11"),
        ({"rows": 10**15, "store_rows": 10**15}, "sample_id is .*11.*, expected .*1000000000000000"),
        ({"first_row": -4}, "first_row is -4"),
        ({"first_row": None}, r"Expected `int`, got `null` - at `\$.first_row`"),
        ({"store_rows": "11"}, r"Expected `int . null`, got `str` - at `\$.store_rows`"),
    ],
)
def test_rows_that_cannot_be_are_refused_whatever_the_checksum_says(stored, changes, message):
    craft(stored, **changes)
    with pytest.raises(InputError, match=rf"damaged \(.*{message}.*delete it"):
        open_logits(stored)


def test_rows_that_were_never_written_are_refused(stored):
    rows = 10**15  # HDF5 would make up zeros for them
    with h5py.File(stored, "a") as file:
        for name in layout.COLUMN_NAMES:
            shape, dtype, chunks = file[name].shape, file[name].dtype, file[name].chunks
            del file[name]
            file.create_dataset(name, (rows, *shape[1:]), dtype, chunks=chunks)
    craft(stored, rows=rows, store_rows=rows)
    with pytest.raises(InputError, match=r"damaged \(sample_id is there in part"):
        open_logits(stored)


def test_stored_nan_is_refused(path, written, logits, monkeypatch):
    logits[3, 1, 2], logits[9, 0, 0] = np.nan, np.inf
    with monkeypatch.context() as patch:
        patch.setattr(LogitWriter, "_checked_logits", lambda self, rows, values: values)
        patch.setattr(reading, "_check_span", lambda *span: None)
        written(path).finish()
    with pytest.raises(InputError, match=r"damaged \(it holds 2 logits that are NaN or infinite"):
        open_logits(path)
