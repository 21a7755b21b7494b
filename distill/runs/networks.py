"""Find a network by name or by file: the tables of `teachers` and `students`, and saved Keras models."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import keras

from distill.busy_files import cannot_read_now
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.runs.checkpoints import LAST, PREVIOUS
from distill.runs.run_directory import BEST, load_network
from distill.runs.run_record import RunRecord, read_record
from distill.runtimes.keras_file import POLICIES
from distill.scoring.network_identity import weights_sha256

Table = Mapping[str, Callable[..., keras.Model]]


def set_policy(name: str) -> None:
    """Set the numeric policy of the networks built from now on: "float32" or "mixed_bfloat16".

    Raises:
        InputError: any other name. float16 would need loss scaling, which the trainer does not do.
    """
    if name not in POLICIES:
        raise InputError(f'unknown numeric policy "{name}": choose one of {", ".join(POLICIES)}')
    keras.config.set_dtype_policy(name)


def build_network(
    table: Table,
    name: str,
    *,
    classes: int,
    image_size: int | None = None,
    weights: str | None = None,
    **options,
) -> keras.Model:
    """Build a network of a table in the numeric policy that is set.

    Args:
        table: `TEACHERS` or `STUDENTS`.
        name: a name in the table.
        classes: how many logits it must have.
        image_size: height and width of its input; None takes that of `weights`, or the published one.
        weights: a `.weights.h5` file, a `.keras` file, or the directory of a training run; None draws new
            ones.
        options: further arguments of the builder, such as `keep_prob`; None leaves its own default.

    Raises:
        InputError: unknown name (near ones are offered), an image size that the network cannot take, or
            weights that do not fit.
    """
    if name not in table:
        raise InputError(f'unknown network "{name}": {_suggestion(name, table)}')
    input_shape = None if image_size is None else (image_size, image_size)
    options = {option: value for option, value in options.items() if value is not None}
    saved = None
    if weights is not None and not str(weights).endswith(".weights.h5"):
        saved, weights = load_network(weights), None
        _check_same(saved, table, name, classes=classes, image_size=image_size)
        input_shape = saved.input_shape[1:]
    try:
        network = table[name](input_shape=input_shape, classes=classes, weights=weights, name=name, **options)
        if saved is not None:
            network.set_weights(saved.get_weights())
    except ValueError as error:
        busy = None if weights is None else cannot_read_now(error, weights)
        raise busy or InputError((str(error).strip().splitlines() or [repr(error)])[0]) from error
    return network


def begin_with(network: keras.Model, weights: str | Path, class_names: Sequence[str]) -> str:
    """Give `network` the weights of a trained one; where that learned other classes, not those of the last layer.

    Args:
        class_names: what `network` is to learn. A file that no run's record lies beside is compared by the
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
        raise InputError(f'{weights} is "{saved.name}", not "{network.name}"{difference}: name that network')
    for own, other in zip(mine, theirs, strict=True):
        own.set_weights(other.get_weights())
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
    path = Path(weights)
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
        raise InputError(f'the weights are those of "{saved.name}", not of "{name}"{difference}: name that network')
    if outputs != classes:
        raise InputError(f"the weights of {name} are for {outputs} classes, the data has {classes}: train new ones")
    if image_size not in (None, size):
        raise InputError(
            f"the weights of {name} are for images of {size}x{size}, not {image_size}x{image_size}: "
            "leave --image-size out"
        )


def _first_difference(mine: Sequence[keras.Layer], theirs: Sequence[keras.Layer]) -> str:
    """Name the first layer in which two networks differ, or return ""."""
    for own, other in zip_longest(mine, theirs):
        shapes = [layer and (layer.name, [tuple(weight.shape) for weight in layer.weights]) for layer in (own, other)]
        if shapes[0] != shapes[1]:
            said = [f"{each[0]} {each[1] or 'without weights'}" if each else "no layer" for each in shapes]
            return f" (first difference: {said[1]} where {said[0]} is expected)"
    return ""


def _suggestion(name: str, table: Table) -> str:
    near = difflib.get_close_matches(name, table, n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(table))}"
