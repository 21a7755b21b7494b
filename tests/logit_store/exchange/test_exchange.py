"""Stores leave as .npz and CSV and come back bit for bit, or not at all."""

import csv
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from distill.data.dataset import UNLABELLED
from distill.errors import InputError
from distill.logit_store import UNKNOWN, LogitWriter, open_logits
from distill.logit_store.exchange import csv_logits, formats
from distill.logit_store.exchange.formats import FORMATS, export_logits, import_logits

IDS = ["a.png", "b,c.png", 'd"e.png', "été/ 笑.png ", "two\nlines\r\n.png", "=1+1", " x"]
LABELS = [0, 1, 2, UNLABELLED, 1, UNLABELLED, 0]
COLUMNS = ("sample_ids", "content_hashes", "labels", "logits")
SUFFIXES = tuple(FORMATS)


def any_float32(rng, shape):
    """Every finite float32 is as likely as any other; the first are those at the edges."""
    values = rng.integers(0, 2**32, shape, np.uint32).view(np.float32)
    values = np.where(np.isfinite(values), values, np.float32(1 / 3))
    edges = [-0.0, 1e-45, -1e-45, 1.1754942e-38, 3.4028235e38, -3.4028235e38, 0.1, 1e-3, 16777217]
    values.reshape(-1)[: len(edges)] = np.array(edges, np.float32)
    return values


@pytest.fixture
def store_of(tmp_path, header, rng):
    """A function that writes a store; `changes` are header fields."""

    def make(ids=IDS, labels=LABELS, logits=None, name="store.h5", **changes):
        described = replace(header, **changes)
        shape = (len(ids), described.views, len(described.class_names))
        logits = any_float32(rng, shape) if logits is None else logits
        hashes = rng.integers(0, 256, (len(ids), 16), np.uint8)
        columns = {"sample_ids": np.array(ids), "content_hashes": hashes, "labels": np.array(labels)}
        with LogitWriter(tmp_path / name, described, **columns) as writer:
            for rows in writer.missing():
                writer.write(rows, logits[rows])
            return open_logits(writer.finish())

    return make


@pytest.fixture
def store(store_of):
    return store_of()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "imported" / "l.h5"


@pytest.fixture
def exported(store, tmp_path):
    """A function that exports the store as a file of the suffix and returns its path."""

    def export(suffix):
        path = tmp_path / f"exported{suffix}"
        export_logits(store, path)
        return path

    return export


def refusal(path, out, **options):
    """Return the one line that refuses `path`, which leaves no trace."""
    with pytest.raises(InputError) as error:
        import_logits(path, out, **options)
    assert len(str(error.value).splitlines()) == 1
    assert not out.parent.exists() or not list(out.parent.iterdir())
    return str(error.value)


def same(one, other):
    return one.header == other.header and all(
        np.array_equal(bits(getattr(one, name)), bits(getattr(other, name))) for name in COLUMNS
    )


def bits(values):
    """Distinguish -0 from 0."""
    return values.view(np.uint32) if values.dtype == np.float32 else values


# Out and back


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".NPZ"])
@pytest.mark.parametrize("views", [1, 2])
def test_an_export_comes_back_bit_for_bit(store_of, tmp_path, out, suffix, views):
    store = store_of(views=views, input_format={"order": "BGR"}, teacher_training={"train": "f"})
    export_logits(store, tmp_path / f"x{suffix}")
    assert same(import_logits(tmp_path / f"x{suffix}", out), store)
    assert out.read_bytes() == store.path.read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_float16_comes_back_as_float16(store_of, tmp_path, out, suffix, rng):
    logits = rng.normal(0, 9, (len(IDS), 2, 3)).astype(np.float16)
    store = store_of(logits=logits, logits_dtype="float16")
    export_logits(store, tmp_path / f"x{suffix}")
    assert same(import_logits(tmp_path / f"x{suffix}", out), store)
    assert out.read_bytes() == store.path.read_bytes()


def test_every_float32_comes_back_from_csv(store_of, tmp_path, out):
    ids = [str(row) for row in range(3000)]  # more than one part, and more rows than are taken at once
    store = store_of(ids=ids, labels=[0] * len(ids))
    export_logits(store, tmp_path / "x.csv")
    assert same(import_logits(tmp_path / "x.csv", out), store)


