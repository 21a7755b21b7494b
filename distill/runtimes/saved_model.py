"""Networks in SavedModels of TensorFlow: folders that Keras' `export` or `tf.saved_model.save` wrote."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill.errors import InputError
from distill.files.busy_files import cannot_read_now
from distill.files.regular_files import check_regular_files
from distill.files.tensorflow_paths import check_no_pattern
from distill.refusals import reason
from distill.runtimes.graph_model import Graph, graph_model
from distill.runtimes.image_model import ImageModel
from distill.runtimes.input_format import InputFormat
from distill.runtimes.named_classes import classes_in_description
from distill.runtimes.saved_model_tensors import FrozenSignature

if TYPE_CHECKING:
    import tensorflow as tf

GRAPH = "saved_model.pb"
DESCRIPTION = "assets.extra/description.json"
LOOPS = re.compile("(Stateless)?While|NextIteration|(Lower)?For")
_SIGNATURE = "serving_default"
_MAX_BYTES = 1 << 31  # of a protocol buffer
_KINDS = ("float32", "float16", "float64", "uint8", "int8")
# Operations that reach files, other machines or Python. A network needs none of them: what restores its weights is
# no part of the functions that are called.
REACHES_OUT = re.compile(
    "File|Director|Reader|Record|Dataset|Iterator|Save|Restore|Checkpoint|Remap|ImmutableConst|Assets?$"
    "|Summary|Event|Print|Debug|Dump|Table|Vocab|FixedUnigram|Sql|L[Mm][Dd][Bb]|BigQuery|Bigtable|Gcs|Gcp"
    "|PyFunc|Socket|R[Pp][Cc]|Remote|Send([A-Z]|$)|Recv([A-Z]|$)|Host|Collective|Server|Service|Session|Heartbeat"
    "|TPU|TRT"
)


def recognise(source: str) -> bool:
    """Whether `source` is a folder with a `saved_model.pb`."""
    return (Path(source) / GRAPH).is_file()


def open_folder(source: str, input_format: InputFormat, policy: str, output_type: str) -> ImageModel:
    """Open the network in a SavedModel, by its signature "serving_default" or its only one.

    A SavedModel is a program. One whose functions have an operation that reaches files, other machines or Python
    is refused before it is loaded.

    Raises:
        InputError: TensorFlow is not installed; the folder is damaged, of TensorFlow 1, or refused; the network does
            not take one image of floats or small whole numbers, or does not give raw logits or probabilities, or not
            what `output_type` says; the input format is not for it.
    """
    folder = Path(source)
    run, freeze, dtype, batch, shape = _load(folder)
    pixel_format = input_format.resolve(shape, source=source)
    pixel_format.check_dtype(dtype, source=source)
    frozen = cache(freeze)
    graph = Graph(
        run=run,
        dtype=dtype,
        batch=batch,
        tensors=lambda: frozen().tensors,
        names=lambda: frozen().names,
        read=lambda names: frozen().read(names),
    )
    return graph_model(
        graph,
        pixel_format,
        output_type,
        name=folder.resolve().name,
        source=source,
        files={GRAPH: folder / GRAPH, **_weight_files(folder)},
        policy=policy,
        class_names=lambda classes: classes_in_description(_description(folder), count=classes),
    )


def _description(folder: Path) -> str:
    """Return what this project's export says of the network, or nothing."""
    file = folder / DESCRIPTION
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _weight_files(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.glob("variables/*")}


def _load(folder: Path):
    """Return what runs the signature, one that freezes it, its numbers, batch size and shape."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise InputError(f"{folder} is a SavedModel, which needs TensorFlow: pip install tensorflow") from error

    _check_operations(folder)
    check_no_pattern(folder)
    try:
        loaded = tf.saved_model.load(str(folder))
        signature = _only_signature(loaded.signatures, folder)
    except (tf.errors.OpError, ValueError, LookupError, OSError, RuntimeError, AttributeError, TypeError) as error:
        unknown = InputError(f"{folder} cannot be loaded as a SavedModel: {reason(error)}")
        raise cannot_read_now(error, folder) or unknown from error
    (name, spec), output = _one_input_and_output(signature, folder)

    def run(images: np.ndarray, owner=loaded) -> list[np.ndarray]:  # the signature does not keep its variables alive
        return [signature(**{name: tf.constant(images)})[output].numpy()]

    def freeze(owner=loaded) -> FrozenSignature:
        return FrozenSignature(signature, str(folder))

    shape = [None] * 4 if spec.shape.rank is None else spec.shape.as_list()
    batch, *image = shape or [None]
    return run, freeze, np.dtype(spec.dtype.as_numpy_dtype), batch, image


def _check_operations(folder: Path) -> None:
    """Check what the functions of a SavedModel do, from the file alone.

    Raises:
        InputError: the file is damaged, none of TensorFlow 2, or has an operation that reaches out.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / GRAPH
    check_regular_files(folder)
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"{path} is larger than 2 GiB, which no SavedModel is")
    try:
        saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except DecodeError as error:
        raise InputError(f"{path} is not a SavedModel that can be read: {reason(error)}") from error
    for graph in saved.meta_graphs:
        # Where there are objects, TensorFlow runs their functions alone: nothing else of the graph, no saver.
        if not graph.object_graph_def.concrete_functions:
            raise InputError(f"{folder} has no functions of TensorFlow 2: save it by Keras' export or tf.saved_model")
        for operation in _operations(graph):
            if LOOPS.fullmatch(operation):
                raise InputError(
                    f"{folder} has a loop, {operation}, which may never end: export the network without it"
                )
            if REACHES_OUT.search(operation):
                raise InputError(
                    f"{folder} has an operation {operation}, which may reach files, other machines or Python: "
                    "export the network without it"
                )


def _operations(graph) -> Iterator[str]:
    """Yield the operations of all functions that can be called, and of those that these call."""
    library = {function.signature.name: function for function in graph.graph_def.library.function}
    waiting, seen = _function_names(graph.object_graph_def), set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in library:
            continue
        seen.add(name)
        for node in library[name].node_def:
            yield node.op
            waiting.append(node.op)  # a function may be called as if it were an operation
            for value in node.attr.values():
                waiting += [value.func.name, *(each.name for each in value.list.func)]


def _function_names(objects) -> list[str]:
    """Names of all functions that any object has."""
    names = list(objects.concrete_functions)
    for node in objects.nodes:
        names += [*node.function.concrete_functions, node.bare_concrete_function.concrete_function_name]
    return names


def _only_signature(signatures, folder: Path):
    if _SIGNATURE not in signatures and len(signatures) != 1:
        names = ", ".join(signatures) or "none"
        raise InputError(f'{folder} has the signatures {names}, expected "{_SIGNATURE}" or a single one')
    return signatures[_SIGNATURE if _SIGNATURE in signatures else next(iter(signatures))]


def _one_input_and_output(signature, folder: Path) -> "tuple[tuple[str, tf.TensorSpec], str]":
    """Return name and shape of the images, and the name of the output."""
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    for side, named in (("inputs", inputs), ("outputs", outputs)):
        if len(named) != 1:
            raise InputError(f"{folder} has {len(named)} {side} ({', '.join(sorted(named))}), expected one")
    [(name, spec)] = inputs.items()
    if spec.dtype.name not in _KINDS:
        raise InputError(
            f"{folder} takes {spec.dtype.name}, expected pixels as {', '.join(_KINDS)}: export it with a float input"
        )
    return (name, spec), next(iter(outputs))
