"""Adding views to a finished store: by one writer or by shards, again and again, and nothing of it is lost."""

import errno
import shutil
from dataclasses import replace

import numpy as np
import pytest

from distill.data.dataset import ArrayImages
from distill.errors import InputError
from distill.logit_store import Shard, merge_parts, open_logits
from distill.logit_store.parts import parts_folder
from distill.logit_store.writer_lock import WriterLock

LEARNED_FROM = {"train": "0123", "validation": "4567"}


@pytest.fixture
def more_logits(logits):
    return np.concatenate([logits, logits + 1], axis=1)


@pytest.fixture
def add_views(writer_for, more_logits):
    """A function that writes what is missing of four views, or a shard of that, and finishes it."""

    def add(path, shard=None, **changes):
        with writer_for(path, shard=shard and Shard.parse(shard), views=4, **changes) as writer:
            for rows in writer.missing():
                writer.write(rows, more_logits[rows])
            return writer.finish()

    return add


def test_a_finished_command_given_again_leaves_the_parts_of_more_views_alone(stored, add_views, writer_for):
    folder = add_views(stored, "1/2")
    with writer_for(stored) as writer:
        assert writer.complete
        assert writer.finish() == stored
    assert len(list(folder.glob("part-*.h5"))) == 2
    add_views(stored, "2/2")
    assert len(open_logits(parts_folder(stored))) == 11


def test_parts_of_a_finished_store_stay_while_another_process_uses_their_folder(stored, written, writer_for):
    folder = parts_folder(stored)
    shutil.copytree(parts_folder(written(stored.parent / "again.h5").path), folder)
    other = WriterLock(folder, Shard(1, 2))
    other.acquire()
    assert writer_for(stored).finish() == stored
    assert len(list(folder.glob("part-*.h5"))) == 3
    other.release()
    assert writer_for(stored).finish() == stored
    assert not folder.exists()