def test_numpy_reads_the_npz_without_this_project(store, exported):
    with np.load(exported(".npz"), allow_pickle=False) as arrays:
        assert set(arrays) == {"logits", "sample_id", "content_hash", "label", "class_names", "header"}
        np.testing.assert_array_equal(arrays["logits"], store.logits)
        assert arrays["sample_id"].tolist() == IDS
        assert arrays["label"].tolist() == LABELS
        np.testing.assert_array_equal(arrays["content_hash"], store.content_hashes)
        assert tuple(arrays["class_names"]) == store.class_names
        assert json.loads(arrays["header"].item())["teacher_sha256"] == store.header.teacher_sha256


def test_a_table_program_reads_the_csv_without_this_project(store, exported):
    path = exported(".csv")
    with open(path, newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["sample_id", "view", "label", "content_hash", *store.class_names]
    assert [line["sample_id"] for line in lines] == [sample_id for sample_id in IDS for _ in range(2)]
    assert [line["view"] for line in lines] == ["0", "1"] * len(IDS)
    names = [*store.class_names, ""]
    assert [line["label"] for line in lines[::2]] == [names[label] for label in LABELS]
    assert [line["content_hash"] for line in lines[1::2]] == [row.tobytes().hex() for row in store.content_hashes]
    logits = [[[float(line[name]) for name in store.class_names]] for line in lines]
    np.testing.assert_array_equal(np.array(logits, np.float32).reshape(store.logits.shape), store.logits)
    header = json.loads(path.with_suffix(".header.json").read_text())
    assert header["class_names"] == list(store.class_names)
    assert header["teacher_name"] == "facenet"


def test_an_export_replaces_its_file_and_leaves_no_other(exported, tmp_path):
    for suffix in SUFFIXES:
        (tmp_path / f"exported{suffix}").write_text("the old one")
        exported(suffix)
    names = {"store.h5", "exported.npz", "exported.csv", "exported.header.json"}
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize(("suffix", "failing"), [(".npz", np), (".csv", csv_logits)])
def test_an_export_that_fails_keeps_the_old_file(exported, tmp_path, monkeypatch, suffix, failing):
    def fail(*_, **__):
        raise OSError("disk full")

    path = tmp_path / f"exported{suffix}"
    path.write_text("the old one")
    monkeypatch.setattr(failing, {np: "savez", csv_logits: "_lines"}[failing], fail)
    with pytest.raises(OSError, match="disk full"):
        exported(suffix)
    assert path.read_text() == "the old one"
    assert {path.name for path in tmp_path.iterdir()} == {"store.h5", path.name}


@pytest.mark.parametrize("suffix", [".h5", ".pickle", ".parquet", ""])
def test_other_suffixes_are_not_exported(store, tmp_path, suffix):
    with pytest.raises(InputError, match=r"exported to .npz or .csv"):
        export_logits(store, tmp_path / f"x{suffix}")


@pytest.mark.parametrize("name", ["label", " View", "", "two\nlines"])
def test_a_class_that_cannot_be_a_column_goes_through_npz(store_of, tmp_path, out, name):
    store = store_of(class_names=("angry", name, "happy"))
    with pytest.raises(InputError, match="cannot be a column: export to .npz") as error:
        export_logits(store, tmp_path / "x.csv")
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "x.csv").exists()
    export_logits(store, tmp_path / "x.npz")
    assert same(import_logits(tmp_path / "x.npz", out), store)


def test_a_class_with_the_name_of_an_index_comes_back(store_of, tmp_path, out):
    store = store_of(class_names=("Unnamed: 0", "angry", "happy"))
    export_logits(store, tmp_path / "x.csv")
    assert same(import_logits(tmp_path / "x.csv", out), store)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_import_again_changes_nothing(exported, out, suffix):
    import_logits(exported(suffix), out)
    before = out.stat().st_mtime_ns
    import_logits(exported(suffix), out)
    assert out.stat().st_mtime_ns == before


def test_an_output_that_holds_something_else_is_left_alone(exported, tmp_path):
    (tmp_path / "l.h5").write_text("precious")
    with pytest.raises(InputError, match="is not a logit store"):
        import_logits(exported(".npz"), tmp_path / "l.h5")
    assert (tmp_path / "l.h5").read_text() == "precious"


