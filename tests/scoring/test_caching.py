"""Caching: nothing lost, nothing mistaken, and the student sees what the teacher scored."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from distill.data.dataset import ArrayImages
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.logit_store import LogitWriter, Shard, merge_parts, open_logits
from distill.runtimes.image_model import LOGITS, ImageModel
from distill.scoring import caching
from distill.scoring.caching import as_image_model, cache_logits, inference_model
from distill.scoring.spot_check import spot_check
from distill.training.batches import CachedOutputs, ViewBatches

ROOT = Path(__file__).parents[2]
CLASSES = ("angry", "happy", "neutral")
QUIET = {"rows_per_part": 4, "progress": False}


class Teacher:
    """Three sums of pixels, and a memory of what it was shown."""

    def __init__(self, scale=1.0):
        self.seen = []
        self.scale = scale

    def __call__(self, images):
        self.seen.append(images.copy())
        flat = images.reshape(len(images), -1).astype(np.float64)
        return (self.scale * flat @ np.random.default_rng(5).normal(0, 0.01, (flat.shape[1], 3))).astype(np.float32)

    def model(self, **changes):
        facts = {
            "name": "sums",
            "input_shape": (8, 8, 1),
            "classes": 3,
            "sha256": f"{self.scale}",
            "numeric_policy": "float32",
            "logits_from": LOGITS,
            "input_format": {},
            "network": None,
        }
        return ImageModel(**{**facts, **changes}, predict=self)


def test_the_student_sees_exactly_the_pixels_that_the_teacher_scored(tmp_path, faces):
    teacher = Teacher()
    store = cache_logits(teacher.model(), faces, tmp_path / "t.h5", views=3, view_spec=ViewSpec(erase=0.5), **QUIET)
    scored = np.concatenate(teacher.seen).reshape(18, 3, 8, 8, 1)
    assert len({view.tobytes() for view in scored.reshape(54, -1)}) == 54
    training = faces.split("train")
    batches = ViewBatches(
        training,
        image_shape=(8, 8, 1),
        view_spec=ViewSpec.from_dict(store.view_spec),
        teacher=CachedOutputs(logits=store.join(training)),
        views=3,
        batch_size=5,
    )
    row_of = {sample_id: row for row, sample_id in enumerate(faces.ids)}
    for epoch in range(3):
        for picked in batches.order(epoch):
            batch = batches.render(batches.rows(picked, epoch))
            rows = [row_of[sample_id] for sample_id in training.ids[picked]]
            views = batches.views_of_epoch(epoch)[picked]
            np.testing.assert_array_equal(batch.images, scored[rows, views])
            np.testing.assert_array_equal(batch.teacher["logits"], store.logits[rows, views])


def test_each_image_is_read_once_for_all_its_views(tmp_path, faces):
    read = []

    class Counted(ArrayImages):
        def read(self, indices):
            read.extend(np.asarray(indices).tolist())
            return super().read(indices)

    counted = replace(faces, images=Counted(faces.images.array))
    counted.content_hashes  # noqa: B018 - these need a pass of their own
    read.clear()
    cache_logits(Teacher().model(), counted, tmp_path / "t.h5", views=6, **QUIET)
    assert read == list(range(18))


def test_more_views_are_added_to_a_finished_file_without_scoring_again(tmp_path, faces):
    teacher, scored_at_once = Teacher(), Teacher()
    few = cache_logits(teacher.model(), faces, tmp_path / "t.h5", views=2, **QUIET)
    assert few.logits.shape == (18, 2, 3)
    teacher.seen.clear()
    shuffled = faces.subset(np.random.default_rng(1).permutation(18))
    more = cache_logits(teacher.model(), shuffled, tmp_path / "t.h5", views=5, **QUIET)
    assert sum(map(len, teacher.seen)) == 18 * 3 + 4 * 2  # a few are scored again, in the views that are stored
    whole = cache_logits(scored_at_once.model(), faces, tmp_path / "whole.h5", views=5, **QUIET)
    assert more.header == whole.header
    np.testing.assert_allclose(more.join(faces), whole.join(faces), rtol=1e-5)  # in other batches
    with pytest.raises(InputError, match="views: stored 5, expected 4"):
        cache_logits(teacher.model(), faces, tmp_path / "t.h5", views=4, **QUIET)


def cut_off(monkeypatch, teacher, faces, out, *, parts=1, **settings):
    """Let caching end after some parts."""
    write = LogitWriter.write

    def write_few(writer, rows, *scored):
        if rows.start >= parts * QUIET["rows_per_part"]:
            raise KeyboardInterrupt
        write(writer, rows, *scored)

    with monkeypatch.context() as patched:
        patched.setattr(LogitWriter, "write", write_few)
        with pytest.raises(KeyboardInterrupt):
            cache_logits(teacher, faces, out, **settings, **QUIET)


CHANGED = (
    r"sums no longer gives the logits that .*t.h5 began with \(face-\d+, view \d, \w+: stored (.*), now (.*)\): "
)


@pytest.mark.parametrize("views", [2, 3], ids=["repeated", "extended"])
def test_a_finished_store_notices_a_teacher_that_changed_behind_its_fingerprint(tmp_path, faces, views):
    cache_logits(Teacher().model(), faces, tmp_path / "t.h5", views=2, **QUIET)
    before = (tmp_path / "t.h5").read_bytes()
    changed = Teacher(scale=1.5).model(sha256="1.0")
    with pytest.raises(InputError, match=CHANGED) as caught:
        cache_logits(changed, faces, tmp_path / "t.h5", views=views, **QUIET)
    stored, now = map(float, re.search(CHANGED, str(caught.value)).groups())
    assert now == pytest.approx(1.5 * stored, rel=1e-4)
    assert (tmp_path / "t.h5").read_bytes() == before


def test_another_teacher_is_noticed_however_small_its_logits_are(tmp_path, faces):
    tiny = Teacher(scale=1e-6)
    store = cache_logits(tiny.model(), faces, tmp_path / "t.h5", views=2, **QUIET)
    assert np.abs(store.logits).max() < 5e-4
    with pytest.raises(InputError, match=CHANGED):
        cache_logits(Teacher(scale=-1e-6).model(sha256="1e-06"), faces, tmp_path / "t.h5", views=3, **QUIET)
    cache_logits(tiny.model(), faces, tmp_path / "t.h5", views=3, **QUIET)  # in other batches, which round otherwise


def test_a_half_done_store_notices_a_teacher_that_changed_behind_its_fingerprint(tmp_path, faces, monkeypatch):
    out = tmp_path / "t.h5"
    cut_off(monkeypatch, Teacher().model(), faces, out)
    with pytest.raises(InputError, match=CHANGED):
        cache_logits(Teacher(scale=1.5).model(sha256="1.0"), faces, out, **QUIET)
    teacher = Teacher()
    cache_logits(teacher.model(), faces, out, **QUIET)  # the first one goes on
    assert sum(map(len, teacher.seen)) == (14 + 4) * 4


def test_a_shard_notices_that_the_others_used_another_teacher(tmp_path, faces):
    out = tmp_path / "t.h5"
    cache_logits(Teacher().model(), faces, out, shard=Shard(1, 2), **QUIET)
    with pytest.raises(InputError, match=CHANGED):
        cache_logits(Teacher(scale=1.5).model(sha256="1.0"), faces, out, shard=Shard(2, 2), **QUIET)


def test_a_damaged_part_is_not_scored_again(tmp_path, faces, monkeypatch):
    out = tmp_path / "t.h5"
    cut_off(monkeypatch, Teacher().model(), faces, out, parts=2)
    first, second = sorted((tmp_path / "t.h5.parts").glob("part-*.h5"))
    first.write_bytes(first.read_bytes()[:-9])
    with pytest.raises(InputError, match=CHANGED):  # the second one shows it
        cache_logits(Teacher(scale=1.5).model(sha256="1.0"), faces, out, **QUIET)
    second.write_bytes(second.read_bytes()[:-9])
    changed = cache_logits(Teacher(scale=1.5).model(sha256="1.0"), faces, out, **QUIET)
    whole = cache_logits(Teacher(scale=1.5).model(sha256="1.0"), faces, tmp_path / "whole.h5", **QUIET)
    np.testing.assert_array_equal(changed.logits, whole.logits)


def test_a_folded_network_that_gives_other_logits_is_not_used(monkeypatch, faces):
    inputs = keras.Input((8, 8, 1))
    network = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))
    teacher = as_image_model(network, CLASSES)
    for factor, used in ((1 + 1e-6, True), (1.1, False), (np.nan, False)):
        folded = keras.models.clone_model(network)
        folded.set_weights([factor * weight for weight in network.get_weights()])
        monkeypatch.setattr("distill.scoring.caching.fold_batch_norm", lambda model, keep, folded=folded: folded)
        assert inference_model(teacher).network is (folded if used else network)


def test_a_second_teacher_scores_the_same_views(tmp_path, faces):
    first, second = Teacher(), Teacher(scale=2.0)
    stores = [cache_logits(each.model(), faces, tmp_path / f"{each.scale}.h5", **QUIET) for each in (first, second)]
    np.testing.assert_array_equal(np.concatenate(first.seen), np.concatenate(second.seen))
    np.testing.assert_allclose(2 * stores[0].logits, stores[1].logits, rtol=1e-6)
    assert stores[0].view_spec == stores[1].view_spec


def test_shards_merge_into_what_one_process_writes(tmp_path, faces):
    whole = cache_logits(Teacher().model(), faces, tmp_path / "whole.h5", **QUIET)
    out = tmp_path / "shared.h5"
    for number in (1, 2, 3):
        assert cache_logits(Teacher().model(), faces, out, shard=Shard(number, 3), **QUIET) is None
    merge_parts([f"{out}.parts"], out)
    assert out.read_bytes() == whole.path.read_bytes()


def test_labels_stand_in_the_order_of_the_teachers_classes(tmp_path, faces):
    own = ("neutral", "contempt", "happy")
    store = cache_logits(Teacher().model(), faces, tmp_path / "t.h5", class_names=own, **QUIET)
    assert store.class_names == own
    expected = np.array([-1, 2, 0])[faces.labels]  # the teacher knows no "angry"
    np.testing.assert_array_equal(store.labels, expected)


def test_a_teacher_of_other_classes_is_refused(tmp_path, faces):
    with pytest.raises(InputError, match=r"sums gives 3 logits, the classes are 2 \(a, b\)"):
        cache_logits(Teacher().model(), faces, tmp_path / "t.h5", class_names=("a", "b"), **QUIET)


# Spot checks


def test_a_spot_check_scores_again_with_the_same_teacher(tmp_path, faces):
    teacher = Teacher()
    store = cache_logits(teacher.model(), faces, tmp_path / "t.h5", **QUIET)
    teacher.seen.clear()
    check = spot_check(teacher.model(), store, faces.split("validation"), images=5)
    assert (check.images, check.views, check.largest_difference, check.agreement) == (5, 4, 0.0, 1.0)
    assert sum(map(len, teacher.seen)) == 5 * 4


def test_a_spot_check_notices_other_logits_of_a_teacher_that_looks_the_same(tmp_path, faces):
    store = cache_logits(Teacher().model(), faces, tmp_path / "t.h5", **QUIET)
    drifted = Teacher(scale=1.01).model(sha256="1.0")
    with pytest.raises(InputError, match="sums now gives other logits .* largest difference .* rounding explains"):
        spot_check(drifted, store, faces)


@pytest.mark.parametrize(
    "changes",
    [{"sha256": "0"}, {"numeric_policy": "mixed_bfloat16"}, {"logits_from": "log probabilities"}, {"name": "other"}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_spot_check_names_what_is_another_teacher(tmp_path, faces, changes):
    store = cache_logits(Teacher().model(), faces, tmp_path / "t.h5", **QUIET)
    with pytest.raises(InputError, match=f"another teacher.*stored .*, expected .*{next(iter(changes.values()))}"):
        spot_check(Teacher().model(**changes), store, faces)


def test_a_spot_check_knows_the_order_of_the_classes(tmp_path, faces):
    own = ("neutral", "happy", "angry")
    store = cache_logits(Teacher().model(), faces, tmp_path / "t.h5", class_names=own, **QUIET)
    assert spot_check(Teacher().model(), store, faces, class_names=own).agreement == 1
    for names in (None, CLASSES):  # without names they are those of the data
        with pytest.raises(
            InputError, match='class_names: stored .*"neutral", "happy".*, expected .*"angry", "happy"'
        ):
            spot_check(Teacher().model(), store, faces, class_names=names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"images": 0}, "images .* least 1"), ({"seed": -1}, "seed .* 0, rec"), ({"batch_size": 0}, "batch-size")],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_a_spot_check_that_cannot_be_drawn(tmp_path, faces, settings, message):
    store = cache_logits(Teacher().model(), faces, tmp_path / "t.h5", **QUIET)
    with pytest.raises(InputError, match=message):
        spot_check(Teacher().model(), store, faces, **settings)


def test_a_spot_check_scores_in_batches_of_the_size_given(tmp_path, faces):
    teacher = Teacher()
    store = cache_logits(teacher.model(), faces, tmp_path / "t.h5", **QUIET)
    teacher.seen.clear()
    spot_check(teacher.model(), store, faces, images=5, batch_size=8)
    assert [len(images) for images in teacher.seen] == [8, 8, 4]


# Kills and full disks

KILLED_AT_RANDOM = """
import faulthandler, os, random, shutil, signal, sys, threading, time
from pathlib import Path
import numpy as np
from tqdm import tqdm
from distill.data.dataset import ArrayImages, Dataset
from distill.logit_store import Shard, merge_parts
from distill.runtimes.image_model import ImageModel, InnerOutputs
from distill.scoring.caching import cache_logits