def test_a_folder_that_cannot_be_removed_is_no_matter_to_a_finished_store(stored, writer_for, monkeypatch):
    parts_folder(stored).mkdir()

    def read_only(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(WriterLock, "acquire", read_only)
    with writer_for(stored) as writer:
        assert writer.finish() == stored


def test_shards_that_add_views_are_merged_into_the_place_of_the_store(stored, add_views, more_logits):
    folder = add_views(stored, "1/2")
    with pytest.raises(InputError, match="lacks rows 4 to 7 of 11"):
        merge_parts([folder], stored)
    assert open_logits(stored).header.views == 2
    add_views(stored, "2/2")
    merge_parts([folder], stored)
    np.testing.assert_array_equal(open_logits(stored).logits, more_logits)
    with pytest.raises(InputError, match="is there already .views: stored 4, in the parts no others"):
        merge_parts([folder], stored)


@pytest.mark.parametrize("shards", [(None,), ("1/2", "2/2")], ids=["one-writer", "shards"])
def test_views_are_added_where_a_merge_has_left_its_parts(path, written, add_views, more_logits, shards):
    folder = parts_folder(written(path).path)
    merge_parts([folder], path)
    for shard in shards:
        add_views(path, shard)
    if len(shards) > 1:
        merge_parts([folder], path)
    np.testing.assert_array_equal(open_logits(path).logits, more_logits)
    assert folder.exists() == (len(shards) > 1)


def test_parts_that_a_merge_has_left_do_not_hinder_the_merge_of_more_views(path, written, add_views, more_logits):
    folder = parts_folder(written(path, rows_per_part=2).path)  # six, where three come after them
    merge_parts([folder], path)
    add_views(path, "1/1")
    assert len(list(folder.glob("part-*.h5"))) == 6
    merge_parts([folder], path)
    np.testing.assert_array_equal(open_logits(path).logits, more_logits)


def test_a_store_that_stayed_a_folder_says_how_views_are_added(path, written, add_views, more_logits):
    folder = parts_folder(written(path).path)
    with pytest.raises(InputError, match=f"merge them first .python -m distill.cache merge {folder} --out {path}"):
        add_views(path)
    merge_parts([folder], path)
    add_views(path)
    np.testing.assert_array_equal(open_logits(path).logits, more_logits)


@pytest.mark.parametrize("other", ["teacher", "images"])
def test_a_merge_replaces_no_store_of_another_teacher_or_other_images(
    tmp_path, stored, add_views, writer_for, faces, more_logits, other
):
    before = stored.read_bytes()
    if other == "teacher":
        folder, message = add_views(tmp_path / "o.h5", "1/1", teacher_sha256="cd" * 32), "teacher_sha256: stored"
    else:
        images = replace(faces, images=ArrayImages(faces.images.array + 1))
        writer, message = writer_for(tmp_path / "o.h5", dataset=images, views=4), "content_hash: stored"
        for rows in writer.missing():
            writer.write(rows, more_logits[rows])
        folder = parts_folder(writer.path)
    with pytest.raises(InputError, match=f"teacher.h5 is there already .{message}"):
        merge_parts([folder], stored)
    assert stored.read_bytes() == before


# What the teacher learned from


@pytest.mark.parametrize("shard", [None, "1/1"])
def test_what_the_teacher_learned_from_outlives_added_views(path, written, add_views, shard):
    written(path, teacher_training=LEARNED_FROM).finish()
    add_views(path, shard)  # by the same weights, of which nothing else is known
    if shard:
        merge_parts([parts_folder(path)], path)
    assert open_logits(path).header.views == 4
    assert open_logits(path).header.teacher_training == LEARNED_FROM


def test_what_the_teacher_learned_from_outlives_an_interruption(path, written):
    written(path, parts=2, teacher_training=LEARNED_FROM)
    assert open_logits(written(path).finish()).header.teacher_training == LEARNED_FROM


def test_what_parts_know_of_the_teacher_does_not_depend_on_who_asked_for_missing_ones(path, written, writer_for):
    written(path, teacher_training=LEARNED_FROM)
    writer = writer_for(path)
    before = writer.header
    assert writer.missing() == []
    assert writer.header == before
    assert open_logits(writer_for(path).finish()).header.teacher_training == LEARNED_FROM


def test_a_store_in_parts_knows_what_one_of_them_knows(path, written):
    written(path, parts=2)
    written(path, teacher_training=LEARNED_FROM)
    assert open_logits(parts_folder(path)).header.teacher_training == LEARNED_FROM
    assert open_logits(merge_parts([parts_folder(path)], path)).header.teacher_training == LEARNED_FROM


def test_added_views_may_say_what_the_teacher_learned_from(stored, add_views):
    add_views(stored, teacher_training=LEARNED_FROM)
    assert open_logits(stored).header.teacher_training == LEARNED_FROM


def test_a_teacher_that_learned_from_other_faces_is_refused(tmp_path, path, written, add_views):
    others = {**LEARNED_FROM, "train": "89ab"}
    message = 'teacher_training: stored .*"0123".*, expected .*"89ab"'
    written(path, teacher_training=LEARNED_FROM).finish()
    with pytest.raises(InputError, match=message):
        add_views(path, teacher_training=others)
    unfinished = tmp_path / "unfinished.h5"
    written(unfinished, parts=1, teacher_training=LEARNED_FROM)
    with pytest.raises(InputError, match=message):
        written(unfinished, teacher_training=others)


# What is reported to the user


def test_fewer_views_are_among_those_that_are_there(stored, add_views, writer_for):
    add_views(stored)
    message = "already holds these views, and others .views: stored 4, expected 2.*give --views 4"
    with pytest.raises(InputError, match=message) as refused:
        writer_for(stored)
    assert "delete" not in str(refused.value)


def test_a_store_that_was_written_anew_is_to_be_opened_again(stored, add_views, more_logits):
    store = open_logits(stored)
    add_views(stored)
    with pytest.raises(InputError, match="teacher.h5 was written anew since it was opened: open it again$"):
        store.logits  # noqa: B018
    np.testing.assert_array_equal(open_logits(stored).logits, more_logits)
