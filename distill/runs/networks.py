"""Find a network by name or by file: the tables of `teachers` and `students`, and saved Keras models."""

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from itertools import zip_longest
from pathlib import Path
from typing import Any

import keras

from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.files.busy_files import cannot_read_now
from distill.files.home import expanded
from distill.refusals import alternatives, check_known, reason
from distill.runs.checkpoints import LAST, PREVIOUS
from distill.runs.run_directory import BEST, load_network
from distill.runs.run_record import RunRecord, read_record
from distill.runtimes.keras_file import POLICIES
from distill.runtimes.keras_graph import with_float32_head
from distill.runtimes.safe_names import give_safe_names
from distill.runtimes.weights import set_weights
from distill.scoring.network_identity import check_raw_logits, weights_sha256

Builder = Callable[..., keras.Model]
Table = Mapping[str, Builder]


def build_network(
    table: Table,
    name: str,
    *,
    classes: int,
    image_size: int | None = None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
    policy: str = "float32",
) -> keras.Model:
    """Build a network of a table. Its builder is called with what is given here, and nothing else.

    Args:
        table: such as `TEACHERS` or `STUDENTS`: name -> a function that returns a `keras.Model`.
        name: a name in the table.
        classes: how many logits it must have. A builder that takes no `classes` has its own number of them.
        image_size: height and width of its input, given as `input_shape`; None takes that of `weights`, or the
            builder's own.
        weights: a `.weights.h5` file, a `.keras` file, or the directory of a training run; None draws new ones.
        options: further arguments of the builder, such as `keep_prob`.
        policy: "float32", or "mixed_bfloat16": its weights and logits are float32 all the same.

    Raises:
        InputError: unknown name or option (near ones are offered), what the builder refuses, such as an image size
            that the network cannot take, or weights that do not fit.
    """
    check_known(name, table, what="network")
    check_known(policy, POLICIES, what="numeric policy")
    arguments = _arguments(table[name], name, classes=classes, image_size=image_size, options=options or {})
    saved = None
    if weights is not None and str(weights).endswith(".weights.h5"):
        arguments["weights"] = weights
    elif weights is not None:
        saved = load_network(weights)
        _check_same(saved, table, name, classes=classes, image_size=image_size)
        arguments["input_shape"] = saved.input_shape[1:]
    try:
        network = _built(table[name], name, arguments, policy)
        if saved is not None:
            set_weights(network, saved.get_weights())
    except InputError:
        raise
    except Exception as error:  # a builder may be anybody's
        busy = None if weights is None else cannot_read_now(error, weights)
        given = "".join(f" with {option}={value!r}" for option, value in (options or {}).items())
        said = reason(error)
        raise busy or InputError(said if name in said else f"{name} cannot be built{given}: {said}") from error
    return network


