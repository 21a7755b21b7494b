"""Looking after cached logits: every verb of `distill.cache` on a real store, and on wrong input."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.cache import VERBS
from distill.command_line.stage import run_stage, run_stages
from distill.data.open_dataset import open_dataset
from distill.logit_store import UNKNOWN_PIXELS, open_logits
from distill.teacher_logits import TeacherLogitsSettings, teacher_logits
from tests.training.small_runs import record_of

CLASSES = "angry,disgust,fear,happy,sad,surprise,neutral"
MERGED = ("bad", "disgust", "fear", "happy", "surprise", "neutral")
TEACHER = """
import numpy as np

def brightness(images):
    rows = images.reshape(len(images), -1).mean(axis=1, keepdims=True)
    return np.float32(rows * np.linspace(-0.05, 0.05, 7) + np.arange(7) % 3)
"""


def cache(*args) -> int:
    with pytest.raises(SystemExit) as ended:
        run_stages("cache", VERBS, [str(arg) for arg in args])
    return ended.value.code


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with faces, a teacher that is a Python function, and its logits."""
    folder = tmp_path_factory.mktemp("cache")
    rng = np.random.default_rng(0)
    lines = [f"{row % 7},{' '.join(map(str, rng.integers(0, 256, 64)))}" for row in range(30)]
    usages = ["Training"] * 20 + ["PublicTest"] * 10
    rows = [f"{line},{usage}\n" for line, usage in zip(lines, usages, strict=True)]
    (folder / "fer2013.csv").write_text("emotion,pixels,Usage\n" + "".join(rows))
    (folder / "bright_teacher.py").write_text(TEACHER)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


def scoring_flags(work, *more):
    teacher = ("--teacher", "bright_teacher:brightness", "--input.size", 8, "--input.channels", 1)
    return ("--data", work / "fer2013.csv", *teacher, *more)


def write_logits(work, *more) -> Path:
    args = [str(arg) for arg in scoring_flags(work, "--views", 2, *more)]
    with pytest.raises(SystemExit) as ended:
        run_stage(teacher_logits, TeacherLogitsSettings, args)
    assert ended.value.code == 0
    return work / more[more.index("--out") + 1]


@pytest.fixture(scope="module")
def stored(work):
    return write_logits(work, "--out", work / "logits.h5")


def test_inspect_shows_the_header_and_what_a_temperature_means(stored, work, capsys):
    assert cache("inspect", stored) == 0
    shown = capsys.readouterr().out
    for part in ("30 of ", "2: algorithm blake2b-1", "bright_teacher:brightness", "float32", "best calibrated"):
        assert part in shown
    assert [line.split()[0] for line in shown.splitlines()[-5:]] == ["1", "2", "4", "8", "16"]


def test_inspect_as_json_agrees_with_numpy(stored, work, capsys):
    assert cache("inspect", stored, "--json", "--data", work / "fer2013.csv", "--split", "validation") == 0
    found = json.loads(capsys.readouterr().out)
    store, data = open_logits(stored), open_dataset(work / "fer2013.csv").split("validation")
    logits = store.join(data)[:, 0].astype(np.float64)
    assert found["header"] == store.header.to_dict() | {
        "class_names": CLASSES.split(","),
        "teacher_input_shape": [8, 8, 1],
    }
    assert (found["samples"], found["evaluated_labelled"], found["bytes"]) == (30, 10, stored.stat().st_size)
    assert found["accuracy"] == pytest.approx((logits.argmax(1) == data.labels).mean())
    odds = np.exp(logits / 4)
    top = (odds / odds.sum(1, keepdims=True)).max(1).mean()
    assert found["temperatures"][2]["mean_top_probability"] == pytest.approx(top)


def test_inspect_evaluates_on_the_labels_of_the_data(stored, work, tmp_path, capsys):
    store = open_logits(stored)
    np.savez(tmp_path / "bare.npz", logits=store.logits[:, 0], sample_id=np.array(store.sample_ids.tolist()))
    assert cache("import", tmp_path / "bare.npz", "--out", tmp_path / "bare.h5", "--classes", CLASSES) == 0
    capsys.readouterr()
    accuracies = []
    for store in (stored, tmp_path / "bare.h5"):
        assert cache("inspect", store, "--json", "--data", work / "fer2013.csv") == 0
        accuracies.append(json.loads(capsys.readouterr().out)["accuracy"])
    assert accuracies[0] == accuracies[1] is not None


