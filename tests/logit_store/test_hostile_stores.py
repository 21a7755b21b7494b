"""Stores that somebody made, not `LogitWriter`: HDF5 can do far more than the format says, and none of it is done."""

import json
import os
import shutil
from dataclasses import asdict

import h5py
import numpy as np
import pytest

from distill.cache import VerifySettings, verify
from distill.errors import InputError
from distill.logit_store import layout, open_logits
from distill.logit_store.layout import Extent


def soft_link(file, name, folder):
    file.move(name, "elsewhere")
    file[name] = h5py.SoftLink("/elsewhere")


def external_link(file, name, folder):
    shutil.copy(file.filename, folder / "other.h5")
    del file[name]
    file[name] = h5py.ExternalLink("other.h5", f"/{name}")


def link_to_a_pipe(file, name, folder):
    os.mkfifo(folder / "pipe.h5")
    del file[name]
    file[name] = h5py.ExternalLink("pipe.h5", f"/{name}")


def group(file, name, folder):
    del file[name]
    file.create_group(name)


def named_type(file, name, folder):
    del file[name]
    file[name] = np.dtype("f4")


def external_storage(file, name, folder):
    values = file[name][()]
    values.tofile(folder / "raw")
    del file[name]
    file.create_dataset(name, values.shape, values.dtype, external=[(str(folder / "raw"), 0, values.nbytes)])


def virtual(file, name, folder):
    values = file[name]
    file.move(name, "elsewhere")
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[...] = h5py.VirtualSource(file["elsewhere"])
    file.create_virtual_dataset(name, layout)


def packed(file, name, folder):
    values = file[name][()]
    del file[name]
    file.create_dataset(name, data=values, compression="gzip")


@pytest.mark.parametrize("name", ["sample_id", "logits", "checksum"])
@pytest.mark.parametrize(
    "change",
    [soft_link, external_link, link_to_a_pipe, group, named_type, external_storage, virtual, packed],
    ids=lambda change: change.__name__,
)
def test_only_data_sets_that_lie_in_the_file_are_read(stored, tmp_path, change, name):
    with h5py.File(stored, "a") as file:
        change(file, name, tmp_path)
    with pytest.raises(InputError, match=rf"damaged \({name} (is|lies|goes) .*delete it"):
        open_logits(stored)


def written_by_hand(path, header, faces, logits, **changes):
    """Write a store whose checksums are right, whatever stands in it."""
    columns = {
        "sample_id": layout.encode_ids(faces.ids),
        "content_hash": faces.content_hashes,
        "label": faces.labels.astype(np.int64),
        "logits": logits,
    } | changes
    extent = Extent(first_row=0, rows=len(faces), rows_per_block=len(faces), store_rows=len(faces))
    id_bytes = columns["sample_id"].dtype.itemsize
    layout.write_content(path, header, [columns], kind=layout.STORE, extent=extent, id_bytes=id_bytes)
    return path


@pytest.mark.parametrize("label", [3, 99, -2, 2**40])
def test_labels_of_no_class_are_refused_by_every_reader(path, header, faces, logits, label):
    labels = faces.labels.astype(np.int64)
    labels[4] = label
    written_by_hand(path, header, faces, logits, label=labels)
    for read in (open_logits, lambda path: verify(VerifySettings(store=str(path)))):
        with pytest.raises(InputError, match=rf"damaged \(it holds the label {label}, expected 0..2 or -1\)"):
            read(path)


@pytest.mark.parametrize(("sample_id", "message"), [(b"\xff\xfe", "utf-8"), (b"", "without an id")])
def test_ids_that_are_no_text_are_refused(path, header, faces, logits, sample_id, message):
    ids = layout.encode_ids(faces.ids)
    ids[3] = sample_id
    written_by_hand(path, header, faces, logits, sample_id=ids)
    with pytest.raises(InputError, match=rf"damaged \(.*{message}"):
        open_logits(path)


def test_the_writer_refuses_labels_of_no_class(path, writer_for, faces):
    faces.labels[2] = 3
    with pytest.raises(InputError, match="label 3, expected 0..2 or -1"):
        writer_for(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": [1, 2, 3]},
        {"class_names": [["a"], ["b"], ["c"]]},
        {"class_names": None},
        {"class_names": ["a", "a", "b"]},
        {"teacher_sha256": None},
        {"dataset_fingerprint": None},
        {"view_spec": []},
        {"view_spec": {"extra": [1]}},
        {"views": "2"},
        {"views": 10**30},
        {"views": -1},
        {"logits_dtype": "float8"},
        {"teacher_input_shape": [48, 48]},
        {"teacher_training": [1]},
        {"versions": {"numpy": [1]}},
        {"kind": None},
    ],
    ids=str,
)
def test_headers_of_other_types_are_refused_in_one_line(stored, changes):
    with h5py.File(stored, "a") as file:
        text = json.dumps({**json.loads(file.attrs["header"]), **changes}).encode()
        file.attrs["header"] = np.bytes_(text)
        file.attrs["header_checksum"] = np.bytes_(layout.header_checksum(text))
    with pytest.raises(InputError, match=r"its header (is no|has)") as refused:
        open_logits(stored)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", [b"[" * 50_000, b"{", b"\xff", b'{"views": ' + b"1" * 5000 + b"}", 7, "text"])
def test_headers_that_are_no_document_are_refused(stored, text):
    with h5py.File(stored, "a") as file:
        file.attrs["header"] = np.bytes_(text) if isinstance(text, bytes) else text
        if isinstance(text, bytes):
            file.attrs["header_checksum"] = np.bytes_(layout.header_checksum(text))
    with pytest.raises(InputError, match="damaged"):
        open_logits(stored)


def test_a_pipe_in_place_of_a_store_is_refused_at_once(path):
    os.mkfifo(path)
    with pytest.raises(InputError, match="is a pipe: expected a file"):
        open_logits(path)


def test_what_the_format_says_is_read(path, header, faces, logits):
    store = open_logits(written_by_hand(path, header, faces, logits))
    np.testing.assert_array_equal(store.logits, logits)
    assert asdict(store.header) == asdict(header)
