"""Classes merged and renamed, in a dataset and in the logits of teachers alike: "angry=other"."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from distill.data.dataset import UNLABELLED, Dataset
from distill.data.expressions import canonical_name
from distill.errors import InputError
from distill.refusals import alternatives

FLAG = "--class-map"


def parse_class_map(pairs: Sequence[str]) -> dict[str, str]:
    """Return {"angry": "other", ...} of ("angry=other", ...), in the project's spelling of expressions.

    Raises:
        InputError: a pair without "=", or a class that is given twice.
    """
    class_map: dict[str, str] = {}
    for pair in pairs:
        name, separator, merged = (part.strip() for part in pair.partition("="))
        if not (name and separator and merged):
            raise InputError(f'{FLAG} takes OLD=NEW, such as angry=other, received "{pair}"')
        name, merged = canonical_name(name), canonical_name(merged)
        if class_map.get(name, merged) != merged:
            raise InputError(f"{FLAG} gives {name} two names, {class_map[name]} and {merged}")
        class_map[name] = merged
    _check_can_be_repeated(class_map)
    return class_map


def _check_can_be_repeated(class_map: Mapping[str, str]) -> None:
    """Refuse a map that would change what it has made: it is applied to teachers, too, who may have learned under it.

    Raises:
        InputError: a new name is that of a class that becomes another one.
    """
    for name, new in class_map.items():
        if class_map.get(new, new) != new:
            raise InputError(
                f"{FLAG} {name}={new} {new}={class_map[new]}: {new} is both an old and a new name, give each class "
                "its last name; names that were exchanged are put right in the data (--data-classes, or its folders)"
            )


def with_class_map(dataset: Dataset, class_map: Mapping[str, str]) -> Dataset:
    """Return `dataset` with merged and renamed classes, which remembers the map for its teachers' classes.

    Classes that it does not name stay. Their order is that in which they first occur. A class that the map names and
    the data lacks may be one of a teacher's, where the data has the class that it becomes.

    Raises:
        InputError: the map names a class that is of no use, or leaves fewer than two.
    """
    if not class_map or not dataset.class_names:
        return replace(dataset, class_map=dict(class_map))
    own = [canonical_name(name) for name in dataset.class_names]
    merged = [class_map.get(name, name) for name in own]
    names = tuple(dict.fromkeys(merged))
    for name, new in class_map.items():
        if name not in own and new not in names:
            raise InputError(f'{FLAG} {name}={new}: {dataset.name} has no class "{name}": {alternatives(name, own)}')
    if len(names) < 2:
        raise InputError(f"{FLAG} leaves the class {names[0]} alone: a network needs two classes or more")
    columns = np.array([names.index(name) for name in merged])
    labels = columns[dataset.labels]
    probs = None
    if dataset.label_probs is not None:
        probs = np.zeros((len(dataset), len(names)), np.float32)
        np.add.at(probs.T, columns, dataset.label_probs.T)
        # Classes that were behind alone may be ahead together; of two that are even the label stays.
        of_label = probs[np.arange(len(dataset)), labels]
        labels = np.where(of_label < probs.max(1), probs.argmax(1), labels)
    labels = np.where(dataset.labels == UNLABELLED, UNLABELLED, labels)
    return replace(dataset, class_names=names, labels=labels, label_probs=probs, class_map=dict(class_map))


def merge_logits(
    logits: np.ndarray, class_names: Sequence[str], wanted: Sequence[str], class_map: Mapping[str, str]
) -> np.ndarray:
    """Return the logits of merged classes: probabilities add up, log sum exp.

    Classes that are not wanted are left out, as if the teacher knew that the image shows none of them.

    Args:
        logits: float32 [..., K] of `class_names`.
        wanted: C names of merged classes, in the order of the result.

    Returns:
        float32 [..., C].

    Raises:
        InputError: no class becomes one that is wanted.
    """
    merged = [class_map.get(canonical_name(name), canonical_name(name)) for name in class_names]
    members = [[at for at, name in enumerate(merged) if name == canonical_name(each)] for each in wanted]
    absent = [name for name, found in zip(wanted, members, strict=True) if not found]
    if absent:
        raise InputError(
            f"no {', '.join(absent)} among the classes {', '.join(class_names)}: say with {FLAG} which of them "
            "become it, such as angry=other"
        )
    columns = [np.logaddexp.reduce(logits[..., found], axis=-1) for found in members]
    return np.stack(columns, axis=-1).astype(np.float32, copy=False)
