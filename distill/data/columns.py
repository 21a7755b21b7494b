"""The columns of a dataset of many millions of images: text and names at a few bytes for each.

NumPy's text of fixed width has four bytes a letter, of the longest text, in every row. Its `StringDType` has 16 bytes
for a text of up to 15 bytes of UTF-8, and its bytes besides for a longer one.
"""

from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from distill.errors import InputError

TEXT = np.dtypes.StringDType()
"""The dtype of columns of text, with which `==`, `np.isin`, sorting and the like work as with any text of NumPy."""
_ROWS = 4096  # Python texts at a time: one for each of 10^7 images would take a gigabyte
_RANGES = 16  # in which texts are sorted, so that only few of their rows are in memory


def blocks(rows: int, size: int = _ROWS) -> Iterator[slice]:
    """Yield slices of `size` rows that cover all `rows`."""
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def text_column(texts: Sequence[str] | np.ndarray, *, what: str, of: str) -> np.ndarray:
    """Return [N] texts as a column; one that is a column already is returned as it is.

    Args:
        what: each is called in messages, such as "file name".
        of: where they come from.

    Raises:
        InputError: one is not UTF-8, so that no file can hold it.
    """
    if isinstance(texts, np.ndarray) and isinstance(texts.dtype, np.dtypes.StringDType):
        return texts
    column = np.empty(len(texts), TEXT)
    for rows in blocks(len(texts)):
        some = np.asarray(texts[rows], str)
        check_texts(some.tolist(), what=what, of=of)
        column[rows] = some
    return column


def check_texts(texts: Sequence[str], *, what: str, of: str) -> None:
    """Refuse text that no file can hold: names of files need not be in UTF-8.

    Raises:
        InputError: one is not.
    """
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        bad = next(text for text in texts if any("\ud800" <= letter <= "\udfff" for letter in text))
        raise InputError(f"{of} has the {what} {bad!a:.200}, which is not in UTF-8: rename it") from None


def count_distinct(texts: np.ndarray) -> int:
    """Return how many of `texts`, a column, differ."""
    if is_ascending(texts):  # as most layouts give them
        return len(texts)
    codes = _codes(texts)
    codes.sort()
    repeated = codes[1:][codes[1:] == codes[:-1]]
    if not len(repeated):
        return len(texts)
    # Equal codes are nearly always those of equal texts.
    doubtful = np.isin(_codes(texts), repeated)
    return len(texts) - int(doubtful.sum()) + len(set(texts[doubtful].tolist()))


def _codes(texts: np.ndarray) -> np.ndarray:
    """Return int64 [N]: a hash of each text, which sorts faster, and in half of the bytes."""
    codes = (hash(text) for rows in blocks(len(texts)) for text in texts[rows].tolist())
    return np.fromiter(codes, np.int64, len(texts))


def is_ascending(texts: np.ndarray) -> bool:
    """Whether each text is greater than the one before."""
    return all(bool((texts[rows.start + 1 : rows.stop + 1] > texts[rows]).all()) for rows in blocks(len(texts) - 1))


