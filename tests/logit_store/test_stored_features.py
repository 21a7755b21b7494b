"""Features beside the logits: read as they were written, a view of a row at a time, or not at all."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest

from distill.cache import ExportSettings, InspectSettings, VerifySettings, export, inspect, verify
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.logit_store import FEATURE_DTYPES, Feature, LogitHeader, Shard, layout, merge_parts, open_logits
from distill.logit_store.exchange import export_logits, import_logits
from distill.logit_store.parts import parts_folder
from tests.logit_store.test_hostile_stores import external_link, external_storage, group, packed, soft_link, virtual

FORMAT_PAGE = Path(__file__).parents[2] / "docs" / "logit_format.md"
POOL, CONV = Feature("pool", (5,), "float32"), Feature("block/conv:0@3", (3, 3, 2), "float16")
ALL_ROWS = np.arange(11)


@pytest.fixture
def features():
    """float32 [11, 4, ...] of two features; views 0 and 1 are those of most stores here."""
    rng = np.random.default_rng(9)
    return {each.name: rng.normal(0, 3, (11, 4, *each.shape)).astype(np.float32) for each in (POOL, CONV)}


@pytest.fixture
def write_features(writer_for, logits, features):
    """A function that writes what is missing of a store with features, or the first `parts` of it."""

    def write(path, names=(POOL, CONV), *, parts=None, shard=None, views=2, **changes):
        given = np.concatenate([logits, logits + 1], axis=1)[:, :views]
        writer = writer_for(path, features=tuple(names), shard=shard, views=views, **changes)
        with writer:
            for rows in writer.missing()[:parts]:
                named = [each.name for each in writer.header.features]
                writer.write(rows, given[rows], {name: features[name][rows, :views] for name in named})
            return writer.finish() if parts is None else writer

    return write


def all_views(store, name):
    rows, views = np.divmod(np.arange(len(store) * store.header.views), store.header.views)
    return store.read_feature(name, rows, views).reshape(len(store), store.header.views, *store.features[name].shape)


def check_holds(store, features, names=(POOL, CONV)):
    assert [*store.features] == [each.name for each in names]
    for each in names:
        np.testing.assert_array_equal(
            all_views(store, each.name), each.decode(each.encode(features[each.name][:, : store.header.views]))
        )


# As they were written


@pytest.mark.parametrize("dtype", FEATURE_DTYPES)
def test_every_precision_rounds_as_its_own_library_does(path, write_features, features, dtype):
    types = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
    store = open_logits(write_features(path, [replace(POOL, dtype=dtype)]))
    found = all_views(store, "pool")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, features["pool"][:, :2].astype(types[dtype]).astype(np.float32))


def test_bfloat16_bits_are_those_of_ml_dtypes_for_every_kind_of_number():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**32, 100_000, np.uint32).view(np.float32)
    values = values[np.isfinite(values)]
    values = np.concatenate([values, np.float32([0, -0.0, 1.00390625, 1.01171875, 3.4e38, -3.4e38, np.inf])])
    expected = values.astype(ml_dtypes.bfloat16)
    encoded = Feature("f", (1,), "bfloat16").encode(values)
    np.testing.assert_array_equal(encoded, expected.view(np.uint16))
    assert np.isnan(
        Feature("f", (1,), "bfloat16").decode(Feature("f", (1,), "bfloat16").encode(np.float32([np.nan])))
    )


def test_features_stand_beside_logits_that_are_read_as_always(path, write_features, logits, features, faces):
    store = open_logits(write_features(path))
    np.testing.assert_array_equal(store.join(faces), logits)
    check_holds(store, features)


def test_a_store_without_features_is_of_the_first_format(stored, path, write_features):
    with h5py.File(stored) as file:
        assert file.attrs["format_version"] == 1
        assert "features" not in json.loads(file.attrs["header"])
        assert {*file} == {*layout.COLUMN_NAMES, "checksum"}
    write_features(path)
    with h5py.File(path) as file:
        assert file.attrs["format_version"] == 2


def test_rows_and_views_are_read_in_any_order_and_several_times(path, write_features, features):
    store = open_logits(write_features(path))
    rows, views = np.array([7, 0, 7, 10, 3, 7]), np.array([1, 1, 0, 0, 1, 1])
    np.testing.assert_array_equal(store.read_feature("pool", rows, views), features["pool"][rows, views])
    assert store.read_feature("pool", rows[:0], views[:0]).shape == (0, 5)


@pytest.mark.parametrize(
    ("row", "view", "what"), [(-1, 0, "rows"), (11, 0, "rows"), (3, -1, "views"), (3, 2, "views")]
)
def test_a_view_that_is_not_there_is_not_that_of_another_row(path, write_features, row, view, what):
    store = open_logits(write_features(path))
    with pytest.raises(IndexError, match=f"{what} must lie in 0"):
        store.read_feature("pool", np.array([row]), np.array([view]))


def test_a_batch_reads_its_own_bytes_alone(path, write_features, features):
    store = open_logits(write_features(path))
    place = store.contents[0].features[0]
    wanted = [(3, 1), (9, 0)]
    content = bytearray(path.read_bytes())
    keep = {place.offset + (row * 2 + view) * 20 + byte for row, view in wanted for byte in range(20)}
    for position in {*range(place.offset, place.offset + 11 * 2 * 20)} - keep:
        content[position] ^= 1
    stamp = os.stat(path)
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    found = store.read_feature("pool", *np.transpose(wanted))
    np.testing.assert_array_equal(found, features["pool"][[3, 9], [1, 0]])


def test_features_are_read_from_parts(path, write_features, features):
    write_features(path, shard=Shard(1, 2))
    folder = write_features(path, shard=Shard(2, 2))
    check_holds(open_logits(folder), features)


def test_described_format_is_the_written_one(path, write_features, features, monkeypatch):
    write_features(path, [POOL])
    monkeypatch.chdir(path.parent)
    found = {}
    for block in FORMAT_PAGE.read_text().split("```python")[1:]:
        exec(block.split("```")[0], found)
    assert found["intact"]
    np.testing.assert_array_equal(found["feature"], features["pool"][:, :2])


def test_an_export_leaves_features_out_and_comes_back_without(path, tmp_path, write_features, logits):
    store = open_logits(write_features(path))
    export_logits(store, tmp_path / "t.npz")
    again = import_logits(tmp_path / "t.npz", tmp_path / "again.h5")
    assert again.header == replace(store.header, features=())
    np.testing.assert_array_equal(again.logits, logits)


# In parts


def test_parts_of_any_size_and_shards_give_the_rows_of_one_writer(tmp_path, write_features, features):
    whole = write_features(tmp_path / "whole.h5").read_bytes()
    for number in (1, 2, 3):
        folder = write_features(tmp_path / "t.h5", shard=Shard(number, 3))
    assert merge_parts([folder], tmp_path / "t.h5").read_bytes() == whole
    for rows_per_part in (1, 5, 100):
        path = write_features(tmp_path / f"{rows_per_part}.h5", rows_per_part=rows_per_part)
        check_holds(open_logits(path), features)


@pytest.mark.parametrize("where", ["value", "checksum"])
def test_a_part_with_a_damaged_feature_is_computed_again(path, write_features, writer_for, features, where):
    write_features(path, parts=3)
    part = parts_folder(path) / "part-00001.h5"
    content = bytearray(part.read_bytes())
    value = features["pool"][5, 1].tobytes()
    checksum = layout.feature_checksums(np.frombuffer(value, np.uint8)).tobytes()
    content[content.index({"value": value, "checksum": checksum}[where])] ^= 1
    part.write_bytes(content)
    assert writer_for(path, features=(POOL, CONV)).missing() == [slice(4, 8)]
    check_holds(open_logits(write_features(path)), features)


def test_parts_with_other_features_are_refused(path, write_features, writer_for):
    write_features(path, [POOL], parts=1)
    for wanted, text in (((), "none"), ((POOL, CONV), "pool [5] float32, block/conv:0@3 [3, 3, 2] float16")):
        message = re.escape(f"parts of another run (features: stored pool [5] float32, expected {text})")
        with pytest.raises(InputError, match=message):
            writer_for(path, features=wanted).missing()


def test_killed_twenty_times_between_two_files_the_store_is_the_uninterrupted_one(
    tmp_path, write_features, monkeypatch
):
    """Every run gets a file or two into place, and ends with the next one written beside its target."""
    whole = write_features(tmp_path / "whole.h5", views=4, rows_per_part=1).read_bytes()
    path, renamed, kills, rename = tmp_path / "t.h5", [], 0, os.replace

    def rename_few(old, new):
        if len(renamed) > kills % 2:
            raise Killed
        renamed.append(new)
        rename(old, new)

    monkeypatch.setattr(os, "replace", rename_few)
    for names, views in (([POOL], 2), ([POOL, CONV], 2), ([], 4)):  # new, and what is added to the finished store
        for _ in range(12):  # one more than it has parts
            renamed.clear()
            try:
                write_features(path, names, views=views, rows_per_part=1)
                break
            except Killed:
                kills += 1
    assert kills >= 20
    assert path.read_bytes() == whole


class Killed(BaseException):
    """Stands for a process that ends without a word."""


# Added to a finished store


def test_features_are_added_to_a_store_of_logits(stored, write_features, features, logits, writer_for):
    check_holds(open_logits(write_features(stored, [POOL])), features, [POOL])
    check_holds(open_logits(write_features(stored, [CONV])), features)
    np.testing.assert_array_equal(open_logits(stored).logits, logits)
    before = stored.read_bytes()
    for wanted in ((), (CONV,), (CONV, POOL)):
        assert writer_for(stored, features=wanted).complete
        assert write_features(stored, wanted).read_bytes() == before


def test_added_features_give_the_file_that_has_them_from_the_beginning(tmp_path, stored, write_features):
    assert write_features(stored).read_bytes() == write_features(tmp_path / "whole.h5").read_bytes()


def test_added_views_have_the_features_that_the_store_has(stored, write_features, features):
    write_features(stored)
    check_holds(open_logits(write_features(stored, (), views=4)), features)


def test_shards_add_features_and_a_merge_puts_them_in_place(stored, write_features, features):
    write_features(stored, shard=Shard(1, 2))
    folder = write_features(stored, shard=Shard(2, 2))
    assert not open_logits(stored).features
    merge_parts([folder], stored)
    check_holds(open_logits(stored), features)
    with pytest.raises(InputError, match="is there already .views: stored 2, in the parts no others"):
        merge_parts([folder], stored)
    write_features(stored, views=4, shard=Shard(1, 1))  # over the parts that the merge has left
    merge_parts([folder], stored)
    check_holds(open_logits(stored), features)


def test_a_merge_takes_no_feature_away(path, tmp_path, write_features, features):
    write_features(path)
    folder = write_features(tmp_path / "other.h5", (), views=4, shard=Shard(1, 1))
    with pytest.raises(InputError, match=r"is there already \(features: stored pool .*, expected none"):
        merge_parts([folder], path)
    check_holds(open_logits(path), features)


def test_a_feature_in_another_precision_is_refused(path, write_features, writer_for):
    write_features(path, [POOL])
    message = re.escape("the feature pool [5] float32 is stored already, pool [5] float16 is wanted")
    with pytest.raises(InputError, match=message):
        writer_for(path, features=(replace(POOL, dtype="float16"),))


# What may be written


def test_features_that_do_not_fit_are_refused(path, writer_for, logits, features):
    writer, rows = writer_for(path, features=(POOL,)), slice(0, 4)
    good = features["pool"][rows, :2]
    for given, message in (
        ({}, "must be those of the header, pool; received none"),
        ({"pool": good, "else": good}, "received pool, else"),
        (
            {"pool": good[:, :1]},
            re.escape("must be float [4, 2, 5] (rows, views, then itself), received float32 [4, 1"),
        ),
        ({"pool": good.astype(int)}, "received int64"),
        ({"pool": np.full_like(good, np.nan)}, "gave the feature pool, numbers that are not finite in float32 for 4"),
    ):
        with pytest.raises(InputError, match=message):
            writer.write(rows, logits[rows], given)
    narrow = writer_for(path, features=(replace(POOL, dtype="float16"),))
    with pytest.raises(InputError, match=r"not finite in float16 for 4 samples, the first train/gesicht_0.png"):
        narrow.write(rows, logits[rows], {"pool": good + 1e5})


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([Feature("a", (1,)), Feature("a", (2,))], "a name each, and each once, received a, a"),
        ([Feature(f"f{number}", (1,)) for number in range(101)], "up to 100 features, received 101"),
    ],
)
def test_a_header_refuses_features_that_cannot_be(header, features, message):
    with pytest.raises(InputError, match=message):
        replace(header, features=tuple(features))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("", (1,)), "printable characters, not ''"),
        (("a\nb", (1,)), "printable characters"),
        (("a", ()), "one number for each image"),
        (("a", (1,), "float64"), 'unknown dtype of features "float64": did you mean float16 or bfloat16'),
    ],
)
def test_a_feature_that_cannot_be_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        Feature(*values)


# Damage


def read_all(path):
    """Return everything that is in a store."""
    store = open_logits(path)
    store.check_features()
    return [store.sample_ids, store.labels, store.content_hashes, store.logits] + [
        all_views(store, name) for name in store.features
    ]


def test_every_flipped_byte_of_features_and_their_checksums_is_seen(path, write_features):
    store = open_logits(write_features(path))
    content, stamp = path.read_bytes(), os.stat(path)
    for place in store.contents[0].features:
        of_values = range(place.offset, place.offset + 22 * place.feature.bytes_per_view)
        of_checksums = range(place.checksum_offset, place.checksum_offset + 22 * 16)
        with open(path, "r+b", buffering=0) as file:
            for position in [*of_values, *of_checksums]:
                for byte, seen in ((content[position] ^ 1 << (position % 8), True), (content[position], False)):
                    os.pwrite(file.fileno(), bytes([byte]), position)
                    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # so that it need not be opened again
                    assert notices(place) is seen, position
        path.write_bytes(flipped(content, of_checksums[-1]))
        with pytest.raises(InputError, match=r"damaged \(rows 8 to 10 do not match their checksum"):
            open_logits(path)


def notices(place):
    """Whether a feature is found damaged."""
    try:
        place.check()
    except InputError as error:
        return bool(re.search(r"damaged \(feature .* of row \d+, view \d does not match", str(error)))
    return False


def test_a_flipped_byte_anywhere_is_refused_or_matters_nothing(path, write_features):
    write_features(path)
    original, content = read_all(path), path.read_bytes()
    for position in range(0, len(content), 97):
        path.write_bytes(flipped(content, position))
        try:
            found = read_all(path)
        except InputError:
            continue
        assert all(map(np.array_equal, found, original)), position


def flipped(content, position):
    changed = bytearray(content)
    changed[position] ^= 1 << (position % 8)
    return bytes(changed)


def test_a_feature_that_was_damaged_since_is_never_given(path, write_features):
    store = open_logits(write_features(path))
    stamp, content = os.stat(path), bytearray(path.read_bytes())
    content[store.contents[0].features[0].offset + 3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(InputError, match="feature pool of row 0, view 0 does not match"):
        store.read_feature("pool", np.array([0]), np.array([0]))


def test_a_file_that_was_replaced_or_ends_early_is_to_be_opened_again(path, write_features, tmp_path):
    store = open_logits(write_features(path))
    content = path.read_bytes()
    os.replace(write_features(tmp_path / "other.h5", teacher_sha256="cd" * 32), path)
    for _ in range(2):
        with pytest.raises(InputError, match="was written anew since it was opened"):
            store.read_feature("pool", np.array([0]), np.array([0]))
        path.write_bytes(content[:-900])


@pytest.mark.parametrize("name", ["feature_00", "feature_00_checksum"])
@pytest.mark.parametrize(
    "change",
    [soft_link, external_link, group, external_storage, virtual, packed],
    ids=lambda change: change.__name__,
)
def test_only_features_that_lie_in_the_file_are_read(path, write_features, tmp_path, change, name):
    write_features(path)
    with h5py.File(path, "a") as file:
        change(file, name, tmp_path)
    with pytest.raises(InputError, match=rf"damaged \({name} (is|lies|goes) .*delete it"):
        open_logits(path)


@pytest.mark.parametrize("name", ["feature_00", "feature_00_checksum"])
def test_features_in_pieces_are_refused(path, write_features, name):
    write_features(path)
    with h5py.File(path, "a") as file:
        values = file[name][()]
        del file[name]
        file.create_dataset(name, data=values, chunks=(2, *values.shape[1:]))
    with pytest.raises(InputError, match=f"{name} does not lie in the file in one piece"):
        open_logits(path)


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ({"shape": [6]}, r"feature_00 is float32\(11, 2, 5\), expected float32\(11, 2, 6\)"),
        ({"shape": [2**31]}, "Expected `int` <"),
        ({"shape": [0]}, "Expected `int` >= 1"),
        ({"dtype": "float16"}, "feature_00 is float32"),
        ({"dtype": "int8"}, "unknown dtype"),
        ({"name": "../pool\x1b[31m"}, "printable"),
        (None, "its header is of format version 1"),
    ],
)
def test_headers_that_lie_about_features_are_refused(path, write_features, feature, message):
    write_features(path, [POOL])
    with h5py.File(path, "a") as file:
        values = json.loads(file.attrs["header"])
        values["features"] = [] if feature is None else [{**values["features"][0], **feature}]
        text = json.dumps(values).encode()
        file.attrs["header"] = np.bytes_(text)
        file.attrs["header_checksum"] = np.bytes_(layout.header_checksum(text))
    with pytest.raises(InputError, match=message):
        open_logits(path)


def test_an_unknown_feature_is_refused_with_near_names(path, write_features):
    with pytest.raises(InputError, match=r'unknown feature "poool": did you mean pool\?'):
        open_logits(write_features(path)).read_feature("poool", ALL_ROWS, ALL_ROWS * 0)


def test_a_header_with_features_comes_back_from_its_own_values(header):
    header = replace(header, features=(POOL, CONV))
    assert LogitHeader.from_dict(json.loads(json.dumps(header.to_dict()))) == header


# The command


def test_verify_reads_all_features_and_inspect_says_what_they_are(path, write_features, capsys):
    store = open_logits(write_features(path, view_spec=ViewSpec().to_dict()))
    verify(VerifySettings(store=str(path)))
    assert "features   pool [5] float32, block/conv:0@3 [3, 3, 2] float16: each is" in capsys.readouterr().out
    inspect(InspectSettings(store=str(path)))
    assert re.search(r"feature +pool \[5\] float32, 40 bytes an image\n", capsys.readouterr().out)
    path.write_bytes(flipped(path.read_bytes(), store.contents[0].features[1].offset + 21 * 36))
    with pytest.raises(InputError, match="feature block/conv:0@3 of row 10, view 1 does not match its checksum"):
        verify(VerifySettings(store=str(path)))


def test_an_export_says_that_features_stay(path, write_features, tmp_path, capsys):
    write_features(path)
    export(ExportSettings(store=str(path), out=str(tmp_path / "t.csv")))
    assert f"note: the features stay in {path}: pool, block/conv:0@3" in capsys.readouterr().out
