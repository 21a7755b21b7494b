"""`LogitStore`: stored logits, joined to a dataset by sample id and content hash, or by file name."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from distill.data.class_map import merge_logits
from distill.data.dataset import Dataset
from distill.data.expressions import class_columns
from distill.errors import InputError
from distill.files.busy_files import is_there
from distill.logit_store.feature import Feature
from distill.logit_store.header import LogitHeader
from distill.logit_store.layout import COMMAND, STORE, decode_ids
from distill.logit_store.parts import MERGE, PART_FILES, gather_parts, header_of_all, parts_folder
from distill.logit_store.reading import Content, read_content, read_logits, visit_samples
from distill.logit_store.stored_features import read_features
from distill.logit_store.stored_samples import FoundSamples
from distill.refusals import check_known

CLASS_MATCHES = ("exact", "names")


@dataclass(frozen=True, eq=False)
class LogitStore:
    """The logits that a teacher gave, and what they were computed from. `open_logits` reads it."""

    path: Path
    header: LogitHeader
    contents: Sequence[Content]
    """The file, or the parts, that hold the rows in order."""

    @cached_property
    def sample_ids(self) -> np.ndarray:
        """Text [N]; read when first used, and checked again, like the other columns."""
        return decode_ids(self._column("sample_id"))

    @cached_property
    def content_hashes(self) -> np.ndarray:
        """uint8 [N, 16]: `Dataset.content_hashes` of the images that the teacher saw, or `UNKNOWN_PIXELS`."""
        return self._column("content_hash")

    @cached_property
    def labels(self) -> np.ndarray:
        """int64 [N], positions in `class_names`; -1 where there is none."""
        return self._column("label")

    @cached_property
    def logits(self) -> np.ndarray:
        """float32 [N, views, classes], raw, at temperature 1; read when first used, and checked again."""
        return self.read(np.arange(len(self)))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return float32 [len(rows), views, classes]: some of `logits`, read and checked without the others.

        Raises:
            IndexError: there is no such row.
        """
        _check_places(rows, len(self), "rows")
        return read_logits(self.contents, rows)

    @property
    def features(self) -> Mapping[str, Feature]:
        """What else of the teacher is stored, by name."""
        return {each.name: each for each in self.header.features}

    def read_feature(self, name: str, rows: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Return float32 [n, *shape]: of the feature `name`, the view `views[i]` of the row `rows[i]`, int [n] each.

        Nothing else is read, and every view of every row is checked on its own.

        Raises:
            InputError: there is no such feature; the file is damaged, or was written anew since it was opened.
            IndexError: there is no such row or view.
        """
        check_known(name, self.features, what="feature")
        _check_places(rows, len(self), "rows")
        _check_places(views, self.header.views, "views")
        number = list(self.features).index(name)
        places = [(content.extent.first_row, content.features[number]) for content in self.contents]
        return read_features(places, rows, views)

    def check_features(self) -> None:
        """Read all features and check them, little at a time.

        Raises:
            InputError: one is damaged.
        """
        for content in self.contents:
            for place in content.features:
                place.check()

    def _column(self, name: str) -> np.ndarray:
        spans: list[np.ndarray] = []
        visit_samples(self.contents, lambda rows, span: spans.append(span[name]))
        return np.concatenate(spans)

    def __len__(self) -> int:
        return sum(content.extent.rows for content in self.contents)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the logits."""
        return self.header.class_names

    @property
    def view_spec(self) -> Mapping:
        """How the views were drawn."""
        return self.header.view_spec

    @property
    def unknown_pixels(self) -> int:
        """Of how many samples `join` cannot compare the pixels: of all where logits were published without images."""
        return sum(content.unknown_pixels for content in self.contents)

    @property
    def pixels_known(self) -> bool:
        """Whether it can compare those of any."""
        return self.unknown_pixels < len(self)

    def join(self, dataset: Dataset, *, class_match: str = "exact") -> np.ndarray:
        """Return float32 [len(dataset), views, dataset.num_classes]: the logits of `dataset`, in its order.

        Labels are not compared: a corrected label leaves the image and its logits as they were.

        Args:
            class_match: "exact" takes only the classes of `dataset` in their order. "names" finds the logits of
                each class by its name, whatever the order and the spelling; classes that only the teacher knows
                are left out, as if it knew that the image shows none of them. Of a dataset with merged classes,
                the teacher's are merged, too, and found by name.

        Raises:
            InputError: other class names or another order of them, or whatever `rows_of` finds.
        """
        if dataset.class_map:
            logits = self.read(self.rows_of(dataset))
            return merge_logits(logits, self.class_names, dataset.class_names, dataset.class_map)
        columns = self._columns_of(dataset, class_match)
        logits = self.read(self.rows_of(dataset))
        return logits if columns is None else logits[:, :, columns]

    def _columns_of(self, dataset: Dataset, class_match: str) -> list[int] | None:
        """Return where the classes of `dataset` stand, or None where they stand in order."""
        if class_match not in CLASS_MATCHES:
            raise InputError(f'class-match must be {" or ".join(CLASS_MATCHES)}, received "{class_match}"')
        if tuple(dataset.class_names) == self.class_names:
            return None
        if class_match == "names":
            return class_columns(self.class_names, dataset.class_names)
        raise InputError(
            f"class names of {self.path} and {dataset.name} differ: stored {_listed(self.class_names)}, "
            f"expected {_listed(dataset.class_names)}: give data of the stored classes in that order, "
            f"match them by name (--class-match names), or write logits with {COMMAND}"
        )

    def rows_of(self, dataset: Dataset) -> np.ndarray:
        """Return int64 [len(dataset)]: the row of every sample of `dataset`.

        Samples are found by id and their pixels compared by content hash, as far as they are known; where they
        stand does not matter. Where those of no sample are known (`pixels_known`), one whose id the store does not
        have is found by its file name, the last part of an id.

        Raises:
            InputError: a sample without logits, an image that is not the one the teacher saw, or a file name
                that two samples share.
        """
        found = FoundSamples(dataset, compare_pixels=self.pixels_known)
        visit_samples(self.contents, found.look)
        rows = found.rows
        if not self.pixels_known and (rows < 0).any():
            rows = self._rows_by_file_name(rows, dataset)
        absent = dataset.ids[rows < 0].tolist()
        if absent:
            first = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
            raise InputError(
                f"{self.path} has no logits for {len(absent)} of {len(dataset)} samples of {dataset.name} "
                f"({first}): give the data that it was written for, {self.header.dataset_name}, "
                f"or write logits with {COMMAND}"
            )
        self._check_hashes(found, dataset)
        return rows

    def _rows_by_file_name(self, rows: np.ndarray, dataset: Dataset) -> np.ndarray:
        """Return `rows`, where those that are -1 are looked up by file name."""
        stored = _by_file_name(self.sample_ids, self.path)
        wanted = _by_file_name(dataset.ids, dataset.name)
        return np.array([row if row >= 0 else stored.get(name, -1) for name, row in zip(wanted, rows, strict=True)])

    def _check_hashes(self, found: FoundSamples, dataset: Dataset) -> None:
        if found.changed:
            first = min(found.changed)
            raise InputError(
                f"{len(found.changed)} of {len(dataset)} images of {dataset.name} are not those that "
                f"{self.path} was written for, the first {dataset.ids[first]}: "
                f"stored {found.changed[first].hex()}, expected {dataset.content_hashes[first].tobytes().hex()}: "
                f"give the same images, or write their logits with {COMMAND}"
            )


def open_logits(path: str | os.PathLike) -> LogitStore:
    """Open a logit store, checked against its checksums before anything is used.

    Args:
        path: the `.h5` file, or a folder that holds all its parts.

    Raises:
        InputError: `path` is missing, something else, of another format version, unfinished or damaged, or it
            holds logits that are not finite.
    """
    path = Path(path)
    if path.is_dir() and any(path.glob(PART_FILES)):
        contents = gather_parts([path])
    elif not is_there(path) and parts_folder(path).is_dir():
        raise InputError(
            f"{path} is not finished: run {COMMAND} again with the same settings to finish it, or where "
            f"all shards have ended merge them with {MERGE} {parts_folder(path)} --out {path}"
        )
    else:
        contents = [read_content(path, kind=STORE)]
    return LogitStore(path=path, header=header_of_all(contents), contents=contents)


def _check_places(places: np.ndarray, count: int, what: str) -> None:
    # What is read by its place in a file would else be that of another row.
    if len(places) and not 0 <= np.min(places) <= np.max(places) < count:
        raise IndexError(f"{what} must lie in 0..{count - 1}. Received: {np.min(places)}..{np.max(places)}")


def _by_file_name(ids: np.ndarray, where: str | os.PathLike) -> dict[str, int]:
    """Return the position of each file name, in the order of `ids`; the paths may be those of any system."""
    positions: dict[str, int] = {}
    for position, sample_id in enumerate(ids.tolist()):
        name = re.split(r"[/\\]", sample_id)[-1]
        if name in positions:
            raise InputError(
                f"{where} has two samples of the file name {name} ({ids[positions[name]]}, {sample_id}): "
                "logits of unknown pixels are joined by file name, which must be unique on both sides"
            )
        positions[name] = position
    return positions


def _listed(names: tuple[str, ...]) -> str:
    return f"[{', '.join(names)}]"