def test_inspect_draws_a_picture(stored, tmp_path):
    assert cache("inspect", stored, "--plot", tmp_path / "t.png") == 0
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_verify_checks_the_file_the_images_and_the_teacher(stored, work, capsys):
    assert cache("verify", stored) == 0
    assert "every block is as it was written" in capsys.readouterr().out
    assert cache("verify", stored, *scoring_flags(work, "--images", 7)) == 0
    shown = capsys.readouterr().out
    assert "each has the pixels that the teacher saw" in shown
    assert "classes    assumed to be those of " in shown
    assert "scored 7 images x 2 views again: same class in 100.0%, largest difference 0 " in shown


def test_images_that_cannot_be_checked_are_counted(stored, work, tmp_path, capsys):
    store = open_logits(stored)
    hashes = store.content_hashes.copy()
    hashes[:4] = UNKNOWN_PIXELS
    arrays = {"logits": store.logits[:, 0], "sample_id": np.array(store.sample_ids.tolist()), "content_hash": hashes}
    np.savez(tmp_path / "some.npz", **arrays)
    imported = tmp_path / "some.h5"
    assert cache("import", tmp_path / "some.npz", "--out", imported, "--classes", CLASSES) == 0
    assert f"pixels of 4 of 30 images in {imported} are unknown: joined by id, unchecked" in capsys.readouterr().out
    assert cache("verify", imported, "--data", work / "fer2013.csv") == 0
    shown = capsys.readouterr().out
    assert "26 images with the pixels that the teacher saw; 4 cannot be checked, theirs are unknown" in shown
    assert cache("inspect", imported) == 0
    assert "; the pixels of 4 are unknown" in capsys.readouterr().out


def test_verify_notices_a_flipped_byte_another_image_and_another_teacher(stored, work, tmp_path, capsys):
    content = bytearray(stored.read_bytes())
    content[content.index(open_logits(stored).logits[5].tobytes())] ^= 1
    (tmp_path / "flipped.h5").write_bytes(content)
    assert cache("verify", tmp_path / "flipped.h5") == 2
    assert "do not match their checksum" in capsys.readouterr().err
    lines = (work / "fer2013.csv").read_text().splitlines()
    lines[3] = f"2,{' '.join(['7'] * 64)},Training"
    other = tmp_path / "fer2013.csv"
    other.write_text("\n".join(lines))
    assert cache("verify", stored, "--data", other) == 2
    assert "1 of 30 images" in capsys.readouterr().err
    assert cache("verify", stored, *scoring_flags(work, "--input.range", 0, 1)) == 2
    assert "input_format: stored" in capsys.readouterr().err


def test_verify_looks_at_the_order_of_the_classes(work, tmp_path, capsys):
    store = write_logits(work, "--out", tmp_path / "other.h5", "--classes", "affectnet7")
    assert cache("verify", store, *scoring_flags(work, "--classes", "affectnet7")) == 0
    shown = capsys.readouterr().out
    assert "fer2013.csv in their order: stored neutral, happy, " in shown
    assert "the data has angry, disgust, " in shown
    assert cache("verify", store, *scoring_flags(work)) == 2
    assert "class_names: stored" in capsys.readouterr().err
    for flags in (scoring_flags(work, "--classes", "fer2013"), ["--classes", "fer2013"]):
        assert cache("verify", store, *flags) == 2
        assert "expected --classes fer2013" in capsys.readouterr().err
    assert cache("verify", store, "--data", work / "fer2013.csv") == 0
    assert "classes    not those of " in capsys.readouterr().out