faulthandler.dump_traceback_later(240, exit=True)
tqdm.monitor_interval = 0
tqdm.set_lock(threading.RLock())  # its own is shared with forks, and a child that is killed would never give it back
folder, what, kills = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rows, rows_per_part = 60, 3
rng = np.random.default_rng(0)
faces = Dataset("faces", np.array([f"face-{row}" for row in range(rows)]), rng.integers(0, 3, rows), ("a", "b", "c"),
                ArrayImages(rng.integers(0, 256, (rows, 8, 8, 1), np.uint8)), np.full(rows, "train"))

def sums(images):
    time.sleep(0.005)  # so that kills come while the teacher thinks, too
    return (images.reshape(len(images), -1) @ np.arange(192).reshape(64, 3)).astype(np.float32)

inner = InnerOutputs(lambda: {"pixels": (8, 8, 1)}, lambda names: lambda images: (sums(images), [images]))
teacher = ImageModel(name="sums", input_shape=(8, 8, 1), classes=3, sha256="0", numeric_policy="float32",
                     logits_from="logits", input_format={}, network=None, predict=sums, inner=inner)

def cache(out, **how):
    how = {"views": 4, "rows_per_part": rows_per_part, **how}
    cache_logits(teacher, faces, out, progress=False, **how)

def command(out):
    if what == "merge":
        merge_parts([f"{out}.parts"], out)
    else:
        cache(out, features=["pixels", "pixels@3"] if what == "features" else ())

