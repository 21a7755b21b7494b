"""Logits that strangers wrote as .npz or CSV are looked at before they are believed, and become a store."""

import hashlib
import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from distill.data.dataset import UNLABELLED
from distill.data.expressions import CLASS_ORDERS
from distill.errors import InputError
from distill.logit_store import UNKNOWN, UNKNOWN_PIXELS
from distill.logit_store.exchange import npz_logits
from distill.logit_store.exchange.formats import PICKLES, import_logits
from distill.logit_store.exchange.logit_table import UNKNOWN_SHAPE


@pytest.fixture
def out(tmp_path):
    return tmp_path / "imported" / "l.h5"


@pytest.fixture
def npz(tmp_path):
    """A function that saves arrays, logits and sample ids among them unless replaced, and returns the path."""

    def save(name="teacher.npz", **arrays):
        path = tmp_path / name
        given = {"logits": np.eye(3) * 4, "sample_id": np.array(["a", "b", "c"]), **arrays}
        np.savez(path, **{key: value for key, value in given.items() if value is not None})
        return path

    return save


@pytest.fixture
def csv_file(tmp_path):
    """A function that writes lines and returns the path."""

    def write(*lines, name="teacher.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes("\n".join(lines).encode(encoding))
        return path

    return write


def refusal(path, out, **options):
    """Return the one line that refuses `path`, which leaves no trace."""
    with pytest.raises(InputError) as error:
        import_logits(path, out, **options)
    assert len(str(error.value).splitlines()) == 1
    assert not out.parent.exists() or not list(out.parent.iterdir())
    return str(error.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("shape", [(3, 3), (3, 1, 3)])
def test_an_npz_of_logits_and_ids_is_enough(npz, out, dtype, shape):
    logits = (np.arange(9).reshape(shape) / 7).astype(dtype)
    path = npz(logits=logits)
    store = import_logits(path, out, classes="sadness,Joy,cat")
    assert store.class_names == ("sad", "happy", "cat")
    np.testing.assert_array_equal(store.logits[:, 0], logits.reshape(3, 3).astype(np.float32))
    assert store.sample_ids.tolist() == ["a", "b", "c"]
    assert set(store.labels) == {UNLABELLED}
    assert not store.pixels_known
    header = store.header
    assert (header.numeric_policy, header.dataset_fingerprint) == (UNKNOWN, UNKNOWN)
    assert (header.teacher_name, header.teacher_input_shape) == ("teacher", UNKNOWN_SHAPE)
    assert header.teacher_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert header.logits_dtype == ("float16" if dtype == np.float16 else "float32")
    assert header.views == 1


def test_an_npz_may_hold_more(npz, out):
    hashes = np.arange(48, dtype=np.uint8).reshape(3, 16)
    path = npz(
        sample_id=np.array(["a", "b", "ü"]).astype("U9"),
        content_hash=hashes,
        label=np.array([2, -1, 0], np.int8),
        class_names=np.array([b"Anger", b"neutral", b"cat"]),
        extra=np.zeros(3),
    )
    store = import_logits(path, out, teacher_name="vgg", teacher_input_shape=(48, 48, 1))
    assert store.class_names == ("angry", "neutral", "cat")
    assert store.labels.tolist() == [2, -1, 0]
    np.testing.assert_array_equal(store.content_hashes, hashes)
    assert (store.header.teacher_name, store.header.teacher_input_shape) == ("vgg", (48, 48, 1))


def test_ids_may_be_bytes(npz, out):
    path = npz(sample_id=np.char.encode(np.array(["a", "é", "c"]), "utf-8"))
    assert import_logits(path, out, classes="a,b,c").sample_ids.tolist() == ["a", "é", "c"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_of_ids_and_classes_is_enough(csv_file, out, encoding):
    lines = ("sample_id,Happiness,cat,ANGER", "b.png,1,2.5,-3e1", "", '"a,1.png", 0 ,0,1')
    store = import_logits(csv_file(*lines, encoding=encoding), out)
    assert store.class_names == ("happy", "cat", "angry")
    assert store.sample_ids.tolist() == ["b.png", "a,1.png"]
    assert store.logits.tolist() == [[[1, 2.5, -30]], [[0, 0, 1]]]
    assert set(store.labels) == {UNLABELLED}
    assert not store.pixels_known
    assert store.header.teacher_input_shape == UNKNOWN_SHAPE


def test_a_csv_may_hold_more_in_any_order(csv_file, out):
    path = csv_file(
        "anger, Label ,SAMPLE_ID,View,happy,content_hash",
        f"1,joy,a,0,2,{'0f' * 16}",
        "3,,b,0,4,",
        "5,Angry,c,0,9,",
    )
    store = import_logits(path, out)
    assert store.class_names == ("angry", "happy")
    assert store.labels.tolist() == [1, UNLABELLED, 0]
    assert store.content_hashes[0].tobytes() == b"\x0f" * 16
    assert (store.content_hashes[1:] == UNKNOWN_PIXELS).all()


def test_numbered_columns_take_the_classes_that_are_given(csv_file, out):
    path = csv_file("sample_id,0,1,2,3,4,5,6", "a,7,6,5,4,3,2,1")
    assert "does not name its 7 classes: give --classes, one of fer2013" in refusal(path, out)
    assert import_logits(path, out, classes="fer2013").class_names == CLASS_ORDERS["fer2013"]


NUMBERS = {
    "descending": ["6", "5", "4", "3", "2", "1", "0"],
    "from 1 on": ["7", "1", "6", "2", "5", "3", "4"],
    "as text": sorted(map(str, range(12))),
    "with zeros before": ["02", "00", "01"],
}


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
def test_numbered_classes_are_found_by_their_number(csv_file, npz, out, suffix, numbers):
    """Each logit, and each label, is the number of its class."""
    ascending = sorted(map(int, numbers))
    names = [f"c{number}" for number in ascending]
    if suffix == ".csv":
        line = ",".join(f"{int(number)}.5" for number in numbers)
        path = csv_file(f"sample_id,label,{','.join(numbers)}", *(f"{n},{n},{line}" for n in numbers), f"x,,{line}")
    else:
        logits = np.tile([int(number) + 0.5 for number in numbers], (len(numbers) + 1, 1))
        labels = np.array([*range(len(numbers)), UNLABELLED])
        path = npz(logits=logits, sample_id=np.array([*numbers, "x"]), class_names=np.array(numbers), label=labels)
    store = import_logits(path, out, classes=",".join(names))
    assert store.class_names == tuple(names)
    assert (store.logits[:, 0] == np.array(ascending) + 0.5).all()
    *named, unlabelled = store.labels
    assert [names[label] for label in named] == [f"c{int(number)}" for number in numbers]
    assert unlabelled == UNLABELLED


@pytest.mark.parametrize("numbers", ["1,2,4", "2,3,4", "0,1,01", "0,1,²", "0,1," + "9" * 5000])
def test_classes_numbered_otherwise_are_refused(csv_file, out, numbers):
    message = refusal(csv_file(f"sample_id,{numbers}", "a,7,6,5"), out, classes="a,b,c")
    assert "numbers its 3 classes" in message
    assert message.endswith("expected 0..2 or 1..3, each once and in any order, or names")


def test_classes_that_the_file_names_may_be_confirmed_not_changed(csv_file, out):
    path = csv_file("sample_id,angry,happy", "a,7,6")
    assert "names the classes angry, happy: omit --classes happy,angry" in refusal(path, out, classes="happy,angry")
    assert import_logits(path, out, classes="anger,joy").class_names == ("angry", "happy")


def test_a_stranger_meets_a_data_set(faces, npz, out, rng):
    logits = rng.normal(0, 3, (len(faces), 3))
    order = rng.permutation(len(faces))
    ids = np.array(faces.ids.tolist())  # NumPy would pickle its `StringDType`
    arrays = {"sample_id": ids[order], "logits": logits[order], "content_hash": faces.content_hashes[order]}
    store = import_logits(npz(**arrays, class_names=np.array(faces.class_names)), out)
    np.testing.assert_array_equal(store.join(faces)[:, 0], logits.astype(np.float32))


@pytest.mark.parametrize("suffix", PICKLES)
def test_pickles_go_their_way(tmp_path, out, suffix):
    path = tmp_path / f"p{suffix}"
    path.write_bytes(pickle.dumps({"a": [2.0] * 8}))
    store = import_logits(path, out)
    assert store.class_names == CLASS_ORDERS["microexpnet"]
    assert store.header.teacher_input_shape == (224, 224, 3)
    options = {"classes": "affectnet", "teacher_name": "vgg", "teacher_input_shape": (96, 96, 3)}
    header = import_logits(path, tmp_path / "other.h5", **options).header
    assert (header.class_names, header.teacher_name, header.teacher_input_shape) == (
        CLASS_ORDERS["affectnet"],
        "vgg",
        (96, 96, 3),
    )


def test_several_views_of_a_stranger_are_refused(npz, out):
    assert "holds 2 views" in refusal(npz(logits=np.zeros((3, 2, 7))), out, classes="fer2013")


# Refused


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"logits": None}, "lacks logits, float16, float32 or float64 [N, C] or [N, V, C]"),
        (
            {"sample_id": None, "logits": None},
            "lacks logits, float16, float32 or float64 [N, C] or [N, V, C], sample_id",
        ),
        ({"logits": np.eye(3, dtype=int)}, "holds logits as int64 [3, 3]: expected float16"),
        ({"logits": np.zeros(3)}, "holds logits as float64 [3]"),
        ({"logits": np.eye(3) * 1j}, "holds logits as complex128"),
        ({"logits": np.zeros((0, 3)), "sample_id": np.zeros(0, "U1")}, "logits is empty"),
        ({"logits": np.zeros((3, 0))}, "logits is empty"),
        ({"sample_id": np.array([1, 2, 3])}, "holds sample_id as int64 [3]: expected text [N]"),
        ({"sample_id": np.array(["a", "b"])}, "holds sample_id [2] with logits [3, 3]"),
        ({"sample_id": np.array(["a", "b", "a"])}, "holds the sample id 'a' 2 times"),
        ({"sample_id": np.array(["a", "b", ""])}, "holds the sample id ''"),
        ({"sample_id": np.array(["a", "b", "\ud800"])}, "holds the sample id '\\ud800'"),
        ({"sample_id": np.array(["a", "b", "c" * 4097])}, "up to 4096 characters"),
        (
            {"sample_id": np.array([b"a", b"b", b"\xff"])},
            "holds sample_id that is not text: expected text [N], in UTF-8",
        ),
        ({"sample_id": np.full((3, 1), 2**31 - 1, np.uint32).view("U1")[:, 0]}, "holds sample_id that is not text"),
        ({"content_hash": np.zeros((3, 16))}, "holds content_hash as float64 [3, 16]: expected uint8 [N, 16]"),
        ({"content_hash": np.zeros((3, 16), np.uint16)}, "holds content_hash as uint16"),
        ({"content_hash": np.zeros((3, 8), np.uint8)}, "holds content_hash [3, 8] with logits"),
        ({"label": np.zeros(3)}, "holds label as float64 [3]: expected integers"),
        ({"label": np.array([0, 3, 0])}, "holds the label 3 for 'b': expected integers [N], 0..C-1 or -1"),
        ({"label": np.array([0, 0, -2])}, "holds the label -2 for 'c'"),
        ({"label": np.array([0, 0, 2**64 - 1], np.uint64)}, "holds the label 18446744073709551615 for 'c'"),
        ({"class_names": np.array(["a", "b"])}, "holds class_names [2] with logits [3, 3]"),
        ({"class_names": np.array(["anger", "angry", "b"])}, "names the classes 'angry', 'angry', 'b'"),
        ({"class_names": np.array(["a", "b\nc", "d"])}, "names the classes 'a', 'b\\nc', 'd'"),
        ({"class_names": np.array(["a", "", "d"])}, "has a column '', which looks like an index of pandas"),
        ({"class_names": np.array(["Unnamed: 0", "a", "d"])}, "has a column 'Unnamed: 0', which looks like an"),
        ({"logits": np.eye(3)[:, :1] * 4, "class_names": np.array(["a"])}, "holds one logit of each sample"),
        ({"logits": np.full((3, 3), np.nan)}, "NaN or too large for 3 ids, the first 'a'"),
        ({"logits": np.diag([1, np.inf, 1])}, "NaN or too large for 1 ids, the first 'b'"),
        ({"logits": np.diag([1, 1, 1e39])}, "NaN or too large for 1 ids, the first 'c'"),
        ({"logits": np.full((3, 3), 1 / 3)}, "holds probabilities: expected raw logits"),
        ({"header": np.array(3)}, "holds header as int64 []: expected text"),
    ],
)
def test_npz_files_that_are_refused(npz, out, arrays, message):
    names = {} if "class_names" in arrays else {"classes": "x,y,z"}
    assert message in refusal(npz(**arrays), out, **names)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "has the columns none: expected sample_id and one for each class"),
        (["sample_id,view"], "has the columns 'sample_id', 'view': expected sample_id and one for each class"),
        (["id,happy,sad", "a,1,2"], "has the columns 'id', 'happy', 'sad'"),
        (["sample_id,happy,happy", "a,1,2"], "has the column 'happy' twice"),
        (["sample_id,view, View,sad", "a,0,0,2"], "has the column 'view' twice"),
        ([",sample_id,happy,sad", "0,a,1,2"], "has a column '', which looks like an index of pandas: remove it"),
        ([" ,happy,sad", "a,1,2"], "remove it (index=False), or where it holds the ids call it sample_id"),
        (["Unnamed: 0,sample_id,happy,sad", "0,a,1,2"], "has a column 'Unnamed: 0', which looks like an index of"),
        (["Unnamed: 0.1,sample_id,happy,sad", "0,a,1,2"], "has a column 'Unnamed: 0.1', which looks like an"),
        (['sample_id,happy,"two\nlines"', "a,1,2"], "has the column 'two\\nlines' twice, or unprintable"),
        (["sample_id,happy", "a,1"], "holds one logit of each sample, expected one for each of two classes or more"),
        (["sample_id,happy,sad"], "holds no sample"),
        (["sample_id,happy,sad", "a,1,2", "b,1"], "line 3 has 2 cells, the first line has 3"),
        (["sample_id,happy,sad", "a,1,2,3"], "line 2 has 4 cells"),
        (
            ["sample_id,happy,sad", "a,1,x"],
            "line 2 has 'x' for 'sad': expected a finite number, for every column but",
        ),
        (["sample_id,happy,sad", "a,1,2", "b,,3"], "line 3 has '' for 'happy'"),
        (["sample_id,happy,sad", "a,1,1_0"], "line 2 has '1_0' for 'sad': expected a finite number"),
        (["sample_id,happy,sad", "a,1,nan"], "line 2 has 'nan' for 'sad'"),
        (["sample_id,happy,sad", "a,-inf,1"], "line 2 has '-inf' for 'happy'"),
        (["sample_id,happy,sad", "a,1,1e39"], "NaN or too large for 1 ids, the first 'a'"),
        (["sample_id,happy,sad", "a,1,2", "a,1,2"], "line 3 gives view 0 of 'a' again"),
        (["sample_id,happy,sad", ",1,2"], "holds the sample id ''"),
        (["sample_id,view,happy,sad", "a,0,1,2", "a,1,1,2", "a,0,1,2"], "line 4 gives view 0 of 'a' again"),
        (["sample_id,view,happy,sad", "a,0,1,2", "b,1,1,2"], "lacks view 1 of 'a': others have a view 1"),
        (["sample_id,view,happy,sad", "a,0,1,2", "a,2,1,2"], "lacks view 1 of 'a'"),
        (["sample_id,view,happy,sad", "a,999999999,1,2"], "lacks view 0 of 'a'"),
        (["sample_id,view,happy,sad", "a,9999999999,1,2"], "line 2 has the view '9999999999': expected 0, 1, 2, ..."),
        (["sample_id,view,happy,sad", "a,-1,1,2"], "line 2 has the view '-1'"),
        (["sample_id,view,happy,sad", "a,,1,2"], "line 2 has the view ''"),
        (["sample_id,view,happy,sad", "a,²,1,2"], "line 2 has the view '²'"),
        (
            ["sample_id,label,happy,sad", "a,angry,1,2"],
            "line 2 has the label 'angry': expected happy, sad, or nothing",
        ),
        (
            ["sample_id,content_hash,happy,sad", "a,0f,1,2"],
            "line 2 has the content hash '0f': expected 32 hexadecimal",
        ),
        (["sample_id,content_hash,happy,sad", f"a,{'xy' * 16},1,2"], "expected 32 hexadecimal digits"),
        (
            ["sample_id,view,label,happy,sad", "a,0,sad,1,2", "a,1,happy,1,2"],
            "line 3 gives 'a' another label or content hash than a line before",
        ),
        (["sample_id,joy,happy", "a,1,2"], "names the classes 'happy', 'happy': expected a name each, and each once"),
        (["sample_id,happy,sad", "a,0.25,0.75", "b,0,1"], "holds probabilities"),
        (["sample_id,happy,sad", '"a"b,1,2'], "is not a CSV file in UTF-8"),
        (["sample_id,happy,sad", f"{'a' * 200_000},1,2"], "is not a CSV file in UTF-8 (field larger than"),
    ],
)
def test_csv_files_that_are_refused(csv_file, out, lines, message):
    assert message in refusal(csv_file(*lines), out)


