"""The samples of stores, read many at a time: taken, compared with those that are expected, or looked up."""

from collections.abc import Sequence

import numpy as np

from distill.data.columns import TextIndex
from distill.data.dataset import Dataset
from distill.logit_store.layout import Columns, decode_ids
from distill.logit_store.reading import Content, visit_samples
from distill.logit_store.samples import SAMPLE_COLUMNS, Samples, are_known, sample_differences


def read_samples(contents: Sequence[Content], *, classes: int) -> Samples:
    """Return the samples of files of one store, in the order of their rows.

    Raises:
        DamagedError, InputError: as `visit_samples`.
    """
    ids, hashes, labels = ([], [], [])

    def keep(_: slice, span: Columns) -> None:
        ids.append(decode_ids(span["sample_id"]))
        hashes.append(span["content_hash"])
        labels.append(span["label"])

    visit_samples(contents, keep)
    return Samples(np.concatenate(ids), np.concatenate(hashes), np.concatenate(labels), classes=classes)


def stored_differences(stored: Content, expected: Samples) -> list[str]:
    """Return a text where the samples of a store differ from the expected ones, in whatever order: how many, or one.

    Raises:
        DamagedError, InputError: as `visit_samples`.
    """
    if stored.extent.rows != len(expected):
        return [f"samples: stored {stored.extent.rows}, expected {len(expected)}"]
    index, found = TextIndex(expected.ids), np.zeros(len(expected), bool)
    unknown: list[str] = []
    others: dict[str, str] = {}

    def compare(_: slice, span: Columns) -> None:
        places = index.find(span["sample_id"])
        known = places >= 0
        unknown.extend(decode_ids(span["sample_id"][~known][:1]).tolist())
        found[places[known]] = True
        span = {name: column[known] for name, column in span.items()}
        for text in sample_differences(span, expected.columns(places[known])):
            others.setdefault(text.partition(":")[0], text)

    visit_samples([stored], compare)
    if not found.all():
        absent = expected.ids[int(np.argmin(found))]
        return [f"sample_id: stored {unknown[0] if unknown else 'one of them twice'}, expected {absent}"]
    return [others[name] for name in SAMPLE_COLUMNS if name in others][:1]


class FoundSamples:
    """Where the samples of a dataset stand in a store, as far as its samples have been looked at."""

    def __init__(self, dataset: Dataset, *, compare_pixels: bool):
        self._index = TextIndex(dataset.ids)
        self._hashes = dataset.content_hashes if compare_pixels else None  # not in `look`, where Ctrl-C has to wait
        self.rows = np.full(len(dataset), -1)
        """int64 [N]: -1 where it is not among them."""
        self.changed: dict[int, bytes] = {}
        """The stored hashes, where known, of images that are others now, by their position in the dataset."""

    def look(self, rows: slice, span: Columns) -> None:
        """Look at what stands in some rows of the store."""
        places = self._index.find(span["sample_id"])
        new = np.flatnonzero(places >= 0)
        new = new[self.rows[places[new]] < 0][::-1]  # of two with one id, which nothing here writes, the first counts
        places = places[new]
        self.rows[places] = rows.start + new
        if self._hashes is not None:
            stored = span["content_hash"][new]
            changed = are_known(stored) & (stored != self._hashes[places]).any(1)
            for row in np.flatnonzero(changed).tolist():
                self.changed[int(places[row])] = stored[row].tobytes()