def _arguments(
    builder: Builder, name: str, *, classes: int, image_size: int | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what to call `builder` with."""
    parameters = signature(builder).parameters
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    known = [each for each in parameters if each != "classes"]
    for option in options:
        if option == "classes":
            raise InputError(f"the data says how many classes {name} must have: omit the option classes")
        if option not in known and not takes_all:
            hint = alternatives(option, known) if known else "it takes none"
            raise InputError(f'{name} has no option "{option}": {hint}')
    arguments = dict(options)
    if "classes" in parameters or takes_all:
        arguments["classes"] = classes
    if image_size is None:
        return arguments
    if "input_shape" in options:
        raise InputError("--image-size and the option input_shape say the same: give one of them")
    if "input_shape" not in parameters and not takes_all:
        raise InputError(f"{name} takes no input_shape, so its image size is its own: omit --image-size")
    return arguments | {"input_shape": (image_size, image_size)}


def _built(builder: Builder, name: str, arguments: Mapping[str, Any], policy: str) -> keras.Model:
    """Call `builder` while `policy` is that of every new layer; logits are float32 all the same."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        network = builder(**arguments)
    finally:
        keras.config.set_dtype_policy(before)
    if not isinstance(network, keras.Model):
        raise InputError(f"{name} returned {type(network).__name__}, expected a network, a keras.Model")
    check_raw_logits(network)
    give_safe_names(network)
    return network if policy == "float32" else with_float32_head(network)


def begin_with(network: keras.Model, weights: str | Path, class_names: Sequence[str]) -> str:
    """Give `network` the weights of a trained one; where that learned other classes, not those of the last layer.

    Args:
        class_names: what `network` is to learn. A file without a run's record next to it is compared by the
            number of classes alone.

    Returns:
        The sha256 over the weights of the trained network, for a run's record.

    Raises:
        InputError: the weights are of another network.
    """
    saved, record = load_network(weights), recorded_run(weights)
    same_classes = network.output_shape == saved.output_shape
    if record is not None:
        same_classes = record.data.class_names == tuple(class_names)
    last = None if same_classes else -1
    mine, theirs = network.layers[:last], saved.layers[:last]
    difference = _first_difference(mine, theirs)
    if difference or saved.name != network.name:
        raise InputError(f'{weights} is "{saved.name}", not "{network.name}"{difference}: give its name instead')
    for own, other in zip(mine, theirs, strict=True):
        if isinstance(own, keras.layers.Rescaling) and (own.scale, own.offset) != (other.scale, other.offset):
            raise InputError(
                f"{weights} scales pixels by {other.scale:g}, this {network.name} by {own.scale:g}: build it with "
                "the same options"
            )
        set_weights(own, other.get_weights())
    return weights_sha256(saved)


def check_class_names(weights: str | Path, class_names: Sequence[str]) -> None:
    """Check that a network was trained on `class_names`, in their order.

    Only a run says so: for weights that lie in no run's directory nothing is checked.

    Raises:
        InputError: the run that the weights come from had other classes or another order.
    """
    record = recorded_run(weights)
    if record is not None and record.data.class_names != tuple(class_names):
        raise InputError(
            f"{weights} was trained on the classes {', '.join(record.data.class_names)}, expected "
            f"{', '.join(class_names)}: give data or weights of the same classes in the same order"
        )


def recorded_run(weights: str | Path) -> RunRecord | None:
    """Return the record of the run that `weights`, a run's directory or a file in it, come from."""
    path = expanded(weights)
    if path.is_dir():
        return read_record(path)
    return read_record(path.parent) if path.name in (BEST, LAST, PREVIOUS) else None


def recorded_views(weights: str | Path) -> ViewSpec:
    """Return the views to evaluate `weights` on: those of the run that they come from, or the untouched image."""
    record = recorded_run(weights)
    return ViewSpec() if record is None else ViewSpec.for_evaluation(record.views.spec)


def _check_same(saved: keras.Model, table: Table, name: str, *, classes: int, image_size: int | None) -> None:
    size, outputs = saved.input_shape[1], saved.output_shape[-1]
    if saved.name != name:
        difference = _first_difference(table[name](classes=classes).layers, saved.layers)
        raise InputError(
            f'the weights are those of "{saved.name}", not of "{name}"{difference}: give its name instead'
        )
    if outputs != classes:
        raise InputError(f"the weights of {name} are for {outputs} classes, the data has {classes}: train new ones")
    if image_size not in (None, size):
        raise InputError(
            f"the weights of {name} are for images of {size}x{size}, not {image_size}x{image_size}: omit --image-size"
        )


def _first_difference(mine: Sequence[keras.Layer], theirs: Sequence[keras.Layer]) -> str:
    """Name the first layer in which two networks differ, or return ""."""
    for own, other in zip_longest(mine, theirs):
        shapes = [layer and (layer.name, [tuple(weight.shape) for weight in layer.weights]) for layer in (own, other)]
        if shapes[0] != shapes[1]:
            said = [f"{each[0]} {each[1] or 'without weights'}" if each else "no layer" for each in shapes]
            return f" (first difference: {said[1]} where {said[0]} is expected)"
    return ""