PROBABILITIES = {
    "probabilities": ["{:.2f}", "{:.3f}", "{:.9f}"],
    "probabilities in percent": ["{:.0%}", "{:.1%}"],
}


@pytest.mark.parametrize(
    ("found", "written"), [(found, written) for found, formats in PROBABILITIES.items() for written in formats]
)
def test_probabilities_are_no_logits_however_they_are_rounded(csv_file, out, rng, found, written):
    logits = rng.normal(0, 3, (300, 7))
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    lines = [
        f"{row}," + ",".join(written.format(value).rstrip("%") for value in values)
        for row, values in enumerate(probabilities)
    ]
    path = csv_file("sample_id,a,b,c,d,e,f,g", *lines)
    assert f"holds {found}: expected raw logits, as they enter the softmax" in refusal(path, out)


def test_what_a_sigmoid_gave_is_no_logits(npz, out, rng):
    message = refusal(npz(logits=rng.uniform(0, 1, (3, 3))), out, classes="a,b,c")
    assert "holds numbers in 0..1 that do not sum to 1, which looks like a sigmoid: expected raw logits" in message


def test_what_the_refusal_of_probabilities_advises_is_taken(npz, out, rng):
    logits = rng.uniform(0, 1, (3, 3))
    store = import_logits(npz(logits=logits - 100), out, classes="a,b,c")
    np.testing.assert_allclose(store.logits[:, 0] + 100, logits, atol=1e-5)
    store = import_logits(npz(logits=np.log(logits)), out.with_name("logarithms.h5"), classes="a,b,c")
    np.testing.assert_allclose(np.exp(store.logits[:, 0]), logits, rtol=1e-6)