def begin(out):  # what is there before the command is given for the first time
    shutil.rmtree(out.parent, ignore_errors=True)
    shutil.copytree(folder / "before", out.parent)

def at(name):
    return folder / name / "t.h5"

def finished_parts(out):
    return set(Path(f"{out}.parts").glob("part-*.h5"))

def killed_after(seconds, out):
    child = os.fork()
    if not child:
        command(out)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])

at("before").parent.mkdir()
if what in ("more views", "features"):
    cache(at("before"), views=2)
if what == "merge":
    cache(at("before"), shard=Shard(1, 1))
stored = what in ("more views", "features") and at("before").read_bytes()
for name in ("whole", "timed"):  # the first also warms up what runs once
    begin(at(name))
    begun = time.perf_counter()
    command(at(name))
    lasts = time.perf_counter() - begun
whole, out = at("whole").read_bytes(), at("killed")
random.seed(1)
killed, found = 0, set()
begin(out)
while killed < kills:
    before = finished_parts(out)
    killed += killed_after(random.uniform(0, lasts), out)
    if out.exists() and out.read_bytes() == whole:
        begin(out)
    else:
        assert out.read_bytes() == stored if stored else not out.exists()
        assert before <= finished_parts(out), "a finished part was lost"
        found.add(len(finished_parts(out)))
