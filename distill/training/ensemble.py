"""Several teachers for one student: their logits over the same views, as one array."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from keras import KerasTensor

from distill.data.dataset import Dataset
from distill.data.view_columns import PARAMETERS
from distill.data.view_differences import view_differences_text
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.logit_store import LogitStore, open_logits
from distill.losses.objective import FEATURES, LOGITS
from distill.refusals import check_known
from distill.scoring.online_teacher import check_outputs
from distill.training.batches import CachedOutputs

NO_TEMPERATURE = "--ensemble-mean probabilities needs a loss with a temperature: give --ensemble-mean logits"
"""Why the mean of probabilities is refused."""
_ROWS_PER_BLOCK = 4096  # what is in float64 at a time


@dataclass(frozen=True, eq=False)
class CachedTeachers:
    """The teachers of a student: their stores, and how their logits become one array.

    Raises:
        InputError: stores of other views, weights or a mean that cannot be used, or either of them for one teacher.
    """

    stores: Sequence[LogitStore]
    """At least one, all of the same views."""
    weights: tuple[float, ...] | None = None
    """Of each store, of any sum above 0; None: all the same."""
    mean: str = "logits"
    """Of what: one of `MEANS`, see `combine_logits`."""
    class_match: str = "exact"
    """How the classes of a store are joined to those of a dataset, see `LogitStore.join`."""

    def __post_init__(self):
        object.__setattr__(self, "stores", tuple(self.stores))
        if not self.stores:
            raise InputError("no teacher's logits: give at least one store")
        if len(self.stores) == 1 and (self.weights is not None or self.mean != CachedTeachers.mean):
            raise InputError(
                f"ensemble weights and their mean are for several teachers, received {self.stores[0].path} alone: "
                "give --logits A.h5 B.h5, or omit them"
            )
        _mean_named(self.mean)
        _shares(self.weights, len(self.stores))
        check_same_views(self.stores)

    @classmethod
    def of(cls, logits: "Logits") -> "CachedTeachers":
        """Return teachers as such; stores alone weigh the same, and the mean is that of their logits."""
        if isinstance(logits, CachedTeachers):
            return logits
        if isinstance(logits, (str, Path)):
            logits = open_logits(logits)
        return cls((logits,) if isinstance(logits, LogitStore) else tuple(logits))

    @property
    def view_spec(self) -> ViewSpec:
        """How the views were drawn that every teacher scored."""
        return ViewSpec.from_dict(self.stores[0].header.view_spec)

    @property
    def views(self) -> int:
        """V, the number of those views."""
        return self.stores[0].header.views

    @property
    def partner_ids(self) -> np.ndarray:
        """str [P]: the images among which the partners of mixed views were drawn."""
        return self.stores[0].sample_ids

    def join(self, dataset: Dataset, *, temperature: float | None) -> np.ndarray:
        """Return float32 [len(dataset), V, C]: the teachers' logits for `dataset`, in its order, of its classes.

        Args:
            temperature: T of the loss that these logits are for; None: it has none.

        Raises:
            InputError: a store does not fit the dataset (see `LogitStore.join`), or the mean of probabilities is
                requested without a temperature.
        """
        if temperature is None and self.mean == "probabilities":
            raise InputError(NO_TEMPERATURE)
        joined = [store.join(dataset, class_match=self.class_match) for store in self.stores]
        if len(joined) == 1:
            return joined[0]
        weights = _shares(self.weights, len(joined))
        return combine_logits(joined, weights=weights, mean=self.mean, temperature=temperature or 1.0)

    @property
    def one_temperature(self) -> bool:
        """Whether the logits are right at the temperature alone that they are combined for."""
        return self.mean == "probabilities"

    def outputs(
        self,
        dataset: Dataset,
        names: Collection[str],
        *,
        temperature: float | None,
        columns: Sequence[str] = PARAMETERS,
    ) -> CachedOutputs:
        """Return "logits" of every view of `dataset`, see `join`, and the features that are asked for.

        A feature is one teacher's, not a mean, and is read from its store batch by batch. No other is read.

        Raises:
            InputError: as `join`; no store has such a feature, or two have it.
        """
        self.check_outputs(names)
        features = {name: self._feature(name, dataset) for name in names if name.startswith(FEATURES)}
        return CachedOutputs(logits=self.join(dataset, temperature=temperature), **features)

    def check_outputs(self, names: Collection[str]) -> None:
        """Refuse what no store has.

        Args:
            names: "logits", and features as `Batch.teacher` calls them.

        Raises:
            InputError: no store has such a feature.
        """
        have = [FEATURES + name for store in self.stores for name in store.features]
        check_outputs(names, have=(LOGITS, *have), of=", ".join(store.path.name for store in self.stores))

    def specifications(self, names: Collection[str], classes: int) -> dict[str, KerasTensor]:
        """Return shapes and types of a batch of the outputs `names`, for a dataset of so many classes.

        Raises:
            InputError: as `check_outputs`.
        """
        self.check_outputs(names)
        features = {FEATURES + name: found.shape for store in self.stores for name, found in store.features.items()}
        shapes = {LOGITS: (classes,), **features}
        return {name: KerasTensor((None, *shapes[name]), "float32") for name in names}

    def _feature(self, name: str, dataset: Dataset) -> "StoredFeature":
        feature = name.removeprefix(FEATURES)
        stores = [store for store in self.stores if feature in store.features]
        if len(stores) > 1:
            paths = " and ".join(str(store.path) for store in stores)
            raise InputError(
                f"{feature} is a feature of several teachers, {paths}: name one that only one of them has"
            )
        return StoredFeature(stores[0], feature, stores[0].rows_of(dataset))

    def on_extra_data(self, name: str, logits: "Logits | None") -> "CachedTeachers":
        """Return the same teachers for extra data, weighed and averaged as here.

        Raises:
            InputError: there are no logits of it, or those of other teachers, or in another order, in which they
                would be weighed as others; or they are `CachedTeachers` with other weights or another mean.
        """
        if logits is None:
            raise InputError(f"{name} needs logits of its own, like all datasets of the run: see --extra-logits")
        own = CachedTeachers.of(logits)
        self.check_same_teachers(own, given="the stores of extra data", own="those of the first dataset")
        if isinstance(logits, CachedTeachers):
            self._check_combined_alike(own)
        return replace(self, stores=own.stores)

    def check_same_teachers(self, other: "CachedTeachers", *, given: str, own: str) -> None:
        """Refuse stores of other teachers than these, or of the same in another order.

        Args:
            given, own: what the stores of `other` are called, and these.

        Raises:
            InputError: they differ in anything but views and data.
        """
        theirs, ours = ([_computation(store) for store in each.stores] for each in (other, self))
        if theirs != ours:
            raise InputError(
                f"{given} are of other teachers, or in another order: {_named(other.stores)}; {own} are "
                f"{_named(self.stores)}: give stores of the same teachers in the same order"
            )

    def _check_combined_alike(self, other: "CachedTeachers") -> None:
        ours, theirs = (
            (_shares(each.weights, len(each.stores)).tolist(), each.mean, each.class_match) for each in (other, self)
        )
        if ours != theirs:
            raise InputError(
                f"the teachers of extra data have the weights, mean and class match {ours}, those of the first "
                f"dataset {theirs}: give them alike, or the stores alone"
            )

    def describe(self) -> dict:
        """Return JSON-able facts for a run's record: who teaches, and of several with what weight (they sum to 1)."""
        teachers = [_identity(store) for store in self.stores]
        if len(teachers) == 1:
            described = teachers[0]
        else:
            for teacher, share in zip(teachers, _shares(self.weights, len(teachers)).tolist(), strict=True):
                teacher["weight"] = share
            described = {"mean": self.mean, "teachers": teachers}
        if self.class_match != CachedTeachers.class_match:
            described["class_match"] = self.class_match
        return described


