import pytest

from distill.data.expressions import (
    CLASS_ORDERS,
    FIRST_NUMBERS,
    SPELLINGS,
    canonical_name,
    class_columns,
    class_order,
    known_order,
    parse_class_names,
)
from distill.errors import InputError


@pytest.mark.parametrize(
    ("given", "expected"),
    [("anger", "angry"), (" Happiness ", "happy"), ("SAD", "sad"), ("afraid", "fear"), ("bored", "bored")],
)
def test_one_spelling_for_each_expression(given, expected):
    assert canonical_name(given) == expected


def test_no_spelling_stands_for_two_expressions():
    spellings = [spelling for name, others in SPELLINGS.items() for spelling in (name, *others)]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize("order", CLASS_ORDERS)
def test_the_known_orders_use_known_names_once(order):
    names = CLASS_ORDERS[order]
    assert set(names) <= set(SPELLINGS)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("order", ["fer2013", "ckplus", "microexpnet"])
def test_the_names_of_a_known_set_take_its_order(order):
    assert class_order(sorted(CLASS_ORDERS[order])) == CLASS_ORDERS[order]
    spelt_otherwise = [SPELLINGS[name][0].upper() for name in reversed(CLASS_ORDERS[order])]
    assert class_order(spelt_otherwise) == CLASS_ORDERS[order]


def test_any_other_names_are_sorted():
    assert class_order(["tired", "happiness", "bored"]) == ("bored", "happy", "tired")


@pytest.mark.parametrize(
    ("text", "order"),
    [("RAF-DB", "rafdb"), ("CK+", "ckplus"), ("FER 2013", "fer2013"), ("AffectNet-7", "affectnet7"), ("happy", None)],
)
def test_a_known_order_may_be_spelt_otherwise(text, order):
    assert known_order(text) == order


@pytest.mark.parametrize("order", CLASS_ORDERS)
def test_an_order_is_named_or_listed(order):
    assert parse_class_names(order) == CLASS_ORDERS[order]
    assert parse_class_names(",".join(CLASS_ORDERS[order])) == CLASS_ORDERS[order]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fer2031", "did you mean fer2013"),
        ("smiles", "choose one of fer2013, ferplus"),
        ("happy,joy", "each once"),
        ("happy,,sad", "must all be there"),
    ],
)
def test_what_is_no_order_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_class_names(text)


@pytest.mark.parametrize("order", CLASS_ORDERS)
def test_class_columns_put_one_order_into_another(order):
    names = CLASS_ORDERS["ferplus"]  # knows all eight
    assert [names[column] for column in class_columns(names, CLASS_ORDERS[order])] == list(CLASS_ORDERS[order])


def test_affectnet_numbers_its_classes_as_published():
    # Mollahosseini et al. 2017, https://arxiv.org/abs/1708.03985: 0 neutral, 1 happy, ..., 7 contempt
    assert CLASS_ORDERS["affectnet"].index("fear") == 4
    assert CLASS_ORDERS["affectnet"][:7] == CLASS_ORDERS["affectnet7"]


def test_rafdb_numbers_its_classes_as_published():
    # Li et al. 2017, readme of the data: 1 surprise, 2 fear, 3 disgust, 4 happiness, 5 sadness, 6 anger, 7 neutral
    published = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]
    assert CLASS_ORDERS["rafdb"] == tuple(map(canonical_name, published))
    assert FIRST_NUMBERS["rafdb"] == 1
