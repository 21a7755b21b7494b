"""What can be evaluated, a run, an export or an external network, through one interface, with its costs."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from distill.data.class_order import KNOWN
from distill.data.dataset import Dataset
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.evaluation.open_network import OpenedNetwork, is_foreign, open_network
from distill.exporting.comparing import size_of
from distill.exporting.graph import probabilities_network
from distill.exporting.litert import FLOAT32, litert_flatbuffer
from distill.files.home import expanded
from distill.prediction import litert_file, onnx_student
from distill.prediction.exported_model import ExportedModel, is_exported
from distill.prediction.latency import face_latency
from distill.prediction.litert_file import LiteRTFile
from distill.prediction.onnx_student import ONNXStudent
from distill.reports.diagnosis import diagnose, warnings_of
from distill.reports.network_costs import multiply_adds
from distill.runs.networks import recorded_run, recorded_views
from distill.runs.run_directory import BEST
from distill.runtimes import keras_file
from distill.runtimes.foreign_network import ForeignNetwork
from distill.runtimes.image_model import ImageModel
from distill.scoring.teacher_check import check_teacher

_RUNTIMES: dict[str, tuple[str, type[LiteRTFile | ONNXStudent]]] = {
    litert_file.SUFFIX: ("LiteRT", LiteRTFile),
    onnx_student.SUFFIX: ("ONNX", ONNXStudent),
}
"""Suffix -> name of what runs such a file, and how."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluatedModel:
    """A network to evaluate."""

    name: str
    """Of the run's folder or of the file, unique among those that are evaluated together."""
    given: str
    """The path as the user gave it."""
    file: Path
    """Where its weights lie."""
    kind: str
    """"Keras" with the precision that it computes in (of a run: as it was trained), "LiteRT" or "ONNX" with the
    precision of an exported file's weights, "other"."""
    network: str
    """Name of the network."""
    model: ImageModel
    """What gives the logits, of its `class_names`, and says over which copies of an image they are averaged."""
    view_spec: ViewSpec
    """Of its training. An exported file does not record it and is evaluated on the untouched images."""
    costs: dict[str, Any]
    """`parameters`, `bytes` and, for one copy of an image, `multiply_adds`; None where they are not known."""
    runner: Callable[[], Callable[[np.ndarray], np.ndarray]]
    """Makes a function from float32 pixels [1, h, w, c] to probabilities [1, C], or what an external file
    gives in their place, on one thread."""

    def describe(self) -> dict[str, Any]:
        """Return JSON-able facts: what it is, the views and their copies that evaluate it, and what it costs."""
        multiply_adds = self.costs["multiply_adds"]
        return {
            "name": self.name,
            "model": self.given,
            "network": self.network,
            "kind": self.kind,
            "input_shape": list(self.model.input_shape),
            "views": len(self.view_spec.evaluation_views),
            "averages": self.model.averages,
            "class_order": self.model.class_order,
            **self.costs,
            "multiply_adds": None if multiply_adds is None else multiply_adds * self.model.copies,
        }

    def check(self, logits: np.ndarray, dataset: Dataset) -> dict[str, Any]:
        """Return whether classes and pixels of an external network fit the labels, JSON-able.

        Args:
            logits: that `model` gave for `dataset`.

        Returns:
            `diagnosis`, what `Diagnosis.to_dict` holds, or None of a network whose classes are known; `warnings`,
            what to report to the user.
        """
        if self.model.class_order == KNOWN:
            return {"diagnosis": None, "warnings": []}
        names = self.model.class_names
        found = diagnose(logits, dataset.labels_among(names), names)
        check = check_teacher(self.model, dataset)
        warnings = check.warnings() if check.better_input else warnings_of(found)
        return {"diagnosis": found.to_dict(), "warnings": warnings}

    def speed(self, seconds: float) -> dict[str, Any]:
        """Return `latency` of one image on one thread through LiteRT (a file for another runtime: through that).

        Where logits are averaged over copies of an image, it is that of all of them, one after the other.

        Args:
            seconds: how long the call is repeated; 0 measures nothing.

        Returns:
            `latency`, `p50_ms`, `p99_ms` and `frames_per_second`, or None; `latency_unknown`, why it is None.
        """
        if seconds == 0:
            return {"latency": None, "latency_unknown": "it was not measured"}
        try:
            run = self.runner()
        except InputError as error:
            return {"latency": None, "latency_unknown": str(error)}
        copies = range(self.model.copies)
        measured = face_latency(lambda pixels: [run(pixels) for _ in copies], self.model.input_shape, seconds=seconds)
        return {"latency": asdict(measured), "latency_unknown": None}


