import pytest

from distill.data.class_labels import class_list, read_labels, with_classes_in
from distill.errors import InputError


def read(written, given, **known):
    return read_labels(written, class_list(given), source="faces", where=lambda text: f"at {text}", **known)


def meanings(written, given):
    labels = read(written, given)
    return [labels.class_names[labels.positions[text]] for text in written]


@pytest.mark.parametrize(
    ("given", "written", "expected"),
    [
        ("a,b,c", "0 1 2", "a b c"),
        ("a,b,c", "1 2 3", "a b c"),
        ("a,b,c", "0 2", "a c"),
        ("a,b,c", "1 3", "a c"),
        ("a,b,c", "2.0 1. 00 +1", "c b a b"),
        ("a,b,c", "c a", "c a"),
        ("a,b,c", "0 c 1", "a c b"),
        ("1=a,2=b,3=c", "1 2", "a b"),
        ("0=a,1=b,2=c", "1 2", "b c"),
        ("2: c, 1: b, 0: a", "2 1", "c b"),
        ("5=a,6=b", "6 5", "b a"),
        ("0,1,2", "1 2", "1 2"),
        ("rafdb", "1 4", "surprise happy"),
        ("rafdb", "0 3", "surprise happy"),
        ("rafdb", "Happiness 7", "happy neutral"),
        ("fer2013", "2 6", "fear neutral"),
        ("fer2013", "1 7", "angry neutral"),
    ],
)
def test_what_labels_mean(given, written, expected):
    assert meanings(written.split(), given) == expected.split()


@pytest.mark.parametrize(
    ("given", "written", "message"),
    [
        (
            None,
            "0 1",
            "faces: the labels are numbers, 0..1, of unknown meaning: name .* with --data-classes",
        ),
        (None, "1 happy", r'faces: some labels are numbers \("1"\), others names \("happy"\)'),
        (None, "happy nan", 'at nan: label "nan", expected the name or the number of a class'),
        ("a,b,c", "1 2", "1..2 without 0, .* the 3 classes of --data-classes .* such as 0=a,1=b,2=c"),
        ("affectnet", "1 2 7", "1..7 without 0, .* such as 0=neutral,1=happy"),
        ("a,b,c", "0 3", 'at 3: label "3", expected 0..2 or one of a, b, c'),
        ("a,b,c", "-1 0", 'at -1: label "-1", expected 0..2'),
        ("a,b,c", "1 4", 'at 4: label "4", expected'),
        ("rafdb", "1 8", 'at 8: label "8", expected 1..7'),
        ("1=a,2=b", "0 1", 'at 0: label "0", expected 1..2'),
        ("a,b", "a d", 'at d: label "d", expected 0..1 or one of a, b'),
    ],
)
def test_labels_without_a_meaning_are_refused(given, written, message):
    with pytest.raises(InputError, match=message) as caught:
        read(written.split(), given)
    assert "\n" not in str(caught.value)


def test_numbers_that_do_not_count_from_zero_and_absent_classes_are_noted():
    assert read(["1", "3"], "a,b,c").notes == ("labels count from 1: 1 a, 2 b, 3 c", "no image has the label b")
    assert read(["0", "1", "2"], "a,b,c").notes == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("0=a,2=b", "--data-classes numbers the classes 0, 2: each once, and none left out"),
        ("0=a,0=b", "numbers the classes 0, 0"),
        ("a,1=b", 'a" has no number, others have'),
        ("0=a,1=a", "each once"),
        ("rafbd", "did you mean rafdb"),
        ("", "unknown class order"),
        ([], "unknown class order"),
    ],
)
def test_lists_that_cannot_be_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        class_list(given)


def test_a_comma_in_one_of_several_names_begins_no_new_class():
    names = ("tench, Tinca tinca", "goldfish")
    assert class_list(names).names == names
    assert with_classes_in(None, "\n".join(names).encode(), "classes.txt").names == names
    assert with_classes_in(None, b"goldfish,tench\n", "classes.txt").names == ("goldfish", "tench")
    with pytest.raises(InputError, match=r"classes.txt: .* each once"):
        with_classes_in(None, b"tench, Tinca\nfear\nfear\n", "classes.txt")
