import pytest

from distill.data.expressions import (
    CLASS_ORDERS,
    SPELLINGS,
    canonical_name,
    class_order,
    numbered_classes,
)


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
    ("count", "expected"),
    [(7, CLASS_ORDERS["fer2013"]), (8, CLASS_ORDERS["microexpnet"]), (3, ("0", "1", "2"))],
)
def test_numbered_classes(count, expected):
    assert numbered_classes(count) == expected


def test_numbered_classes_of_another_known_order():
    assert numbered_classes(8, known=("ferplus",)) == CLASS_ORDERS["ferplus"]
