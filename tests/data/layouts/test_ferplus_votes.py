import numpy as np
import pytest

from distill.data.class_labels import class_list
from distill.data.expressions import CLASS_ORDERS
from distill.data.layouts import ferplus_votes
from distill.errors import InputError

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
ROWS = (
    "Training,a.png,4,0,0,0,0,0,0,4,2,0",
    "Training,b.png,0,0,0,0,0,0,0,0,0,0",
    "PublicTest,c.png,1,0,0,0,0,0,0,0,9,0",
    "PublicTest,,0,0,0,0,0,0,0,0,0,10",
    "PrivateTest,d.png,0,0,3,0,0,0,1,0,0,0",
)
USAGES = [row.split(",")[0] for row in ROWS]


@pytest.fixture
def faces(write_csv):
    rows = (f"0,{row} 1 2 3,{usage}" for row, usage in enumerate(USAGES))
    return write_csv("emotion,pixels,Usage", *rows)


@pytest.fixture
def write_votes(write_csv):
    return lambda *lines: write_csv(*lines, name="ferplus.csv")


@pytest.mark.usefixtures("faces")
def test_votes_become_soft_labels_of_the_images_in_the_same_rows(write_votes):
    dataset = ferplus_votes.read(write_votes(HEADER, *ROWS))
    assert dataset.ids.tolist() == ["train/00000", "test/00004"]
    assert dataset.splits.tolist() == ["train", "test"]
    assert dataset.class_names == CLASS_ORDERS["ferplus"]
    assert dataset.labels.tolist() == [0, 2]
    np.testing.assert_allclose(dataset.label_probs, [[0.5, 0, 0, 0, 0, 0, 0, 0.5], [0, 0, 0.75, 0, 0, 0, 0.25, 0]])
    assert dataset.read([0, 1])[:, 0, 0, 0].tolist() == [0, 4]
    assert dataset.notes == ("3 of 5 rows left out: 1 without votes, 1 unknown, 1 no face",)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((HEADER, *ROWS[:4]), r"ferplus.csv has 4 rows, .*fer2013.csv has 5"),
        (
            (HEADER, *ROWS[1:], ROWS[0]),
            r'row 1: Usage is "PublicTest", but that row of .*fer2013.csv is in the train split',
        ),
        ((HEADER.replace("fear", "dread"), *ROWS), "has no column fear: expected Usage,Image name,neutral"),
        ((HEADER, ROWS[0].replace("4", "x"), *ROWS[1:]), "line 2: expected 10 numbers of votes"),
        ((HEADER, ROWS[0].replace("4", "-4"), *ROWS[1:]), "line 2: expected 10 numbers of votes"),
        ((HEADER, "Training,a.png,1", *ROWS[1:]), "line 2: 3 columns, the header has 12"),
        ((HEADER, *(usage + ",x.png" + ",0" * 10 for usage in USAGES)), "no row has a plurality"),
    ],
)
@pytest.mark.usefixtures("faces")
def test_wrong_votes_are_named(write_votes, lines, message):
    with pytest.raises(InputError, match=message):
        ferplus_votes.read(write_votes(*lines))


def test_votes_without_images_are_named(write_votes):
    with pytest.raises(InputError, match="holds votes without images: put fer2013.csv into"):
        ferplus_votes.read(write_votes(HEADER, *ROWS))


@pytest.mark.usefixtures("faces")
def test_spellings_of_columns_and_splits_do_not_matter(write_votes):
    header = HEADER.replace("Usage", "usage").replace("NF", "nf").replace("anger", "Angry")
    path = write_votes(header, *(row.replace("PublicTest", "val") for row in ROWS))
    assert ferplus_votes.recognise(path)
    assert ferplus_votes.read(path).ids.tolist() == ["train/00000", "test/00004"]


@pytest.mark.usefixtures("faces")
def test_another_order_of_the_classes_takes_the_votes_along(write_votes):
    path = write_votes(HEADER, *ROWS)
    dataset = ferplus_votes.read(path, class_list("microexpnet"))
    assert dataset.class_names == CLASS_ORDERS["microexpnet"]
    assert [dataset.class_names[label] for label in dataset.labels] == ["neutral", "surprise"]
    voted = [{dataset.class_names[k]: row[k] for k in np.flatnonzero(row)} for row in dataset.label_probs]
    assert voted == [{"neutral": 0.5, "contempt": 0.5}, {"surprise": 0.75, "fear": 0.25}]
    with pytest.raises(InputError, match="omit --data-classes"):
        ferplus_votes.read(path, class_list("fer2013"))


@pytest.mark.usefixtures("faces")
def test_rows_in_another_order_than_published_are_refused(write_votes):
    named = [row.replace(f"{row.split(',')[1]},", f"fer{number:07d}.png,", 1) for number, row in enumerate(ROWS)]
    named[3] = ROWS[3]  # without a face there is no name
    assert len(ferplus_votes.read(write_votes(HEADER, *named))) == 2
    named[0], named[1] = named[1], named[0]
    with pytest.raises(InputError, match=r"line 3: fer0000000.png stands behind number 1: its rows are not those of"):
        ferplus_votes.read(write_votes(HEADER, *named))
