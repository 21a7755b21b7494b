"""Columns of text and names: they give what NumPy's own text gives, in fewer bytes."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from distill.data import columns
from distill.data.columns import (
    TEXT,
    Names,
    count_distinct,
    encoded,
    encoded_bytes,
    is_ascending,
    rows_in_order,
    text_column,
)
from distill.data.conversion import FORMATS, convert
from distill.data.dataset import Dataset
from distill.data.open_dataset import open_dataset
from distill.errors import InputError

LONG = "a name of a file that does not fit into sixteen bytes"


@pytest.fixture(params=[3, 4096])
def small_blocks(request, monkeypatch):
    """Let texts be gone through a few at a time, too."""
    monkeypatch.setattr(columns.blocks, "__defaults__", (request.param,))


@pytest.fixture
def texts(rng):
    """Texts of all kinds in no order, as NumPy has them."""
    return rng.permutation(np.array(["", "a", "b", "é", "z", "\U0001f600", LONG, LONG + "b", *map(str, range(50))]))


@pytest.mark.usefixtures("small_blocks")
class TestText:
    @pytest.mark.parametrize("given", [np.asarray, np.ndarray.tolist, lambda texts: texts.astype(object)])
    def test_a_column_is_what_was_given(self, texts, given):
        column = text_column(given(texts), what="file name", of="x")
        assert column.dtype == TEXT
        assert column.tolist() == texts.tolist()
        np.testing.assert_array_equal(column == LONG, texts == LONG)
        np.testing.assert_array_equal(np.isin(column, ["é", "1"]), np.isin(texts, ["é", "1"]))
        assert text_column(column, what="file name", of="x") is column

    def test_what_is_no_text_in_utf_8_is_named(self):
        with pytest.raises(InputError, match=r"x has the file name .b.udc80.*rename it"):
            text_column(np.array(["a", "b\udc80", "c", "d"]), what="file name", of="x")

    def test_the_order_is_that_of_a_stable_sort(self, texts):
        for given in (texts, np.sort(texts), np.repeat(texts, 3), texts[:1], texts[:0], np.full(9, "same")):
            rows = [*rows_in_order(given.astype(TEXT))]
            np.testing.assert_array_equal(np.concatenate([[], *rows]), np.argsort(given, kind="stable"))
            assert is_ascending(given.astype(TEXT)) == (sorted(set(given.tolist())) == given.tolist())

    def test_different_ones_are_counted_even_where_hashes_are_the_same(self, texts, monkeypatch):
        some = np.concatenate([texts, texts[:5], texts[:2]]).astype(TEXT)
        assert count_distinct(some) == len(texts)
        monkeypatch.setattr(columns, "_codes", lambda texts: np.array([len(text) for text in texts]))
        assert count_distinct(some) == len(texts)

    def test_the_bytes_are_those_of_utf_8(self, texts):
        column = texts.astype(TEXT)
        assert encoded_bytes(column) == max(len(text.encode()) for text in texts.tolist())
        assert encoded(column).tolist() == [text.encode() for text in texts.tolist()]
        assert encoded(column, 80).dtype == "S80"
        assert encoded(column[:0]).dtype == "S1"


@pytest.fixture
def names():
    return np.array(["train", "", "test", "train", "validation", "train"])


@pytest.mark.usefixtures("small_blocks")
class TestNames:
    def test_they_compare_and_count_as_text(self, names):
        column = Names.of(names)
        assert column.codes.nbytes == column.nbytes == len(names)
        for name in ("train", "", "test", "none"):
            np.testing.assert_array_equal(column == name, names == name)
            np.testing.assert_array_equal(column != name, names != name)
            assert (name in column) == (name in names)
        np.testing.assert_array_equal(column == names[::-1], names == names[::-1])
        np.testing.assert_array_equal(np.isin(column, ["test", ""]), np.isin(names, ["test", ""]))
        np.testing.assert_array_equal(column.isin(["test", ""]), np.isin(names, ["test", ""]))
        np.testing.assert_array_equal(np.where(column == "", "train", column), np.where(names == "", "train", names))
        assert np.unique(column).tolist() == np.unique(names).tolist()
        assert column.tolist() == [*column] == names.tolist()
        assert column.astype("U10").dtype == np.asarray(column, "U10").dtype == "U10"
        assert (len(column), column.size, column.shape, np.asarray(column).dtype) == (6, 6, (6,), TEXT)
        assert column.astype(str).tolist() == column.astype(object).tolist() == names.tolist()
        written = column.copy()
        written[0] = "another"
        assert [written[0], column[0]] == ["another", names[0]]

    def test_rows_are_taken_as_from_an_array(self, names):
        column = Names.of(names)
        assert column[2] == "test"
        for rows in (slice(1, 4), np.array([5, 0]), names == "train", np.empty(0, int)):
            assert column[rows].tolist() == names[rows].tolist()
        assert "test" not in column[:2]
        assert column.replaced(column == "", "test").tolist() == np.where(names == "", "test", names).tolist()
        assert column.replaced(np.array([0]), "new").tolist() == ["new", *names[1:].tolist()]
        assert Names.of(column) is column
        assert Names.of(names[:0]).tolist() == []

    def test_there_may_be_255_of_them(self):
        assert Names.of([*map(str, range(255))])[254] == "254"
        with pytest.raises(ValueError, match="more than 255"):
            Names.of([*map(str, range(256))])


def test_a_data_set_takes_few_bytes_for_an_image():
    count = 1000
    faces = Dataset.from_arrays(np.zeros((count, 1, 1, 1), np.uint8), np.arange(count) % 7, splits="train")
    held = (faces.ids, faces.labels, faces.splits, faces.content_hashes)
    assert sum(column.nbytes for column in held) == 37 * count


def test_a_label_that_no_class_has_is_not_made_one():
    faces = Dataset.from_arrays(np.zeros((2, 1, 1, 1), np.uint8), [0, 1])
    with pytest.raises(ValueError, match=r"Labels of arrays must be numbers of classes. Received: 0..4294967297"):
        replace(faces, labels=np.array([0, 2**32 + 1]))
    with pytest.raises(TypeError, match="float64"):
        replace(faces, labels=np.array([0, 0.5]))


@pytest.mark.parametrize("format", FORMATS)
def test_shards_go_to_another_process_with_one_column_of_ids(tmp_path, rng, format):
    images = rng.integers(0, 256, (13, 4, 4, 1), np.uint8)
    ids = [f"{LONG}/é{row}" for row in range(13)]
    convert(Dataset.from_arrays(images, np.arange(13) % 3, ids=ids), tmp_path / "shards", format=format)
    faces = open_dataset(tmp_path / "shards")
    sent = pickle.dumps(faces)
    received = pickle.loads(sent)
    assert sent.count(f"{LONG}/é7".encode()) == 1
    assert received.ids.tolist() == faces.ids.tolist()
    assert received.splits.tolist() == faces.splits.tolist()
    assert received.fingerprint == faces.fingerprint
    np.testing.assert_array_equal(received.subset([3, 1]).read([1, 0]), faces.read([1, 3]))
