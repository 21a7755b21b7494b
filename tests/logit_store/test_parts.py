"""Shared work: shards write parts, a merge joins them, and the result is that of one process."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from distill.errors import InputError
from distill.files.whole_files import atomic_file
from distill.logit_store import LogitWriter, Shard, merge_parts, open_logits
from distill.logit_store.exchange import export_logits
from distill.logit_store.layout import PART, Extent, write_content
from distill.logit_store.parts import parts_folder
from distill.logit_store.samples import Samples

ROOT = Path(__file__).parents[2]


@pytest.fixture
def write_shard(faces, header, logits):
    """A function that writes one shard of the logits into a store's folder of parts."""

    def write(path, shard, *, values=logits, rows_per_part=2):
        columns = {"sample_ids": faces.ids, "content_hashes": faces.content_hashes, "labels": faces.labels}
        shard = Shard.parse(shard)
        with LogitWriter(path, header, **columns, rows_per_part=rows_per_part, shard=shard) as writer:
            for rows in writer.missing():
                writer.write(rows, values[rows])
            return writer.finish()

    return write


@pytest.fixture
def whole(tmp_path, writer_for, logits):
    """The bytes of the store that one process writes."""
    writer = writer_for(tmp_path / "whole.h5", rows_per_part=2)
    for rows in writer.missing():
        writer.write(rows, logits[rows])
    content = writer.finish().read_bytes()
    writer.path.unlink()
    return content


def test_shards_in_one_folder_merge_into_the_store_of_one_process(path, write_shard, whole):
    for shard in ("2/3", "3/3", "1/3"):
        assert write_shard(path, shard) == parts_folder(path)
    merge_parts([parts_folder(path)], path)
    assert path.read_bytes() == whole


def test_shards_of_several_machines_merge(tmp_path, path, write_shard, whole):
    for number in (1, 2):
        write_shard(tmp_path / f"machine-{number}" / "t.h5", f"{number}/2")
    merge_parts(sorted(tmp_path.glob("machine-*/*.parts")), path)
    assert path.read_bytes() == whole


def test_a_run_without_a_shard_finishes_what_shards_have_begun(path, write_shard, writer_for, whole):
    write_shard(path, "1/2")
    write_shard(path, "2/2")
    writer = writer_for(path, rows_per_part=2)
    assert writer.missing() == []
    assert writer.finish().read_bytes() == whole
    assert not parts_folder(path).exists()


def test_a_store_may_stay_a_folder_of_parts(path, write_shard, faces, logits):
    store = open_logits(write_shard(path, "1/1"))
    assert len(store) == len(faces)
    np.testing.assert_array_equal(store.sample_ids, faces.ids)
    np.testing.assert_array_equal(store.join(faces), logits)


def test_more_shards_than_parts_leave_some_with_nothing_to_do(path, write_shard, whole):
    for number in range(1, 10):
        write_shard(path, f"{number}/9")
    assert merge_parts([parts_folder(path)], path).read_bytes() == whole


def test_missing_rows_are_named(path, write_shard):
    write_shard(path, "1/3")  # parts 0 and 3 of 6
    with pytest.raises(InputError, match="lacks rows 2 to 5, 8 to 10 of 11: run python -m distill.teacher_logits"):
        merge_parts([parts_folder(path)], path)
    assert not path.exists()
    with pytest.raises(InputError, match="lacks rows"):
        open_logits(parts_folder(path))


def test_an_unfinished_store_says_how_its_shards_are_merged(path, write_shard):
    write_shard(path, "1/3")
    with pytest.raises(InputError, match=f"merge them with python -m distill.cache merge {path}.parts --out {path}"):
        open_logits(path)


def test_equal_parts_count_once_and_other_ones_are_refused(tmp_path, path, write_shard, logits, whole):
    folder = write_shard(path, "1/1")
    shutil.copytree(folder, tmp_path / "copy")
    assert merge_parts([folder, tmp_path / "copy"], tmp_path / "merged.h5").read_bytes() == whole
    changed = logits.copy()
    changed[7, 1, 0] += 1
    other = write_shard(tmp_path / "other.h5", "1/1", values=changed)
    with pytest.raises(InputError, match="part-00003.h5 and .*part-00003.h5 hold other logits of the same rows"):
        merge_parts([folder, other], tmp_path / "merged-2.h5")


