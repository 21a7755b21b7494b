"""Bring in a published MicroExpNet: `python -m distill.import_checkpoint --checkpoint FOLDER --out student.keras`."""

import os
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from distill.command_line.stage import run_stage
from distill.data.expressions import CLASS_ORDERS
from distill.errors import InputError
from distill.files.busy_files import cannot_read_now
from distill.files.tensorflow_paths import check_no_pattern
from distill.files.whole_files import atomic_file
from distill.refusals import reason

if TYPE_CHECKING:
    import keras
    import numpy as np

VARIABLES = ("wc1", "bc1", "wc2", "bc2", "wfc", "bfc", "wo", "bo")
"""Names in the original graph, in the order of the network's weights: two convolutions, two dense layers."""
CLASS_NAMES = CLASS_ORDERS["microexpnet"]

_EXPECTED = "expected the folder of one checkpoint, its .index file, or its path without that suffix"
_RANKS = (4, 1, 4, 1, 2, 1, 2, 1)


@dataclass(frozen=True, kw_only=True)
class ImportCheckpointSettings:
    """Turn a published TensorFlow checkpoint of MicroExpNet into a .keras file of raw logits."""

    checkpoint: str
    """The folder of one checkpoint, its .index file, or its path without that suffix."""
    out: str
    """The .keras file to write."""
    student: str = "microexpnet"
    """Name of the checkpoint's network: "microexpnet" (2019) or "microexpnet_2017"."""


def import_checkpoint(settings: ImportCheckpointSettings) -> None:
    """Write the .keras file that `settings` describe, and say what it holds."""
    out = Path(settings.out)
    if out.suffix != ".keras":
        raise InputError(f"--out {out} must end in .keras, the format of a whole network")
    if out.is_dir():
        raise InputError(f"--out {out} is a folder: name a .keras file in it")
    network = network_from_checkpoint(settings.checkpoint, settings.student)
    with atomic_file(out) as unfinished:
        network.save(unfinished)
    height, width, channels = network.input_shape[1:]
    print(f"{out}: {network.name}, {network.count_params():,} parameters, pixels 0..255, {height}x{width}x{channels}")
    print(f"classes: {', '.join(CLASS_NAMES)}")


def network_from_checkpoint(checkpoint: str | os.PathLike, student: str = "microexpnet") -> "keras.Model":
    """Return a network of `STUDENTS` with the weights of a TensorFlow checkpoint.

    Two networks may have weights of the same shapes and yet stride and pool differently (MicroExpNet of 2017
    and its candidate p1), so that only the one who trained the checkpoint knows its `student`.

    Args:
        checkpoint: the folder of exactly one checkpoint, its `.index` file, or its path without that suffix.
        student: a network of two convolutions and two dense layers.

    Returns:
        The network at its published shape: pixels 0..255 in, unscaled; one raw logit for each of `CLASS_NAMES`.

    Raises:
        InputError: an unknown student, or one of other layers; a checkpoint that is missing, damaged, of another
            network, or at a path that TensorFlow takes for a pattern.
    """
    from distill.runs.networks import build_network
    from students import STUDENTS

    network = build_network(STUDENTS, student, classes=len(CLASS_NAMES))
    if tuple(len(weight.shape) for weight in network.weights) != _RANKS:
        raise InputError(f'"{student}" is not built of {", ".join(VARIABLES)}: name a MicroExpNet as --student')
    network.set_weights(_read_weights(_prefix(Path(checkpoint)), network))
    return network


def _prefix(path: Path) -> Path:
    """The path that a checkpoint's files have in common."""
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        if len(found) != 1:
            names = ", ".join(each.stem for each in found) or "none"
            raise InputError(f"{path} holds {len(found)} checkpoints ({names}): {_EXPECTED}")
        path = found[0]
    prefix = path.with_suffix("") if path.suffix == ".index" else path
    if not Path(f"{prefix}.index").is_file():
        raise InputError(f"there is no checkpoint at {path}: {_EXPECTED}")
    check_no_pattern(prefix)
    return prefix


def _read_weights(prefix: Path, network: "keras.Model") -> "list[np.ndarray]":
    """Return the arrays of `VARIABLES`, of the shapes of the weights of `network`."""
    import numpy as np
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        _check_variables(reader, network, prefix)
        # The optimizer's slots too: only reading them shows that a file is cut off after the weights.
        arrays = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    # The reader raises IndexError where a file is shorter than its index says.
    except (tf.errors.OpError, ValueError, LookupError, RuntimeError) as error:
        damaged = InputError(f"checkpoint {prefix} is damaged, or lacks a file ({reason(error)}): copy it anew")
        files = prefix.parent.glob(f"{escape(prefix.name)}.*")
        raise cannot_read_now(error, prefix, *files) or damaged from error
    if not all(np.isfinite(arrays[name]).all() for name in VARIABLES):
        raise InputError(f"checkpoint {prefix} holds weights that are NaN or infinite: its training diverged")
    return [arrays[name] for name in VARIABLES]


def _check_variables(reader, network: "keras.Model", prefix: Path) -> None:
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    for name, weight in zip(VARIABLES, network.weights, strict=True):
        expected = f"float32 {list(weight.shape)}"
        if name not in shapes:
            held = ", ".join(sorted(shapes)[:8])
            raise InputError(f"checkpoint {prefix} has no variable {name}, expected {expected}: it holds {held}, ...")
        stored = f"{dtypes[name].name} {shapes[name]}"
        if stored != expected:
            raise InputError(
                f"checkpoint {prefix} is not of {network.name}: {name} is {stored}, expected {expected}: "
                "name its network with --student"
            )


def main() -> None:
    run_stage(import_checkpoint, ImportCheckpointSettings, begins_anew=True)


if __name__ == "__main__":
    main()