@pytest.mark.parametrize(("sum_of_most", "another"), [(1, 2), (100, 120)])
def test_positive_logits_of_which_some_rows_have_that_sum_are_taken(npz, out, sum_of_most, another):
    rows = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]])
    rows *= np.array([[sum_of_most], [sum_of_most], [another]])
    assert len(import_logits(npz(logits=rows), out, classes="a,b,c")) == 3


def test_a_csv_in_another_encoding_is_refused(csv_file, out):
    assert "is not a CSV file in UTF-8" in refusal(csv_file("sample_id,a,b", "é,1,2", encoding="latin1"), out)


def test_other_files(tmp_path, out, npz):
    assert 'suffix ".h5": logits are imported from .npz, .csv, .pickle, .pkl' in refusal(tmp_path / "x.h5", out)
    assert "is not a file" in refusal(tmp_path / "absent.npz", out)
    (tmp_path / "folder.csv").mkdir()
    assert "is not a file" in refusal(tmp_path / "folder.csv", out)
    assert "does not name its 3 classes" in refusal(npz(), out)
    assert 'unknown class order "fer2031": did you mean fer2013?' in refusal(npz(), out, classes="fer2031")
    assert "holds 3 logits of each sample, expected 7" in refusal(npz(), out, classes="fer2013")
    for shape in ((0, 1, 1), (48, 2**70, 1)):
        assert "teacher-input-shape must be" in refusal(npz(), out, classes="a,b,c", teacher_input_shape=shape)


