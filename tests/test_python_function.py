"""`MODULE:FUNCTION` is imported as `python -m` would, and whatever it does wrong is said in one line."""

import sys

import pytest

from distill.errors import InputError
from distill.python_function import call_function, load_function, recognise


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """A function that writes a module into the current directory and gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])

    def write(text: str) -> str:
        name = f"own_{abs(hash(request.node.name))}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


@pytest.mark.parametrize("source", ["module:function", "a.b_c:d", "_m:_f"])
def test_what_is_a_function(source):
    assert recognise(source)


@pytest.mark.parametrize("source", ["module", "a:b:c", "a/b:c", "C:\\data", "a:", ":a", "fer2013.csv", "http://x"])
def test_what_is_none(source):
    assert not recognise(source)


def test_arguments_and_results_pass(module):
    name = module("def double(value, *, plus=0):\n    return 2 * value + plus\n")
    assert call_function(f"{name}:double", 4, plus=1) == 9
    assert load_function(f"{name}:double")(3) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def make(): raise ValueError('two\\nlines')", "failed with ValueError: two"),
        ("def make(): exit('bye')", "failed with SystemExit: bye"),
        ("exit(3)", "cannot be imported, SystemExit: 3"),
        ("import no_such_package", "cannot be imported, ModuleNotFoundError"),
        ("def other(): ...", "has no function make: its functions are other"),
    ],
)
def test_what_goes_wrong_is_one_line(module, text, message):
    source = f"{module(text)}:make"
    with pytest.raises(InputError, match=message) as caught:
        call_function(source)
    assert "\n" not in str(caught.value)
    assert source.partition(":")[0] in str(caught.value)


def test_an_input_error_passes_as_it_is(module):
    name = module("from distill import InputError\ndef make(): raise InputError('mine')\n")
    with pytest.raises(InputError, match="^mine$"):
        call_function(f"{name}:make")
