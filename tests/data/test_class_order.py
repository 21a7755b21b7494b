"""How the order of a network's classes is known, and what contradicts itself."""

import pytest

from distill.data.class_order import (
    ASSUMED,
    GIVEN,
    KNOWN,
    NOT_RECORDED,
    class_order_of,
    most_certain,
)
from distill.data.expressions import CLASS_ORDERS, parse_class_names
from distill.errors import InputError

FER2013 = CLASS_ORDERS["fer2013"]


def order(given=None, known=(), data=FER2013):
    return class_order_of("it", given=given, known=known, data_classes=data, data_name="faces")


def test_what_nobody_says_is_assumed():
    assert order() == (FER2013, ASSUMED)
    assert order(given="fer2013") == (FER2013, GIVEN)
    assert order(known=["Anger", "Happiness"]) == (("angry", "happy"), KNOWN)
    assert order(given="angry,happy", known=["angry", "happy"]).source == KNOWN
    with pytest.raises(InputError, match="faces has no labels: name the teacher's classes with --classes"):
        order(data=())


def test_names_that_are_no_expressions_yield_to_those_given():
    assert order(given="happy,sad", known=["class a", "class b"]) == (("happy", "sad"), GIVEN)


def test_a_file_that_says_otherwise_is_believed():
    with pytest.raises(InputError, match="it names its classes angry, happy, received --classes happy,angry"):
        order(given="happy,angry", known=["angry", "happy"])


def test_alphabetical_sorts_the_names_of_the_data():
    assert parse_class_names("alphabetical", FER2013) == tuple(sorted(FER2013))
    assert order(given="alphabetical") == (tuple(sorted(FER2013)), GIVEN)
    with pytest.raises(InputError, match="sorts the names of the data, and there are none"):
        parse_class_names("alphabetical")
    with pytest.raises(InputError, match="did you mean alphabetical"):
        parse_class_names("alphabetic")


def test_the_most_certain_of_several_statements():
    assert most_certain([ASSUMED, NOT_RECORDED]) == ASSUMED
    assert most_certain([ASSUMED, GIVEN, NOT_RECORDED]) == GIVEN
    assert most_certain(["of a later version", NOT_RECORDED]) == NOT_RECORDED