class StoredFeature:
    """A feature of some images, [N, V, ...], of which nothing is in memory.

    Args:
        rows: int [N], where the images stand in the store.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, store: LogitStore, name: str, rows: np.ndarray):
        self._store, self._name, self._rows = store, name, rows
        self.shape = (len(rows), store.header.views, *store.features[name].shape)

    def __getitem__(self, where: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Return float32 [n, ...] of images, int [n], in the views, int [n], read and checked."""
        images, views = where
        return self._store.read_feature(self._name, self._rows[images], views)


Logits = LogitStore | Sequence[LogitStore] | CachedTeachers | str | Path
"""Cached logits as a caller may give them: one store, or its path, several that weigh the same, or teachers."""


def combine_logits(
    teacher_logits: Sequence[np.ndarray],
    *,
    weights: Sequence[float] | np.ndarray | None,
    mean: str,
    temperature: float,
) -> np.ndarray:
    """Return the weighted mean of several teachers, as logits.

    "logits": sum_k w_k z_k. "probabilities": T·log(sum_k w_k softmax(z_k / T)). The softmax of these at T is the
    weighted mean of the teachers' softened probabilities, the targets of an ensemble in Hinton et al. 2015
    (https://arxiv.org/abs/1503.02531). At any other temperature it is not the mean of the probabilities there.

    Args:
        teacher_logits: float [N, V, C] of each teacher, raw, of the same samples, views and classes in one order.
        weights: of each teacher, not negative, of any sum above 0, which they are divided by; None: all the same.
        mean: one of `MEANS`.
        temperature: T > 0, which "logits" does not depend on.

    Returns:
        float32 [N, V, C], finite also where a teacher is as good as certain. Computed in float64.

    Raises:
        InputError: weights that cannot be used, or an unknown mean.
    """
    if len({logits.shape for logits in teacher_logits}) != 1:
        raise ValueError(f"teachers must agree in shape. Received: {[logits.shape for logits in teacher_logits]}")
    mean_of, shares = _mean_named(mean), _shares(weights, len(teacher_logits))
    contributing = [
        logits for logits, share in zip(teacher_logits, shares, strict=True) if share > 0
    ]  # log 0 is infinite
    combined = np.empty(teacher_logits[0].shape, np.float32)
    for start in range(0, len(combined), _ROWS_PER_BLOCK):
        rows = slice(start, start + _ROWS_PER_BLOCK)
        block = np.stack([logits[rows] for logits in contributing]).astype(np.float64)
        combined[rows] = mean_of(block, shares[shares > 0], temperature)
    return combined


