"""NumPy files are read as NumPy reads them, and refused where they are not what they say."""

import os
import pickle

import numpy as np
import pytest

from distill.errors import InputError
from distill.files.numpy_files import RowsOnDisk, load_array, open_rows

PLAIN = [
    np.arange(6, dtype=np.uint8).reshape(2, 3),
    np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    np.array(["happy", "é"]),
    np.array([b"a", b"bc"]),
    np.array(3),
    np.zeros((0, 4), ">f4"),
    np.array([True, False]),
]


@pytest.mark.parametrize("array", PLAIN, ids=lambda array: f"{array.dtype.str}{list(array.shape)}")
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_what_numpy_wrote_is_read(tmp_path, array, version):
    with open(tmp_path / "array.npy", "wb") as file:
        np.lib.format.write_array(file, array, version=version)
    for found in (
        load_array(tmp_path / "array.npy"),
        np.asarray(open_rows(tmp_path / "array.npy")[...])
        if array.ndim == 0
        else open_rows(tmp_path / "array.npy")[np.arange(len(array))],
    ):
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype


def written(path, header: str, content=bytes(16)):
    text = header.encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content)
    return path


@pytest.mark.parametrize(
    ("shape", "descr", "message"),
    [
        (f"({10**30},)", "'|u1'", "its shape is"),
        ("(-16,)", "'|u1'", "its shape is"),
        ("(True, 16)", "'|u1'", "its shape is"),
        ("[16]", "'|u1'", "its shape is"),
        ("(16.0,)", "'|u1'", "its shape is"),
        ("(4,) * 10", "'|u1'", "its header cannot be read"),
        (f"({'1, ' * 40}16)", "'|u1'", "its shape is"),
        ("(16", "'|u1'", "its header cannot be read"),
        ("(" * 4000 + ")" * 4000, "'|u1'", "its header cannot be read|its shape is"),
        ("(9,)", "'|u1'", "holds 16 bytes of values, its header says 9"),
        ("(17,)", "'|u1'", "holds 16 bytes of values, its header says 17"),
        (
            "(2,)",
            "'|O'",
            "expected plain numbers or text; text that NumPy pickled is plain as",
        ),
        ("(2,)", "'|V8'", "expected plain numbers or text"),
        ("(2,)", "'<M8[s]'", "expected plain numbers or text"),
        ("(2,)", "'no such'", "of an unknown type"),
        ("(2,)", "[('a', '<f8')]", "expected plain numbers or text"),
        ("(2,)", "'2<f4'", "expected plain numbers or text"),
    ],
)
def test_headers_that_cannot_be_are_refused(tmp_path, shape, descr, message):
    path = written(tmp_path / "array.npy", f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}")
    for read in (load_array, open_rows):
        with pytest.raises(ValueError, match=message) as refused:
            read(path)
        assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"\x93NUMPY\x04\x00", b"\x93NUMPY\x01\x00\xff\xff", b"PK\3\4"]
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "array.npy").write_bytes(content)
    with pytest.raises(ValueError, match="begin|version|header"):
        load_array(tmp_path / "array.npy")


def test_rows_are_read_in_any_order(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (50, 4, 4), np.uint8)
    np.save(tmp_path / "array.npy", array)
    rows = open_rows(tmp_path / "array.npy")
    assert isinstance(rows, RowsOnDisk)
    for wanted in ([3, 4, 5, 1, 1, 49, 0], [], list(range(50)), array[:, 0, 0] > 100):
        wanted = np.array(wanted, bool if isinstance(wanted, np.ndarray) else int)
        np.testing.assert_array_equal(rows[wanted], array[wanted])
        np.testing.assert_array_equal(rows.reshape(50, 4, 4, 1)[wanted], array[wanted][..., None])


def test_rows_go_to_another_process_which_opens_the_file_itself(tmp_path):
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.save(tmp_path / "array.npy", array)
    pickled = pickle.dumps(open_rows(tmp_path / "array.npy").reshape(3, 2, 2))
    np.testing.assert_array_equal(pickle.loads(pickled)[np.array([2, 0])], array.reshape(3, 2, 2)[[2, 0]])
    (tmp_path / "array.npy").unlink()
    with pytest.raises(InputError, match="array.npy is gone"):
        pickle.loads(pickled)


def test_a_file_that_shrinks_while_it_is_used_is_named(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros((1000, 64), np.uint8))
    rows = open_rows(tmp_path / "array.npy")
    os.truncate(tmp_path / "array.npy", 5000)
    with pytest.raises(InputError, match="array.npy has become shorter"):
        rows[np.arange(1000)]


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "array.npy")
    for read in (load_array, open_rows):
        with pytest.raises(InputError, match="is a pipe"):
            read(tmp_path / "array.npy")