def open_evaluated(
    models: Sequence[str], class_names: Sequence[str], *, foreign: ForeignNetwork | None = None
) -> list[EvaluatedModel]:
    """Open the networks to evaluate.

    Args:
        models: at least one: a run's directory or its `.keras` file, an exported file or the folder of an export, or
            an external network.
        class_names: of the data, in its order.
        foreign: the description of external ones.

    Raises:
        InputError: two are the same file; one cannot be opened, or has other classes; something is said of external
            networks, and there are none.
    """
    foreign = foreign or ForeignNetwork()
    if not any(map(is_foreign, models)):
        foreign.refuse("describes external networks, and there is none among the models: omit it")
    opened: list[EvaluatedModel] = []
    for given in models:
        said = foreign if is_foreign(given) else ForeignNetwork()  # what is said is of the others
        network = open_network(given, class_names, name_of_classes="the data", foreign=said)
        model = _evaluated(given, network)
        same = next((each for each in opened if each.file == model.file), None)
        if same is not None:
            raise InputError(f"{same.given} and {given} are the same model: name it once")
        opened.append(model)
    names = unique_names([_own_name(each) for each in opened])
    return [replace(each, name=name) for each, name in zip(opened, names, strict=True)]


def unique_names(names: Sequence[str]) -> list[str]:
    """Return `names`; a number is added to those that stood before, also in other letter case."""
    unique: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate.casefold() in map(str.casefold, unique):
            number += 1
            candidate = f"{name}-{number}"
        unique.append(candidate)
    return unique


def _own_name(model: EvaluatedModel) -> str:
    if is_exported(model.given):
        return model.file.name
    if is_foreign(model.given):
        return model.file.stem.replace(":", ".")  # of a Python function: names of files are made of it
    return model.file.parent.name if recorded_run(model.given) is not None else model.file.stem


def _evaluated(given: str, opened: OpenedNetwork) -> EvaluatedModel:
    if opened.exported is not None:
        own = _of_export(opened.exported)
    elif opened.trained is not None:
        own = _of_run(given, opened.model)
    else:
        own = _of_foreign(given, opened.model)
    common = {"name": "", "given": given, "model": opened.model}
    of_any: dict[str, Any] = common | {"view_spec": ViewSpec()}
    return EvaluatedModel(**of_any | own)


def _of_foreign(given: str, model: ImageModel) -> dict[str, Any]:
    path, network = expanded(given), model.network
    parameters = None if network is None else network.count_params()
    return {
        "file": path.resolve(),
        "kind": _kind_of_foreign(path, model),
        "network": model.name if network is None else network.name,
        "costs": {
            "parameters": parameters,
            "bytes": (size_of(path) or None) if parameters is None else 4 * parameters,
            "multiply_adds": None if network is None else _multiply_adds(network),
        },
        "runner": lambda: _file(path, model) if path.suffix in _RUNTIMES else _litert(_keras_network(model)),
    }


def _kind_of_foreign(path: Path, model: ImageModel) -> str:
    if path.suffix in keras_file.SUFFIXES:
        return _keras_kind(model)
    return _RUNTIMES[path.suffix][0] if path.suffix in _RUNTIMES else "other"


def _file(path: Path, model: ImageModel) -> Callable[[np.ndarray], np.ndarray]:
    """Return the network in an external file, to measure its time: pixels are given as they are."""
    file = _RUNTIMES[path.suffix][1](path.read_bytes(), source=str(path))
    height, width, channels = model.input_shape
    if file.takes(model.input_shape):
        return file
    if file.takes((channels, height, width)):
        return lambda pixels: file(pixels.transpose(0, 3, 1, 2))
    raise InputError(f"{path} takes no float32 pixels [1, {height}, {width}, {channels}]")


def _keras_network(model: ImageModel) -> keras.Model:
    if model.network is None:
        raise InputError(f"{model.name} is not a graph of Keras layers, which LiteRT would need")
    return model.network


def _keras_kind(model: ImageModel) -> str:
    return f"Keras {model.numeric_policy}"


def _of_run(given: str, model: ImageModel) -> dict[str, Any]:
    path, network = expanded(given), _keras_network(model)
    parameters = network.count_params()
    return {
        "file": (path / BEST if path.is_dir() else path).resolve(),
        "kind": _keras_kind(model),
        "network": network.name,
        "view_spec": recorded_views(given),
        "costs": {"parameters": parameters, "bytes": 4 * parameters, "multiply_adds": _multiply_adds(network)},
        "runner": lambda: _litert(network),
    }


def _multiply_adds(network: keras.Model) -> int | None:
    try:
        return multiply_adds(network)
    except InputError:  # the multiply-adds of a kind of layer are not known
        return None


def _litert(network: keras.Model) -> LiteRTFile:
    return LiteRTFile(litert_flatbuffer(probabilities_network(network), FLOAT32), source=network.name)


def _of_export(exported: ExportedModel) -> dict[str, Any]:
    return {
        "file": exported.path.resolve(),
        "kind": f"{_RUNTIMES[exported.path.suffix][0]} {exported.description.precision}",
        "network": exported.description.name,
        "costs": {"parameters": None, "bytes": exported.path.stat().st_size, "multiply_adds": None},
        "runner": lambda: exported.run,
    }
