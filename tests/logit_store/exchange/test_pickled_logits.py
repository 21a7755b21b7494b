"""Pickled teacher logits become a logit store, and meet a dataset by file name."""

import hashlib
import pickle
from dataclasses import replace

import numpy as np
import pytest

from distill.data.dataset import UNLABELLED, ArrayImages, Dataset
from distill.data.expressions import CLASS_ORDERS
from distill.errors import InputError
from distill.logit_store import UNKNOWN_PIXELS, LogitWriter, open_logits
from distill.logit_store.exchange.pickled_logits import import_pickled_logits

CLASSES = CLASS_ORDERS["microexpnet"]
ROWS = {
    "/home/a/batch0/x.jpeg": [float(i) for i in range(8)],
    "/home/a/batch1/y.jpeg": [-1.5] * 7 + [2.25],
    r"C:\a\batch1\é.jpeg": [9.0] + [0.0] * 7,
}


@pytest.fixture
def pickled(tmp_path):
    """A function that pickles `value` and returns the path."""

    def write(value, name="logits.pickle"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(value, 3))
        return path

    return write


@pytest.fixture
def out(tmp_path):
    return tmp_path / "l.h5"


def faces(ids, class_names=CLASSES):
    pixels = np.arange(len(ids) * 4, dtype=np.uint8).reshape(-1, 2, 2, 1)
    count = len(ids)
    return Dataset("faces", np.array(ids), np.zeros(count, int), class_names, ArrayImages(pixels), np.full(count, ""))


@pytest.mark.parametrize(
    ("name", "entries", "mean_top_probability"),
    [  # published for CK+ alone
        ("CK", 1574, {1: 0.997, 4: 0.905, 8: 0.605, 16: 0.332}),
        ("OuluCASIA", 1440, {}),
    ],
)
def test_published_logits(shared, out, name, entries, mean_top_probability):
    path = shared / "microexpnet" / f"ResNet50_{name}_SoftmaxIn.pickle"
    store = import_pickled_logits(path, out)
    assert store.logits.shape == (entries, 1, 8)
    published = pickle.loads(path.read_bytes(), encoding="latin1")
    assert store.sample_ids.tolist() == list(published)
    np.testing.assert_array_equal(store.logits[:, 0], np.array(list(published.values()), np.float32))
    for temperature, expected in mean_top_probability.items():
        odds = np.exp(store.logits[:, 0].astype(np.float64) / temperature)
        assert (odds / odds.sum(1, keepdims=True)).max(1).mean() == pytest.approx(expected, abs=5e-4)


def test_what_the_store_says_of_itself(pickled, out):
    path = pickled(ROWS)
    import_pickled_logits(path, out, teacher_name="ResNet50", teacher_input_shape=(96, 96, 3))
    store = open_logits(out)
    header = store.header
    assert header.class_names == CLASSES
    assert (header.views, header.teacher_name, header.teacher_input_shape) == (1, "ResNet50", (96, 96, 3))
    assert header.teacher_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (header.dataset_fingerprint, header.numeric_policy) == ("unknown", "unknown")
    assert set(store.labels) == {UNLABELLED}
    assert store.content_hashes.tobytes() == bytes(16 * 3)
    assert not store.pixels_known
    assert store.sample_ids.tolist() == list(ROWS)


def test_the_same_import_again_changes_nothing(pickled, out):
    path = pickled(ROWS)
    import_pickled_logits(path, out)
    before = out.read_bytes()
    import_pickled_logits(path, out)
    assert out.read_bytes() == before
    with pytest.raises(InputError, match="already holds other logits .*teacher_sha256"):
        import_pickled_logits(pickled({**ROWS, "z": [1.0] * 8}), out)
    assert out.read_bytes() == before


@pytest.mark.parametrize("order", CLASS_ORDERS)
def test_every_order_of_classes(pickled, out, order):
    names = CLASS_ORDERS[order]
    assert import_pickled_logits(pickled({"a": [2.0] * len(names)}), out, classes=order).class_names == names


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0], "holds a list: expected a dictionary"),
        ({}, "holds an empty dictionary"),
        ({1: [1.0] * 8}, "holds the key of type int: expected paths"),
        ({b"a": [1.0] * 8}, "holds the key of type bytes"),
        ({10**5000: [1.0] * 8}, "holds the key of type int"),
        ({"a" * 4096: [1.0] * 8} | {str(i): [1.0] * 8 for i in range(62_000)}, "ids, some of them very long"),
        ({"": [1.0] * 8}, "holds the sample id ''"),
        ({"a\0": [1.0] * 8}, "without NUL"),
        ({"a" * 4097: [1.0] * 8}, "up to 4096 characters"),
        ({"a": [1.0] * 8, "b": 3.0}, "something else than a list of floats for 'b'"),
        ({"a": [1.0] * 7 + [1]}, "something else than a list of floats for 'a'"),
        ({"a": [1.0] * 7 + [True]}, "something else than a list of floats"),
        ({"a": [[1.0]] * 8}, "something else than a list of floats"),
        ({"a": "12345678"}, "something else than a list of floats"),
        ({"a": [1.0] * 8, "b": [1.0] * 7}, "holds 7 logits for 'b', expected 8 .*neutral"),
        ({"a": []}, "holds 0 logits for 'a'"),
        ({"a": [1.0] * 8, "b": [float("nan")] + [1.0] * 7}, "NaN or too large for 1 ids, the first 'b'"),
        ({"a": [1e300] * 8}, "NaN or too large for 1 ids, the first 'a'"),
        ({"a": [0.125] * 8, "b": [0.25] * 4 + [0.0] * 4}, "holds probabilities"),
        (np.zeros(8), "which is refused"),
    ],
)
def test_other_contents_are_refused_and_leave_nothing(pickled, out, value, message):
    path = pickled(value)
    with pytest.raises(InputError, match=message) as error:
        import_pickled_logits(path, out)
    assert len(str(error.value).splitlines()) == 1
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_lone_surrogate_is_refused(tmp_path, out):
    path = tmp_path / "p.pickle"
    path.write_bytes(b"\x80\x02}X\x03\x00\x00\x00\xed\xa0\x80]" + b"(" + b"G?\xf0\0\0\0\0\0\0" * 8 + b"es.")
    with pytest.raises(InputError, match="holds the sample id"):
        import_pickled_logits(path, out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": "ckplus"}, "holds 8 logits for .*, expected 7"),
        ({"classes": "microexpnt"}, 'unknown class order "microexpnt": did you mean microexpnet?'),
        ({"classes": "?"}, "choose one of fer2013, ferplus, microexpnet, ckplus"),
        ({"teacher_input_shape": (0, 224, 3)}, "teacher-input-shape must be height, width and channels"),
    ],
)
def test_wrong_options(pickled, out, options, message):
    with pytest.raises(InputError, match=message):
        import_pickled_logits(pickled(ROWS), out, **options)