def test_parts_of_different_runs_are_refused(tmp_path, path, write_shard, written):
    folder = write_shard(path, "1/2")
    other = parts_folder(written(tmp_path / "other.h5", rows_per_part=2, teacher_sha256="cd" * 32).path)
    stored, expected = "cd" * 32, "ab" * 32
    message = f'different runs .teacher_sha256: stored "{stored}", expected "{expected}"'
    with pytest.raises(InputError, match=message):
        merge_parts([folder, other], tmp_path / "merged.h5")


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(0, 8), (4, 11)], "part-0.h5 and .*part-4.h5 both hold row 4: remove one"),
        ([(0, 4), (4, 7), (7, 11)], "part-4.h5 ends with row 6, within a block of 4 rows, which the last part"),
    ],
    ids=["overlapping", "short in the middle"],
)
def test_parts_that_no_writer_made_are_refused(path, faces, header, logits, spans, message):
    samples = Samples(faces.ids, faces.content_hashes, faces.labels, classes=3)
    folder = parts_folder(path)
    folder.mkdir()
    for start, stop in spans:
        blocks = [slice(first, min(first + 4, stop)) for first in range(start, stop, 4)]
        write_content(
            folder / f"part-{start}.h5",
            header,
            [{**samples.columns(rows), "logits": logits[rows]} for rows in blocks],
            kind=PART,
            extent=Extent(start, stop - start, 4, store_rows=11),
            id_bytes=samples.id_bytes,
        )
    for read in (lambda: open_logits(folder), lambda: merge_parts([folder], path)):
        with pytest.raises(InputError, match=message):
            read()


def test_a_damaged_part_is_named(path, write_shard):
    folder = write_shard(path, "1/1")
    part = folder / "part-00002.h5"
    part.write_bytes(part.read_bytes()[:-30])
    with pytest.raises(InputError, match="part-00002.h5 is damaged"):
        merge_parts([folder], path)


def test_a_merge_overwrites_nothing_and_needs_parts(tmp_path, stored, write_shard, logits):
    same, before = write_shard(tmp_path / "same.h5", "1/1"), stored.read_bytes()
    with pytest.raises(InputError, match="teacher.h5 is there already .views: stored 2, in the parts no others"):
        merge_parts([same], stored)
    assert stored.read_bytes() == before
    (tmp_path / "notes.h5").write_text("my notes")
    with pytest.raises(InputError, match="notes.h5 is there already .*choose another --out"):
        merge_parts([same], tmp_path / "notes.h5")
    assert (tmp_path / "notes.h5").read_text() == "my notes"
    with pytest.raises(InputError, match="there are no parts of a logit store"):
        merge_parts([tmp_path], tmp_path / "merged.h5")


KILLED = """
import os, signal, sys
from distill.logit_store import merge_parts, open_logits
from distill.logit_store.exchange import export_logits

sys.addaudithook(lambda event, _: event == "os.rename" and os.kill(os.getpid(), signal.SIGKILL))
verb, parts, out = sys.argv[1:]
merge_parts([parts], out) if verb == "merge" else export_logits(open_logits(parts), out)
"""


@pytest.mark.parametrize(("verb", "suffix"), [("merge", "h5"), ("export", "npz"), ("export", "csv")])
def test_what_a_kill_has_left_goes_when_the_command_is_given_again(path, write_shard, files, verb, suffix):
    folder, out = write_shard(path, "1/1"), path.with_suffix(f".{suffix}")
    (path.parent / f".{out.stem}-notes.{suffix}").write_text("of somebody else")
    before = files()
    command = [sys.executable, "-c", KILLED, verb, str(folder), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert len(files()) > len(before)
    if verb == "merge":
        merge_parts([folder], out)
    else:
        export_logits(open_logits(folder), out)
    made = {out.name} | ({f"{out.stem}.header.json"} if suffix == "csv" else set())
    assert set(files()) == {*before, *made}


def test_a_file_that_another_process_writes_is_not_removed(path, write_shard, files):
    folder = write_shard(path, "1/1")
    with atomic_file(path) as unfinished:
        merge_parts([folder], path)
        assert unfinished.exists()
        unfinished.write_bytes(b"last")
    assert path.read_bytes() == b"last"
    assert not [name for name in files() if name.startswith(".")]


def test_an_error_names_the_file_and_not_its_unfinished_name(path, write_shard, monkeypatch):
    folder = write_shard(path, "1/1")

    def read_only(*args, **options):
        raise OSError(errno.EROFS, "Read-only file system", f"{path.parent}/.{path.name}-abcdefgh.h5")

    monkeypatch.setattr(os, "replace", read_only)
    with pytest.raises(OSError, match="Read-only file system") as raised:
        merge_parts([folder], path)
    assert raised.value.filename == str(path)


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "-1/2", "1/0", ""])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(InputError, match="shard"):
        Shard.parse(text)