def test_a_file_whose_name_is_not_utf8_is_imported(csv_file, out):
    path = csv_file("sample_id,happy,sad", "a,1,-2", name=os.fsdecode(b"caf\xe9.csv"))
    header = import_logits(path, out).header
    assert header.teacher_name == r"caf\udce9"
    assert header.dataset_name.endswith(r"caf\udce9.csv")


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip" * 100])
def test_an_npz_that_is_no_zip(tmp_path, out, content):
    (tmp_path / "x.npz").write_bytes(content)
    assert "is not a .npz file of NumPy, or damaged" in refusal(tmp_path / "x.npz", out)


def test_a_damaged_npz_never_imports(npz, out):
    """Half of it, or with any byte of its arrays changed."""
    path = npz(class_names=np.array(["x", "y", "z"]))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "or damaged" in refusal(path, out)
    start = whole.index(b"\x93NUMPY")
    for position in range(start, start + 200, 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        refusal(path, out)


def test_a_header_of_four_megabytes_in_an_npz(npz, out):
    assert "has a header of" in refusal(npz(header=np.array("x" * 1_000_001)), out)


# Nothing is executed, and nothing is allocated for a claim


class Calls:
    """Pickled, it makes a folder when it is loaded."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["logits", "sample_id", "header"])
def test_a_pickle_inside_an_npz_is_never_loaded(npz, out, tmp_path, name):
    path = npz(**{name: np.array([Calls(tmp_path / "made")] * 3, object)})
    assert f"damaged ({name}: its values are of the type '|O'" in refusal(path, out)
    assert not (tmp_path / "made").exists()


def write_claim(path, shape, descr="<f4", content=b""):
    """Write a .npz of which the array `logits` says that it is of `shape`."""
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": descr, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("logits.npy", member.getvalue() + content)
        with archive.open("sample_id.npy", "w") as ids:
            np.save(ids, np.array(["a"]))


@pytest.mark.parametrize(
    ("shape", "content"),
    [((10**12, 8), b""), ((10**12, 8), bytes(64)), ((-1, -8), bytes(32)), ((10**30, 0), b""), ((1, 8), bytes(36))],
)
def test_an_array_that_is_not_as_long_as_it_says(tmp_path, out, shape, content):
    path = tmp_path / "x.npz"
    write_claim(path, shape, content=content)
    assert "not a .npz file of NumPy, or damaged" in refusal(path, out, classes="microexpnet")


def test_what_unpacks_to_more_than_the_limit_is_not_unpacked(tmp_path, out, monkeypatch):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("logits.npy", bytes(3_000_000))
        archive.writestr("sample_id.npy", b"")
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(npz_logits, "MAX_BYTES", 2_999_999)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    assert "unpacks to 3,000,000 bytes: expected 2,999,999 or less" in refusal(path, out)