def check_same_views(stores: Sequence[LogitStore]) -> None:
    """Refuse teachers that did not look at the same views.

    Raises:
        InputError: another number of views, or views drawn in another way; both values stand side by side.
    """
    first = stores[0]
    for other in stores[1:]:
        if other.header.views != first.header.views:
            raise InputError(
                f"the teachers saw different views: {first.path} holds {first.header.views}, {other.path} holds "
                f"{other.header.views}: python -m distill.teacher_logits --views N adds views to a finished store"
            )
        if changed := view_differences_text(first.view_spec, other.view_spec, "{} and {}"):
            raise InputError(
                f"the teachers saw different views, in {first.path} and {other.path}: {'; '.join(changed)}: "
                "cache one of them again with the --view of the other"
            )
        spec = ViewSpec.from_dict(first.view_spec)
        if spec.mixes and set(first.sample_ids.tolist()) != set(other.sample_ids.tolist()):
            raise InputError(
                f"the teachers saw other mixed pictures: partners are drawn among {len(first.sample_ids)} images in "
                f"{first.path}, and {other.path} has {len(other.sample_ids)} or others: cache both for the same data"
            )


def _mean_of_logits(logits: np.ndarray, shares: np.ndarray, temperature: float) -> np.ndarray:
    return np.average(logits, axis=0, weights=shares)


def _mean_of_probabilities(logits: np.ndarray, shares: np.ndarray, temperature: float) -> np.ndarray:
    softened = logits / temperature
    log_probs = softened - np.logaddexp.reduce(softened, axis=-1, keepdims=True)
    log_shares = np.log(shares).reshape(-1, 1, 1, 1)
    return temperature * np.logaddexp.reduce(log_probs + log_shares, axis=0)


# Each takes float64 [teachers, rows, V, C], shares that sum to 1 and are above 0, and T.
_MEANS = {"logits": _mean_of_logits, "probabilities": _mean_of_probabilities}
MEANS = tuple(_MEANS)


def _mean_named(name: str) -> Callable[[np.ndarray, np.ndarray, float], np.ndarray]:
    check_known(name, MEANS, what="mean of teachers")
    return _MEANS[name]


def _shares(weights: Sequence[float] | np.ndarray | None, teachers: int) -> np.ndarray:
    """Return float64 [teachers] that sum to 1."""
    weights = [1.0] * teachers if weights is None else list(weights)
    if len(weights) != teachers:
        raise InputError(f"{len(weights)} ensemble weights {weights} for {teachers} teachers: give one for each")
    total = sum(weights)
    if not (all(weight >= 0 for weight in weights) and 0 < total < float("inf")):
        raise InputError(f"ensemble weights must be 0 or more, and one of them above 0, received {weights}")
    return np.array(weights, np.float64) / total


def _computation(store: LogitStore) -> dict[str, Any]:
    """What decides the logits of a teacher but for rounding, and the order of its classes."""
    return {name: value for name, value in _identity(store).items() if name not in ("name", "policy", "class_names")}


def _named(stores: Sequence[LogitStore]) -> str:
    """Say what `_computation` compares: whose the stores are, and how these teachers were asked."""
    named = []
    for store in stores:
        header = store.header
        asked = {**header.input_format, "logits_from": header.logits_from}
        how = ", ".join(f"{name} {value}" for name, value in asked.items())
        named.append(f"{store.path} of {header.teacher_name} {header.teacher_sha256[:12]} ({how})")
    return ", ".join(named)


def _identity(store: LogitStore) -> dict[str, Any]:
    """What decides the logits of a teacher, apart from the views and the data."""
    header = store.header
    return {
        "name": header.teacher_name,
        "sha256": header.teacher_sha256,
        "policy": header.numeric_policy,
        "input_shape": list(header.teacher_input_shape),
        "input_format": header.input_format,
        "logits_from": header.logits_from,
        "class_names": list(header.class_names),
    }