def test_a_store_of_merged_classes_is_judged_by_the_classes_of_the_teachers_run(work, tmp_path, capsys):
    from teachers import TEACHERS

    record = record_of()
    merged = replace(record.data, class_map={"angry": "bad", "sad": "bad"}, class_names=MERGED)
    replace(record, data=merged).write(tmp_path)
    TEACHERS["plain_resnet_tiny"](classes=len(MERGED)).save(tmp_path / "best.keras")
    flags = ("--data", work / "fer2013.csv", "--teacher", "plain_resnet_tiny", "--weights", tmp_path)
    with pytest.raises(SystemExit):
        run_stage(teacher_logits, TeacherLogitsSettings, [*map(str, flags), "--out", str(tmp_path / "l.h5")])
    store = open_logits(tmp_path / "l.h5")
    assert store.class_names == MERGED
    capsys.readouterr()
    assert cache("verify", store.path, *flags, "--images", 3) == 0
    shown = capsys.readouterr().out
    assert "scored 3 images" in shown
    assert "not counted" not in shown
    for verb in ("verify", "inspect"):
        assert cache(verb, store.path, "--data", work / "fer2013.csv") == 0
        shown = capsys.readouterr().out
        assert f"{9 if verb == 'verify' else 3} images are not counted, {store.path} lacks" in shown
        assert "their classes: angry, sad" in shown


def test_a_negative_seed_is_refused_in_one_line(stored, work, capsys):
    assert cache("verify", stored, *scoring_flags(work, "--seed", -1)) == 2
    assert "seed must be at least 0, received -1" in capsys.readouterr().err


def test_a_teacher_without_images_cannot_score_again(stored, capsys):
    assert cache("verify", stored, "--teacher", "bright_teacher:brightness") == 2
    assert "give --data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "flags", "message"),
    [
        ("verify", ["--weights", "nowhere"], "without --teacher nothing uses --weights"),
        ("verify", ["--input.range", "-1", "1"], "without --teacher nothing uses --input"),
        ("inspect", ["--split", "train"], "--split is one of --data"),
        ("inspect", ["--plot", "t.xyz"], "--plot t.xyz must end in one of .png"),
    ],
)
def test_flags_that_would_be_ignored_are_refused(stored, capsys, verb, flags, message):
    assert cache(verb, stored, *flags) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_verb_is_named(capsys):
    assert cache("inspct", "logits.h5") == 2
    assert 'unknown verb "inspct": did you mean inspect?' in capsys.readouterr().err


def test_shards_are_merged(stored, work, tmp_path, capsys):
    for shard in ("1/2", "2/2"):
        write_logits(work, "--out", tmp_path / "shared.h5", "--shard", shard)
    assert "when all are: python -m distill.cache merge" in capsys.readouterr().out
    assert cache("merge", tmp_path / "shared.h5.parts", "--out", tmp_path / "shared.h5") == 0
    assert (tmp_path / "shared.h5").read_bytes() == stored.read_bytes()
    assert cache("inspect", tmp_path / "shared.h5.parts") == 0
    assert cache("merge", tmp_path / "nothing", "--out", tmp_path / "more.h5") == 2


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_what_is_exported_comes_back(stored, tmp_path, suffix, capsys):
    assert cache("export", stored, "--out", tmp_path / f"l{suffix}") == 0
    assert cache("import", tmp_path / f"l{suffix}", "--out", tmp_path / "back.h5") == 0
    assert "30 images x 2 views x 7 classes" in capsys.readouterr().out
    back, store = open_logits(tmp_path / "back.h5"), open_logits(stored)
    assert back.header == store.header
    np.testing.assert_array_equal(back.logits, store.logits)
    np.testing.assert_array_equal(back.sample_ids, store.sample_ids)


def test_logits_from_elsewhere_are_imported(tmp_path, capsys):
    np.savez(tmp_path / "theirs.npz", logits=np.eye(7, dtype=np.float32) * 5, sample_id=[f"f{n}" for n in range(7)])
    assert cache("import", tmp_path / "theirs.npz", "--out", tmp_path / "l.h5") == 2
    assert "classes" in capsys.readouterr().err
    assert cache("import", tmp_path / "theirs.npz", "--out", tmp_path / "l.h5", "--classes", "fer2013") == 0
    assert "joined by file name, unchecked" in capsys.readouterr().out
    assert cache("inspect", tmp_path / "l.h5") == 0
    assert "; the pixels of 7 are unknown" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_a_file_that_is_no_store_ends_in_one_line(verb, tmp_path, capsys):
    notes = tmp_path / "notes.txt"
    notes.write_text("not logits\n")
    assert cache(verb, notes, *(["--out", tmp_path / "out.npz"] if verb not in ("inspect", "verify") else [])) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "out.npz").exists()