def test_published_logits_travel(shared, tmp_path, out):
    store = import_logits(shared / "microexpnet" / "ResNet50_CK_SoftmaxIn.pickle", tmp_path / "p.h5")
    for suffix in SUFFIXES:
        export_logits(store, tmp_path / f"x{suffix}")
        assert same(import_logits(tmp_path / f"x{suffix}", tmp_path / f"{suffix}.h5"), store)


# A header goes with its rows


def test_lines_of_an_export_may_be_sorted(store, exported, out):
    path = exported(".csv")
    with open(path, newline="", encoding="utf-8") as file:
        first, *lines = csv.reader(file)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([first, *sorted(lines)])
    imported = import_logits(path, out)
    order = np.argsort(store.sample_ids)
    assert imported.header == store.header
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(imported, name), getattr(store, name)[order])


def change_a_cell(path):
    with open(path, newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    lines[3][-1] = "0.5"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)


def drop_a_sample(path):
    with open(path, newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines[:-2])


def change_the_header(path):
    header = path.with_suffix(".header.json")
    header.write_text(header.read_text().replace("facenet", "vgg"))


@pytest.mark.parametrize("change", [change_a_cell, drop_a_sample, change_the_header])
def test_a_changed_csv_is_not_believed_its_header(exported, out, change):
    path = exported(".csv")
    change(path)
    assert "does not hold the logits that its header was exported with" in refusal(path, out)


def test_a_renamed_column_is_not_believed_its_header(exported, out):
    path = exported(".csv")
    path.write_bytes(path.read_bytes().replace(b"angry", b"Anger", 1))
    assert "its header says 2 of ('angry', 'happy', 'neutral')" in refusal(path, out)


@pytest.mark.parametrize("name", ["logits", "sample_id", "content_hash", "label"])
def test_a_changed_npz_is_not_believed_its_header(exported, out, name):
    path = exported(".npz")
    with np.load(path) as arrays:
        arrays = dict(arrays)
    arrays[name] = arrays[name][::-1]
    np.savez(path, **arrays)
    assert "does not hold the logits that its header was exported with" in refusal(path, out)


def test_without_its_header_an_export_is_that_of_a_stranger(store_of, tmp_path, out, rng):
    store = store_of(views=1, logits=rng.normal(0, 5, (len(IDS), 1, 3)).astype(np.float32))
    path = tmp_path / "x.csv"
    export_logits(store, path)
    path.with_suffix(".header.json").unlink()
    imported = import_logits(path, out)
    assert imported.header.teacher_name == "x"
    assert imported.header.teacher_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert imported.header.dataset_fingerprint == UNKNOWN
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(imported, name), getattr(store, name))


def test_views_without_a_header_are_refused(exported, out):
    path = exported(".csv")
    path.with_suffix(".header.json").unlink()
    assert "holds 2 views of each sample, but not how they were drawn" in refusal(path, out)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({"classes": "fer2013"}, "--classes"),
        ({"teacher_name": "vgg"}, "--teacher-name"),
        ({"teacher_input_shape": (48, 48, 1), "classes": "ckplus"}, "--classes, --teacher-input-shape"),
    ],
)
def test_no_setting_is_ignored_next_to_a_header(exported, out, suffix, options, flags):
    assert refusal(exported(suffix), out, **options).endswith(f"has a header that says all: omit {flags}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a header of an export: Expecting"),
        ("[" * 100_000, "is nested too deep"),
        ("[1]", "holds a list: expected the header of an export"),
        ('{"units": "mm"}', "exported.header.json, next to "),
        ('{"units": "mm"}', "is not the header of an export: remove or rename it"),
        ('{"format_version": 2}', "has logit format version 2"),
        ('{"format_version": 1}', "does not hold the logits"),
        (" " * 1_000_001, "is larger than 1,000,000 bytes"),
    ],
    ids=["half", "deep", "list", "its name", "its mend", "newer", "no checksum", "large"],
)
def test_headers_of_something_else(exported, out, text, message):
    path = exported(".csv")
    path.with_suffix(".header.json").write_text(text)
    assert message in refusal(path, out)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_larger_files_than_the_limit_are_not_read(exported, out, monkeypatch, suffix):
    path = exported(suffix)
    monkeypatch.setattr(formats, "MAX_BYTES", path.stat().st_size - 1)
    assert "is larger than" in refusal(path, out)