def rows_in_order(texts: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of `texts` in the order of the texts, as a stable sort gives them, some at a time: int64 [n]."""
    if is_ascending(texts):
        yield from (np.arange(rows.start, rows.stop) for rows in blocks(len(texts)))
        return
    sample = np.sort(texts[:: -(-len(texts) // 1024)])
    bounds = encoded(np.unique(sample[:: -(-len(sample) // _RANGES)]))
    in_range = np.empty(len(texts), np.uint8)
    for rows in blocks(len(texts)):
        in_range[rows] = np.searchsorted(bounds, _encoded(texts[rows]), side="right")
    for number in range(len(bounds) + 1):
        found = np.flatnonzero(in_range == number)
        yield found[np.argsort(texts[found], kind="stable")]


class Names:
    """A column of text with few different values: a byte for each row. It does what is usual with an array of text.

    Args:
        names: the different values.
        codes: uint8 [N], which of them each row has.
    """

    def __init__(self, names: Sequence[str], codes: np.ndarray):
        self.names, self.codes = tuple(names), codes

    @classmethod
    def of(cls, texts: "Sequence[str] | np.ndarray | Names") -> "Names":
        """Return [N] texts as such a column; one that is such a column already is returned as it is.

        Raises:
            ValueError: there are more than 255 different ones.
        """
        if isinstance(texts, Names):
            return texts
        found: dict[str, int] = {}
        codes = np.empty(len(texts), np.uint8)
        for rows in blocks(len(texts)):
            different, which = np.unique(np.asarray(texts[rows], TEXT), return_inverse=True)
            numbers = [found.setdefault(name, len(found)) for name in different.tolist()]
            if len(found) > np.iinfo(np.uint8).max:
                raise ValueError(f"more than {np.iinfo(np.uint8).max} different names, such as {different[0]}")
            codes[rows] = np.array(numbers, np.uint8)[which]
        return cls(tuple(found), codes)

    dtype, ndim = TEXT, 1

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    @property
    def size(self) -> int:
        return len(self)

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[str]:
        return (self.names[code] for code in self.codes)

    def __getitem__(self, rows: Any) -> Any:
        """Return the name of one row, or the column of some."""
        codes = self.codes[rows]
        return Names(self.names, codes) if isinstance(codes, np.ndarray) else self.names[codes]

    def __contains__(self, name: object) -> bool:
        return name in self.names and bool((self.codes == self.names.index(name)).any())

    def __eq__(self, other: object) -> Any:
        if isinstance(other, str):
            return self.codes == self.names.index(other) if other in self.names else np.zeros(len(self), bool)
        return np.asarray(self) == np.asarray(other)

    def __ne__(self, other: object) -> Any:
        return ~(self == other)

    __hash__ = None  # type: ignore[assignment]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("names become an array only as a copy")
        return np.array(self.names or ("",), TEXT if dtype is None else dtype)[self.codes]

    def replaced(self, rows: np.ndarray, name: str) -> "Names":
        """Return the column with `name` in some rows."""
        names, codes = tuple(dict.fromkeys((*self.names, name))), self.codes.copy()
        codes[rows] = names.index(name)
        return Names(names, codes)

    def isin(self, names: Sequence[str]) -> np.ndarray:
        """Return bool [N]: which rows have one of `names`."""
        return np.array([name in names for name in self.names] or [False])[self.codes]

    def astype(self, dtype: Any) -> np.ndarray:
        return self.__array__(dtype)

    def copy(self) -> np.ndarray:
        """Return an array of text, which can be written to."""
        return np.asarray(self)

    def tolist(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        return f"Names({np.asarray(self)!r})"


class PickledTexts:
    """A column of text on its way to another process, as bytes of fixed width: NumPy would pickle a list of texts.

    One column is sent once, wherever it is held.
    """

    _sent: "WeakValueDictionary[int, PickledTexts]" = WeakValueDictionary()

    def __init__(self, texts: np.ndarray):
        self.texts = texts

    @classmethod
    def of(cls, texts: np.ndarray) -> "PickledTexts":
        return cls._sent.setdefault(id(texts), cls(texts))  # which lives as long as what is kept here

    def __reduce__(self) -> tuple:
        return _received, (encoded(self.texts),)


def _received(texts: np.ndarray) -> PickledTexts:
    return PickledTexts(texts.astype(TEXT))


def encoded_bytes(texts: np.ndarray) -> int:
    """Return the length of the longest of `texts`, a column, in bytes of UTF-8; at least 1, as NumPy has it."""
    return max((_encoded(texts[rows]).dtype.itemsize for rows in blocks(len(texts))), default=1)


def encoded(texts: np.ndarray, width: int | None = None) -> np.ndarray:
    """Return a column of text as UTF-8 of fixed width, dtype S, by default that of the longest."""
    column = np.empty(len(texts), f"S{encoded_bytes(texts) if width is None else width}")
    for rows in blocks(len(texts)):
        column[rows] = _encoded(texts[rows])
    return column


def _encoded(texts: np.ndarray) -> np.ndarray:
    letters = max(1, int(np.strings.str_len(texts).max(initial=1)))
    try:
        return texts.astype(f"S{letters}")  # only ASCII, but ten times as fast
    except UnicodeEncodeError:
        return np.array([text.encode() for text in texts.tolist()])


class TextIndex:
    """Finds texts in a column.

    Args:
        texts: [N], unique.
    """

    # As bytes, which are compared faster. And NumPy's `searchsorted` reads texts of above 15 bytes from the wrong one
    # of two columns (seen in 2.4).
    def __init__(self, texts: np.ndarray):
        self._texts = encoded(texts)
        self._order = None
        if not is_ascending(texts):
            self._order = np.argsort(self._texts, kind="stable")
            self._texts = self._texts[self._order]

    def find(self, texts: np.ndarray) -> np.ndarray:
        """Return int64 [n]: where each of some texts, as UTF-8 bytes (dtype S), stands; -1 where it does not."""
        if not len(self._texts):
            return np.full(len(texts), -1)
        # Where each would stand, if it is there; behind the last there is nothing to compare it with.
        places = np.searchsorted(self._texts, texts).clip(max=len(self._texts) - 1)
        there = self._texts[places] == texts
        return np.where(there, places if self._order is None else self._order[places], -1)