command(out)
assert out.read_bytes() == whole
left = {path.relative_to(out.parent) for path in out.parent.rglob("*")}
expected = {path.relative_to(folder / "whole") for path in (folder / "whole").rglob("*")}
assert left == expected and not [path for path in left if path.name.startswith(".")], left
print("killed", killed, "with", len(found), "different numbers of parts")
"""


def run(script, *args, backend="numpy"):
    # NumPy has no threads of its own, so that a process that has loaded everything can be forked.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": backend}
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("what", "kills"), [("new", 20), ("more views", 10), ("features", 20), ("merge", 10)])
def test_killed_at_random_moments_and_resumed_gives_the_uninterrupted_file(tmp_path, what, kills):
    done = run(KILLED_AT_RANDOM, tmp_path, what, kills)
    assert done.returncode == 0, done.stderr
    assert f"killed {kills} with" in done.stdout
    if what != "merge":
        assert (
            int(done.stdout.split("with ")[1].split()[0]) > 1
        )  # kills did come in the middle, however busy the machine


@pytest.mark.parametrize(("views", "message"), [(9, "request at most 8 views"), (0, "views must be 1")])
def test_views_that_cannot_be_are_refused_before_anything_is_written(tmp_path, faces, monkeypatch, views, message):
    monkeypatch.setattr(caching, "LogitWriter", None)
    crops = ViewSpec(crops="microexpnet")
    with pytest.raises(InputError, match=message):
        cache_logits(Teacher().model(), faces, tmp_path / "t.h5", views=views, view_spec=crops, **QUIET)


def test_a_teacher_that_fails_leaves_no_folder(tmp_path, faces):
    def broken(images):
        raise InputError("no memory")

    with pytest.raises(InputError, match="no memory"):
        cache_logits(replace(Teacher().model(), predict=broken), faces, tmp_path / "t.h5", **QUIET)
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import resource, sys
import numpy as np
from distill.errors import InputError
from distill.logit_store import LogitHeader, LogitWriter

path, limit = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # a disk that is full after so many bytes of a file
rows = 400
header = LogitHeader(
    class_names=("angry", "happy"), views=8, view_spec={"seed": 0}, teacher_name="t", teacher_sha256="0",
    teacher_input_shape=(8, 8, 1), numeric_policy="float32", dataset_fingerprint="f", dataset_name="d",
)
columns = {"sample_ids": np.array([f"s{row}" for row in range(rows)]), "labels": np.arange(rows) % 2,
           "content_hashes": np.ones((rows, 16), np.uint8)}
try:
    with LogitWriter(path, header, **columns, rows_per_part=100) as writer:
        for part in writer.missing():
            print("writes", part.start, flush=True)
            writer.write(part, np.full((100, 8, 2), part.start, np.float32))
        writer.finish()
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize(("limit", "written"), [(9_000, 1), (20_000, 4)], ids=["part", "merge"])
def test_a_full_disk_is_reported_and_loses_nothing(tmp_path, limit, written):
    path = tmp_path / "t.h5"
    full = run(FULL_DISK, path, limit)
    assert full.returncode == 0, full.stderr  # HDF5 crashes the interpreter where its own writes fail
    *begun, message = full.stdout.splitlines()
    assert len(begun) == written
    assert "t.h5.parts cannot be written (File too large): what is finished is kept; make room" in message
    assert not path.exists()
    assert not list(tmp_path.rglob(".*.h5"))  # nothing half-written stays
    done = run(FULL_DISK, path, 10_000_000)
    assert len(done.stdout.splitlines()) == (4 if written == 1 else 0)
    assert open_logits(path).logits[::100, 0, 0].tolist() == [0, 100, 200, 300]