def test_an_output_that_holds_something_else_is_left_alone(pickled, out):
    out.write_text("precious")
    with pytest.raises(InputError, match="is not a logit store.*choose another --out"):
        import_pickled_logits(pickled(ROWS), out)
    assert out.read_text() == "precious"


class TestJoin:
    @pytest.fixture
    def store(self, pickled, out):
        return import_pickled_logits(pickled(ROWS), out)

    def test_by_id(self, store):
        ids = list(ROWS)[::-1]
        np.testing.assert_array_equal(store.join(faces(ids))[:, 0], np.array([ROWS[i] for i in ids], np.float32))

    def test_by_file_name_of_any_system(self, store):
        joined = store.join(faces(["train/sad/é.jpeg", r"other\y.jpeg", "x.jpeg"]))
        np.testing.assert_array_equal(joined[:, 0], np.array(list(ROWS.values()), np.float32)[[2, 1, 0]])

    def test_by_both(self, store):
        joined = store.join(faces(["train/é.jpeg", "/home/a/batch0/x.jpeg"]))
        np.testing.assert_array_equal(joined[:, 0], np.array(list(ROWS.values()), np.float32)[[2, 0]])

    def test_a_name_that_is_absent(self, store):
        with pytest.raises(InputError, match=r"no logits for 1 of 2 samples of faces \(train/w.jpeg\)"):
            store.join(faces(["x.jpeg", "train/w.jpeg"]))

    def test_a_double_in_the_data(self, store):
        double = r"faces has two samples of the file name x.jpeg \(a/x.jpeg, b/x.jpeg\)"
        with pytest.raises(InputError, match=double):
            store.join(faces(["a/x.jpeg", "y.jpeg", "b/x.jpeg"]))
        with pytest.raises(InputError, match="two samples of the file name x.jpeg"):  # one of them by id
            store.join(faces(["/home/a/batch0/x.jpeg", "b/x.jpeg"]))

    def test_a_double_in_the_store(self, pickled, tmp_path):
        path = pickled({**ROWS, "/b/x.jpeg": [1.0] * 8})
        store = import_pickled_logits(path, tmp_path / "double.h5")
        double = r"double.h5 has two samples of the file name x.jpeg \(/home/a/batch0/x.jpeg, /b/x.jpeg\)"
        with pytest.raises(InputError, match=double):
            store.join(faces(["y.jpeg"]))
        assert len(store.join(faces(list(ROWS)))) == 3  # the ids say which is meant

    def test_other_classes(self, store):
        with pytest.raises(InputError, match="class names of .* differ"):
            store.join(faces(list(ROWS), CLASS_ORDERS["ferplus"]))

    def test_where_some_images_are_known_those_are_compared(self, store, tmp_path):
        data = faces(list(ROWS))
        hashes = data.content_hashes.copy()
        hashes[1] = UNKNOWN_PIXELS
        columns = {"sample_ids": data.ids, "content_hashes": hashes, "labels": data.labels}
        writer = LogitWriter(tmp_path / "some.h5", replace(store.header, dataset_name="some"), **columns)
        for rows in writer.missing():
            writer.write(rows, store.logits[rows])
        some = open_logits(writer.finish())
        assert (some.pixels_known, some.unknown_pixels) == (True, 1)
        np.testing.assert_array_equal(some.join(data), store.logits)
        others = replace(data, images=ArrayImages(data.images.array + 1))
        with pytest.raises(
            InputError, match=f"2 of 3 images of faces are not those .* the first {data.ids[0]}: stored"
        ):
            some.join(others)
        with pytest.raises(InputError, match="no logits for 1 of 1"):  # nor is it joined by file name
            some.join(faces(["x.jpeg"]))


def test_nothing_in_the_pickle_is_called(tmp_path, out):
    made = str(tmp_path / "made").encode()
    (tmp_path / "p.pickle").write_bytes(b"cos\nmkdir\n(V" + made + b"\ntR.")
    with pytest.raises(InputError, match="which is refused"):
        import_pickled_logits(tmp_path / "p.pickle", out)
    assert [each.name for each in tmp_path.iterdir()] == ["p.pickle"]
